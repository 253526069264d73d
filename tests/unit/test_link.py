"""An open link against a peer that breaks the rules: that ends it; nothing wrong gets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dp2p import records
from dp2p.errors import TransportError
from dp2p.hello import CloseReason
from dp2p.records import DATAGRAM_COST, DATAGRAM_MAX
from dp2p.transport import CONTROL_MAX, EventKind, FlowConfig, NodeConfig, Priority, Status
from wire import CAPACITY, Pair, Side

LARGE = 200_000  # more than A says in one go


def flow(side: Side, number: int, peer_number: int, **more: int) -> int:
    """A flow on one side alone, with whatever limits it pleases."""
    limits: dict[str, Any] = {"max_datagram": 1 << 18, "window": 1 << 20, "peer_window": 1 << 20}
    options = {"sink": side.sink, "number": number, "peer_number": peer_number} | limits | more
    return side.node.flow_open(side.link, FlowConfig(**options))


def send(side: Side, handle: int, *payloads: bytes, type: int = 0) -> None:  # noqa: A002
    side.ingest(records.encode_data(handle, payloads, type))


def ended(pair: Pair) -> str:
    """Run until B ends the link; why. A hears the reason that goes with it."""
    pair.collapse()
    (down,) = pair.b.of(EventKind.DOWN)
    return Status(down.status).name


def reason_at_a(pair: Pair) -> CloseReason:
    (down,) = pair.a.of(EventKind.DOWN)
    assert down.status == Status.CLOSED
    return CloseReason(down.reason)


# --- sizes ---


@pytest.mark.parametrize("size", [0, 1, 32_745, 32_746, 32_747, 1 << 18])
def test_datagram_sizes(size: int) -> None:
    """Around what fits a frame, and the largest agreed."""
    pair = Pair().open()
    ours, theirs = pair.flow(0)
    payload = bytes(i % 251 for i in range(size))
    send(pair.a, ours, payload, type=65535)
    pair.run()
    assert pair.b.payloads(theirs) == [payload]
    assert not pair.a.kept


def test_the_largest_datagram_of_all() -> None:
    pair = Pair().open()
    ours, theirs = pair.flow(0, max_datagram=DATAGRAM_MAX, window=DATAGRAM_MAX + DATAGRAM_COST)
    send(pair.a, ours, bytes(DATAGRAM_MAX))
    pair.run()
    assert list(map(len, pair.b.payloads(theirs))) == [DATAGRAM_MAX]
    with pytest.raises(TransportError, match="argument"):
        pair.flow(1, max_datagram=DATAGRAM_MAX + 1)


def test_one_byte_too_many_is_refused_where_it_is_sent() -> None:
    """Before anything is kept, and the link goes on."""
    pair = Pair().open()
    ours, theirs = pair.flow(0, max_datagram=1000, types=4)
    send(pair.a, ours, bytes(1001))
    send(pair.a, ours, b"", type=4)
    pair.run()
    assert [event.status for event in pair.a.of(EventKind.REFUSED)] == [Status.DATAGRAM] * 2
    assert not pair.a.kept
    send(pair.a, ours, bytes(1000), type=3)
    pair.run()
    assert pair.b.payloads(theirs) == [bytes(1000)]


@pytest.mark.parametrize("size", [1001, 20_000, DATAGRAM_MAX])
def test_one_byte_too_many_is_refused_where_it_arrives(size: int) -> None:
    """A peer that takes itself more than was agreed; no memory is spent on what it announces."""
    pair = Pair().open()
    ours = flow(pair.a, 0, 100, max_datagram=DATAGRAM_MAX, peer_window=1 << 25)
    theirs = flow(pair.b, 100, 0, max_datagram=1000, window=1 << 25)
    before = pair.b.node.stats()["buffer_bytes"]
    send(pair.a, ours, bytes(size))
    assert ended(pair) == "DATAGRAM"
    assert reason_at_a(pair) == CloseReason.PROTOCOL
    assert not pair.b.payloads(theirs)
    assert pair.b.node.stats()["buffer_bytes"] <= before
    assert not pair.a.kept


def test_a_type_that_was_not_agreed() -> None:
    pair = Pair().open()
    ours, _ = flow(pair.a, 0, 100), flow(pair.b, 100, 0, types=4)
    send(pair.a, ours, b"x", type=4)
    assert ended(pair) == "DATAGRAM"


def test_control_sizes() -> None:
    pair = Pair().open()
    pair.a.node.control(pair.a.link, 9, bytes(CONTROL_MAX))
    with pytest.raises(TransportError, match="size"):
        pair.a.node.control(pair.a.link, 9, bytes(CONTROL_MAX + 1))
    pair.run()
    assert pair.b.of(EventKind.CONTROL)[-1].data == bytes(CONTROL_MAX)


def test_a_peer_that_takes_no_control_datagrams() -> None:
    """What waits for it has a bound."""
    pair = Pair().open()
    for _ in range((1 << 20) // (CONTROL_MAX + DATAGRAM_COST)):
        pair.a.node.control(pair.a.link, 9, bytes(CONTROL_MAX))
    with pytest.raises(TransportError, match="limit"):
        pair.a.node.control(pair.a.link, 9, bytes(CONTROL_MAX))


# --- credit ---


def test_credit_ignored() -> None:
    """A takes ten times the window that B granted."""
    pair = Pair().open()
    ours = flow(pair.a, 0, 100, peer_window=10 << 20)
    theirs = flow(pair.b, 100, 0, window=1 << 20)
    send(pair.a, ours, *[bytes(10_000)] * 200)
    assert ended(pair) == "CREDIT"
    assert reason_at_a(pair) == CloseReason.CREDIT
    got = pair.b.payloads(theirs)
    assert len(got) <= (1 << 20) // (10_000 + DATAGRAM_COST)
    assert set(got) <= {bytes(10_000)}
    assert not pair.a.kept


@pytest.mark.parametrize(("over", "ends"), [(0, False), (1, True)])
def test_credit_is_exact(over: int, ends: bool) -> None:
    pair = Pair().open()
    ours = flow(pair.a, 0, 100, peer_window=1 << 20)
    theirs = flow(pair.b, 100, 0, window=50_000)
    send(pair.a, ours, bytes(50_000 - DATAGRAM_COST + over))
    pair.collapse()
    assert bool(pair.b.of(EventKind.DOWN)) is ends
    assert len(pair.b.payloads(theirs)) == (not ends)


def test_credit_comes_back_with_consumption() -> None:
    pair = Pair(config=NodeConfig(window_max=2000)).open()
    ours, theirs = pair.flow(0, window=2000, max_datagram=1000)
    cost = 1000 + DATAGRAM_COST
    for i in range(1, 50):
        send(pair.a, ours, bytes(1000))
        send(pair.a, ours, bytes(1000))  # beyond the credit: refused, as a whole
        pair.run()
        assert len(pair.a.of(EventKind.REFUSED)) == i
        assert len(pair.b.payloads(theirs)) == i
        pair.b.consume(theirs, i, i * cost)
        pair.run()


POSITIONS = [
    (3, 3 * 26, False),
    (3, 3 * 26 - 1, False),
    (0, 0, True),
    (2, 2 * 26, True),
    (1, 26, True),
]


@pytest.mark.parametrize(("datagrams", "size", "accepted"), POSITIONS)
def test_consumed_positions(datagrams: int, size: int, accepted: bool) -> None:
    """Two datagrams of ten bytes came: an application cannot have consumed more."""
    pair = Pair().open()
    ours, theirs = pair.flow(0)
    send(pair.a, ours, bytes(10), bytes(10))
    pair.run()
    pair.b.consume(theirs, datagrams, size)
    pair.run()
    assert bool(pair.b.of(EventKind.REFUSED)) is not accepted


# --- pieces ---


def halfway(pair: Pair, number: int = 100) -> tuple[int, int]:
    """A flow from A, whose first datagram has arrived at B in part."""
    ours, theirs = flow(pair.a, 0, number), flow(pair.b, number, 0)
    send(pair.a, ours, bytes(LARGE))
    pair.carry(pair.a, pair.b)
    assert pair.a.kept
    return ours, theirs


@pytest.mark.parametrize("status", [Status.EOF, Status.IO])
def test_an_unfinished_datagram_and_the_end(status: Status) -> None:
    pair = Pair().open()
    _, theirs = halfway(pair)
    pair.b.node.end_link(pair.b.link, status)
    pair.b.gather()
    assert [event.status for event in pair.b.of(EventKind.DOWN)] == [status]
    assert not pair.b.payloads(theirs)
    assert pair.b.node.stats()["buffer_bytes"] == 0


def test_what_came_whole_before_the_end_is_delivered() -> None:
    pair = Pair().open()
    ours, theirs = flow(pair.a, 0, 100), flow(pair.b, 100, 0)
    send(pair.a, ours, b"whole", bytes(LARGE))
    data = pair.a.node.produce(pair.a.link, CAPACITY, pair.now)
    pair.b.node.receive(pair.b.link, bytearray(data[: len(data) // 2]), pair.now)
    pair.b.node.end_link(pair.b.link)
    pair.b.gather()
    assert pair.b.payloads(theirs) == [b"whole"]


def test_pieces_without_a_beginning() -> None:
    """B has begun the flow anew; A goes on with the datagram of the old one."""
    pair = Pair().open()
    _, theirs = halfway(pair)
    pair.b.node.flow_close(theirs, tombstone=False)
    again = flow(pair.b, 100, 0)
    assert ended(pair) == "DATAGRAM"
    assert not pair.b.payloads(again)


def test_a_withdrawn_flow_is_dropped_until_it_is_buried() -> None:
    pair = Pair().open()
    ours, theirs = halfway(pair)
    pair.b.node.flow_close(theirs, tombstone=True)
    pair.run()
    send(pair.a, ours, b"late")
    pair.run()
    pair.b.node.flow_bury(pair.b.link, 100)
    send(pair.a, ours, b"later still")
    assert ended(pair) == "CHANNEL"
    assert not pair.b.payloads(theirs)


def test_a_channel_that_nobody_has() -> None:
    pair = Pair().open()
    ours = flow(pair.a, 0, 100)
    send(pair.a, ours, b"x")
    assert ended(pair) == "CHANNEL"
    assert reason_at_a(pair) == CloseReason.PROTOCOL


def test_a_large_datagram_lets_urgent_ones_pass() -> None:
    pair = Pair().open()
    bulk = pair.flow(0, priority=Priority.BULK, max_datagram=1 << 23, window=1 << 24)
    urgent = pair.flow(1, priority=Priority.URGENT)
    send(pair.a, bulk[0], bytes(1 << 23))
    pair.carry(pair.a, pair.b)
    send(pair.a, urgent[0], b"now")
    pair.carry(pair.a, pair.b)
    assert pair.b.payloads(urgent[1]) == [b"now"]
    assert not pair.b.payloads(bulk[1])
    pair.run()
    assert list(map(len, pair.b.payloads(bulk[1]))) == [1 << 23]


# --- frames ---


def frames() -> tuple[Pair, int, list[bytes]]:
    """An open pair, B's flow, and four frames for B that it has not seen."""
    pair = Pair().open()
    ours, theirs = pair.flow(0)
    out = []
    for i in range(4):
        send(pair.a, ours, b"%d" % i)
        out.append(pair.a.node.produce(pair.a.link, CAPACITY, pair.now))
    return pair, theirs, out


TAMPERING: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "duplicated": lambda f: [f[0], f[0], f[1]],
    "swapped": lambda f: [f[1], f[0], f[2], f[3]],
    "left out": lambda f: [f[1], f[2], f[3]],
    "replayed later": lambda f: [*f, f[0]],
    "cut short": lambda f: [f[0][:-1], f[1], f[2]],
    "zeros": lambda f: [bytes(100)],
}


@pytest.mark.parametrize("how", TAMPERING)
def test_frames_that_are_not_what_was_sent(how: str) -> None:
    """The link ends at the first wrong one; what came before it stands."""
    pair, theirs, made = frames()
    wrong = TAMPERING[how](made)
    pair.b.inbox += b"".join(wrong) + bytes(33_000)  # a wrong length may ask for more: it is there
    with pytest.raises(TransportError):
        pair.offer(pair.b)
    pair.b.gather()
    right = 0
    while right < len(made) and wrong[right] == made[right]:
        right += 1
    assert pair.b.payloads(theirs) == [b"%d" % i for i in range(right)]
    assert len(pair.b.of(EventKind.DOWN)) == 1


def test_a_flipped_bit_in_every_byte_of_a_frame() -> None:
    size = len(frames()[2][0])
    for at in range(size):
        pair, theirs, made = frames()
        wrong = bytearray(made[0])
        wrong[at] ^= 1 << at % 8
        pair.b.inbox += wrong + b"".join(made[1:]) + bytes(33_000)
        with pytest.raises(TransportError):
            pair.offer(pair.b)
        pair.b.gather()
        assert not pair.b.payloads(theirs)


def test_no_two_frames_look_alike() -> None:
    """Same plaintext, other bytes, the masked length included: each value comes up."""
    pair = Pair().open()
    ours, _ = pair.flow(0)
    heads = []
    for _ in range(200):
        send(pair.a, ours, b"same")
        heads.append(pair.a.node.produce(pair.a.link, CAPACITY, pair.now))
    assert {len(head) for head in heads} == {len(heads[0])}
    for at in range(len(heads[0])):
        assert len({head[at] for head in heads}) > 100


# --- time ---


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    pair = Pair().open()
    began = pair.now
    pair.now += 20_000
    for side in (pair.a, pair.b):
        side.node.tick(pair.now)
    pair.run()
    assert not pair.a.of(EventKind.DOWN)
    pair.now += 20_000
    for _ in range(3):
        pair.a.node.tick(pair.now)
        pair.now += 20_000
    pair.a.gather()
    assert [event.status for event in pair.a.of(EventKind.DOWN)] == [Status.TIMEOUT]
    assert pair.now - began >= 60_000


def test_keys_are_renewed_by_bytes() -> None:
    pair = Pair(config=NodeConfig(rekey_bytes=5000)).open()
    ours, theirs = pair.flow(0)
    for _ in range(20):
        send(pair.a, ours, bytes(1000))
        pair.run()
    assert pair.b.node.stats()["rekeys"] >= 3
    assert len(pair.b.payloads(theirs)) == 20


# --- what a flow knows of itself ---


def test_a_flow_knows_where_it_stands() -> None:
    """Positions of both directions, and how long its queue has waited."""
    pair = Pair().open()
    ours, theirs = pair.flow(0)
    send(pair.a, ours, bytes(84), bytes(84))
    pair.now += 250
    pair.a.node.tick(pair.now)
    before = pair.a.node.flow(ours)
    assert (before.link, before.window, before.peer_window) == (pair.a.link, 1 << 20, 1 << 20)
    assert (before.accepted, before.sent) == ((2, 200), (0, 0))
    assert (before.wait_ms, before.waited_max_ms) == (250, 0)
    assert pair.a.node.stats()["queued_bytes"] == 200
    pair.run()
    pair.b.consume(theirs, 1, 100)
    assert pair.b.node.stats()["unread_bytes"] == 100
    pair.run()
    after = pair.a.node.flow(ours)
    assert (after.sent, after.confirmed, after.send_limit) == ((2, 200), (1, 100), (1 << 20) + 100)
    assert (after.wait_ms, after.waited_max_ms) == (0, 250)
    assert pair.a.node.flow(ours).waited_max_ms == 0
    other = pair.b.node.flow(theirs)
    assert (other.received, other.consumed, other.receive_limit) == (
        (2, 200),
        (1, 100),
        (1 << 20) + 100,
    )
    with pytest.raises(TransportError, match="argument"):
        pair.a.node.flow(ours + 1)


def test_what_goes_with_a_flow_leaves_the_sums() -> None:
    pair = Pair().open()
    ours, theirs = pair.flow(0)
    send(pair.a, ours, bytes(84))
    pair.run()
    send(pair.a, ours, bytes(84))
    pair.a.node.flow_close(ours, tombstone=True)
    pair.b.node.flow_close(theirs, tombstone=True)
    assert pair.a.node.stats()["queued_bytes"] == pair.b.node.stats()["unread_bytes"] == 0


# --- EPOCH ---


def test_an_epoch_comes_first_and_once() -> None:
    """In front of all DATA it reaches the application as it was sent; later it is refused."""
    pair = Pair([13]).open()
    ours, theirs = pair.flow(0)
    said = records.encode_epoch(ours, records.Epoch(7, 8, 9))
    pair.a.ingest(said)
    send(pair.a, ours, b"first")
    pair.a.ingest(said)
    pair.run()
    (epoch, data) = [record for record in pair.b.records if record[1] == theirs]
    assert epoch == (records.Kind.EPOCH, theirs, said[12:])
    assert data[0] == records.Kind.DATA
    assert [event.status for event in pair.a.of(EventKind.REFUSED)] == [Status.STATE]
    assert pair.a.node.flow(ours).sent == (1, 21)


def test_an_epoch_of_a_withdrawn_flow_is_dropped() -> None:
    pair = Pair().open()
    ours, theirs = pair.flow(0)
    pair.b.node.flow_close(theirs, tombstone=True)
    pair.a.ingest(records.encode_epoch(ours, records.Epoch(7, 8, 9)))
    pair.run()
    assert not pair.b.of(EventKind.DOWN)
    assert not pair.b.records
