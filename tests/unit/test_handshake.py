"""Handshake XX on the wire, byte by byte: cut, split, flipped, dripped, of the wrong length.

Invariant: whatever becomes of a message, the side that reads a wrong one never gets ready, its link
ends once, at the latest at the total deadline, and no memory stays with it.
"""

from __future__ import annotations

import pytest

from dp2p.errors import TransportError
from dp2p.transport import EventKind, Known, LinkState, Node, NodeConfig, Status
from wire import CAPACITY, SEED_A, Pair, Side

MESSAGES = [1, 2, 3]
CONFIG = NodeConfig(handshake_ms=10_000)
FIRST_FIXED = 32 + 3  # ephemeral key, masked header
FIRST_REST_MAX = 768
FIRST_REST_OURS = range(96, 608)
FIXED = 32 + 19 + 2  # key, address, length of the hello
REST_MAX = FIXED + 32_000 + (48 + 255) + 48 + 16  # hello, padding, static key, tag


def feed(side: Side, data: bytes, now: int) -> bool:
    """Whether the side takes it; False when that ended the link."""
    side.inbox += data
    chunk = bytearray(side.inbox)
    try:
        used = side.node.receive(side.link, chunk, now)
    except TransportError:
        side.inbox.clear()
        return False
    del side.inbox[:used]
    return True


def assert_gone(side: Side) -> None:
    """Never ready; the link has ended, exactly once, and left nothing."""
    side.gather()
    assert not side.of(EventKind.READY)
    assert len(side.of(EventKind.DOWN)) == 1
    stats = side.node.stats()
    assert (stats["links"], stats["handshakes_pending"], stats["buffer_bytes"]) == (0, 0, 0)


def expire(pair: Pair, side: Side) -> None:
    """Past the total deadline, if the link is still there."""
    side.gather()
    side.node.tick(pair.now + CONFIG.handshake_ms)


@pytest.mark.parametrize("number", MESSAGES)
def test_split_at_every_byte(number: int) -> None:
    _, whole = Pair().message(number)
    for at in range(len(whole) + 1):
        pair = Pair()
        side, data = pair.message(number)
        assert feed(side, data[:at], pair.now)
        assert feed(side, data[at:], pair.now)
        pair.run()
        assert [len(one.of(EventKind.READY)) for one in (pair.a, pair.b)] == [1, 1]


def test_one_byte_at_a_time() -> None:
    pair = Pair([1]).open()
    assert [one.node.link(one.link).state for one in (pair.a, pair.b)] == [LinkState.OPEN] * 2


@pytest.mark.parametrize("number", MESSAGES)
def test_cut_short_at_every_byte(number: int) -> None:
    """The stream ends, or nothing more comes until the deadline."""
    _, whole = Pair(config=CONFIG).message(number)
    for at in range(len(whole)):
        pair = Pair(config=CONFIG)
        side, data = pair.message(number)
        assert feed(side, data[:at], pair.now)
        if at % 2:
            side.node.end_link(side.link)
        else:
            expire(pair, side)
        assert_gone(side)


@pytest.mark.parametrize("number", MESSAGES)
def test_a_flipped_bit_in_every_byte(number: int) -> None:
    """Message 1 is not authenticated by itself: there the initiator notices, by the answer."""
    _, whole = Pair(config=CONFIG).message(number)
    for at in range(len(whole)):
        pair = Pair(config=CONFIG)
        side, data = pair.message(number)
        wrong = bytearray(data)
        wrong[at] ^= 1 << at % 8
        feed(side, bytes(wrong), pair.now)
        pair.collapse()
        victim = pair.a if number == 1 else side
        for one in (pair.a, pair.b):
            expire(pair, one)
        assert_gone(victim)
        for one in (pair.a, pair.b):
            one.gather()
            assert not [event for event in one.events if event.kind == EventKind.CONTROL]


@pytest.mark.parametrize("number", [1, 2])
def test_an_ephemeral_key_of_low_order(number: int) -> None:
    """Zeros and ones as public keys: their DH result is known to everybody."""
    for key in (bytes(32), b"\1" + bytes(31)):
        pair = Pair(config=CONFIG)
        side, data = pair.message(number)
        feed(side, key + data[32:], pair.now)
        pair.collapse()
        for one in (pair.a, pair.b):
            expire(pair, one)
            assert_gone(one)


@pytest.mark.parametrize("number", MESSAGES)
def test_a_byte_a_second(number: int) -> None:
    """The deadline is for all of the handshake; bytes that keep coming do not move it."""
    pair = Pair(config=CONFIG)
    side, data = pair.message(number)
    began, now = pair.now, pair.now
    for byte in data:
        now += 1000
        side.node.tick(now)
        if not feed(side, bytes([byte]), now):
            break
        side.gather()
        if side.of(EventKind.DOWN):
            break
    assert now - began == CONFIG.handshake_ms
    assert side.of(EventKind.DOWN)[0].status == Status.TIMEOUT
    assert_gone(side)


def test_a_link_that_the_peer_never_admits() -> None:
    """Ready is not open: the same deadline holds until both sides have said so."""
    pair = Pair(config=CONFIG)
    pair.run()
    pair.a.node.admit(pair.a.link, b"{}")
    pair.collapse()
    for side in (pair.a, pair.b):
        assert side.node.tick(pair.now + CONFIG.handshake_ms - 1) == pair.now + 10_000
        assert not side.of(EventKind.DOWN)
        side.node.tick(pair.now + CONFIG.handshake_ms)
        side.gather()
        assert [event.status for event in side.of(EventKind.DOWN)] == [Status.TIMEOUT]


# --- length limits: message, length that the header claims, whether it is refused at once ---

LENGTHS = [
    (1, FIRST_REST_MAX, False),
    (1, FIRST_REST_MAX + 1, True),
    (1, 65_535, True),
    (2, REST_MAX, False),
    (2, REST_MAX + 1, True),
    (2, 65_535, True),
    (3, REST_MAX, False),
    (3, REST_MAX + 1, True),
    (3, 65_535, True),
    (2, 0, True),
    (3, 0, True),
]


def claiming(number: int, data: bytes, length: int) -> bytes:
    """The mask is a keystream: who knows the length that a header says can make it say another."""
    lead = 32 if number < 3 else 0
    change = ((len(data) - lead - 3) ^ length).to_bytes(2, "little")
    low, high = data[lead + 1] ^ change[0], data[lead + 2] ^ change[1]
    return data[: lead + 1] + bytes([low, high]) + data[lead + 3 :]


@pytest.mark.parametrize("number", MESSAGES)
def test_a_length_that_is_too_short(number: int) -> None:
    pair = Pair(config=CONFIG)
    side, data = pair.message(number)
    head = 35 if number < 3 else 3
    for length in (1, 15, len(data) - head - 1):
        pair = Pair(config=CONFIG)
        side, data = pair.message(number)
        feed(side, claiming(number, data, length), pair.now)
        pair.collapse()
        assert not pair.b.of(EventKind.READY)
        if number == 2:
            assert_gone(pair.a)


@pytest.mark.parametrize(("number", "claimed", "refused"), LENGTHS)
def test_claimed_lengths(number: int, claimed: int, refused: bool) -> None:
    """Nothing is allocated for a length before it is there."""
    pair = Pair(config=CONFIG)
    side, data = pair.message(number)
    before = side.node.stats()["buffer_bytes"]
    head = 35 if number < 3 else 3
    assert feed(side, claiming(number, data, claimed)[:head], pair.now) is not refused
    side.gather()
    assert side.node.stats()["buffer_bytes"] <= before
    assert not side.of(EventKind.READY)
    assert len(side.of(EventKind.DOWN)) == refused


@pytest.mark.parametrize("number", MESSAGES)
def test_an_unknown_mode(number: int) -> None:
    pair = Pair()
    side, data = pair.message(number)
    lead = 32 if number < 3 else 0
    assert not feed(side, data[:lead] + bytes([data[lead] ^ 0x40]) + data[lead + 1 :], pair.now)


def test_the_largest_hello() -> None:
    node = Node(SEED_A)
    node.set_hello(b" " * 32_000)
    with pytest.raises(TransportError, match="size"):
        node.set_hello(b" " * 32_001)
    pair = Pair()
    for side in (pair.a, pair.b):
        side.node.set_hello(b"{}" + b" " * 31_998)
    pair.run()
    assert [len(side.of(EventKind.READY)[0].data) for side in (pair.a, pair.b)] == [32_000] * 2


# --- who is there ---


def test_the_right_key_and_another() -> None:
    known = Pair()
    known.run()
    key = known.a.node.link(known.a.link).key
    right = Pair(known=Known(key, pinned=True))
    right.run()
    assert right.a.of(EventKind.READY)
    other = known.b.node.link(known.b.link).key
    wrong = Pair(config=CONFIG, known=Known(other, pinned=True))
    wrong.collapse()
    assert [event.status for event in wrong.a.of(EventKind.DOWN)] == [Status.IDENTITY]
    assert_gone(wrong.a)
    expire(wrong, wrong.b)
    assert_gone(wrong.b)


def test_another_network() -> None:
    """Neither side learns more than that it does not understand."""
    for i in range(20):
        pair = Pair(config=CONFIG, other=NodeConfig(network=f"other-{i}"))
        pair.collapse()
        for side in (pair.a, pair.b):
            expire(pair, side)
            assert_gone(side)


def test_talking_to_itself() -> None:
    """A reflected handshake ends: each side would have to answer its own first message."""
    pair = Pair(config=CONFIG)
    first = pair.a.node.produce(pair.a.link, CAPACITY, pair.now)
    feed(pair.a, first, pair.now)
    expire(pair, pair.a)
    assert_gone(pair.a)


# --- how it looks from outside ---

HANDSHAKES = 200


def test_first_flights_have_nothing_in_common() -> None:
    """No byte of the first flight is constant over 200 connections, and its length varies.

    This shows that no magic number, version, length field or padding byte stands in the open, and
    that two connections share nothing. It does not show that the flight looks random: its first 32
    bytes are an X25519 public key as it is but for its highest bit, not yet hidden by Elligator. So
    whoever checks whether those bytes are a point of the curve's prime-order subgroup finds that
    they always are, of random bytes once in sixteen times. One connection is thus told from random
    bytes with some odds, a few dozen with certainty.
    """
    node = Node(SEED_A)
    flights = []
    for _ in range(HANDSHAKES):
        link = node.link_new(initiator=True, now_ms=0)
        flights.append(node.produce(link, CAPACITY, 0))
        node.close_link(link, 0)
        node.events_done()
    shortest = min(map(len, flights))
    assert shortest >= FIRST_FIXED + FIRST_REST_OURS[0]
    for at in range(shortest):
        values = {flight[at] for flight in flights}
        # 200 draws of 256 values give 139 different ones, give or take 6.
        assert len(values) > 110, f"byte {at} takes {len(values)} values"
    assert 60 < sum(flight[31] >> 7 for flight in flights) < 140
    assert len({len(flight) for flight in flights}) > 100
    assert max(map(len, flights)) <= FIRST_FIXED + FIRST_REST_OURS[-1]
