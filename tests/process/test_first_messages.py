"""First messages of handshakes that somebody repeats, sends back, breaks or makes up: a real node
makes nothing of them, or a session that it does not trust.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from dp2p.errors import RequestError
from process.middle import Middle, Way, between, marks, repeat
from process.nodes import Node, part, running, seen
from process.raw_peer import RawPeer
from wire_handshake import header_mask
from wire_noise import P, blake2b, xor

IMPATIENT = ("--set", "limits.handshake_deadline_s=2")
MODES = ("xx", "ik", "resume")
FIRST = range(131, 643)  # bytes of message 1; docs/spec/wire.md, "Lengths"
ANSWER = range(152, 152 + 256)  # those of message 2, without the hello

Trio = tuple[Node, Node, Middle]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two nodes that give up a handshake after 2 s."""
    nodes = [Node(tmp_path_factory.mktemp(name), *IMPATIENT) for name in "ab"]
    with running(*nodes):
        yield nodes[0], nodes[1]


@pytest.fixture
def line(pair: tuple[Node, Node]) -> Iterator[Trio]:
    """With a middle before the second, at a place that the first does not know."""
    a, b = pair
    with between(b.place) as middle:
        yield a, b, middle


def prepare(mode: str, a: Node, b: Node, middle: Middle) -> None:
    """Have ``a`` know as much as makes its next dial of the middle's endpoint one of ``mode``."""
    if mode == "xx":
        return
    middle.way = Way.PASS
    a.dial(middle.endpoint)
    part(a, b)
    middle.way = Way.REFLECT
    while mode == "ik" and a.tickets(b)[0]:
        with pytest.raises(RequestError):
            a.dial(middle.pinned(b.identity.key))
    middle.way = Way.PASS


def first_messages(a: Node, b: Node) -> list[bytes]:
    """One of each mode, as it was sent and had its answer."""
    found = []
    for mode in MODES:
        with between(b.place) as middle:
            prepare(mode, a, b, middle)
            assert seen(a.dial(middle.endpoint))[:2] == (mode, False)
            found.append(middle.passed[-1].first)
            part(a, b)
    return found


def hello_length(node: Node) -> int:
    """Bytes of what it says of itself, once that is all."""

    def length() -> int:
        peer = RawPeer(node, bytes(range(32)))
        hello = peer.shake_hands().peer.hello
        peer.close()
        return len(hello) if b'"record":"' in hello else 0

    found = node.until(length, "a hello with a record")
    node.until(lambda: node.peers() == [], "the asker's end")
    return found


def state(node: Node, other: Node) -> dict[str, Any]:
    """All that a handshake could change."""
    status = node.status()
    counters = dict(status["trust"])
    del counters["tickets_missing"]
    known, peers = node.known(other), node.peers()
    return {"trust": counters, "store": status["store"], "known": known, "peers": peers}


def failures(node: Node) -> int:
    """Inbound handshakes that came to nothing."""
    return node.log().count('"handshake failed"')


def until_failed(node: Node, count: int) -> None:
    node.until(lambda: failures(node) >= count, "failed handshakes")
    assert failures(node) == count


def test_repeated_first_messages_come_to_nothing(pair: tuple[Node, Node]) -> None:
    a, b = pair
    hello = hello_length(b)
    firsts = first_messages(a, b)
    before, failed = state(b, a), failures(b)
    answers = repeat(b.place, firsts)
    assert [len(one) - hello in ANSWER for one in answers] == [True] * 3  # one each, and no more
    until_failed(b, failed + 3)
    assert state(b, a) == before

    refused, memory = b.stat("links_refused"), b.resident()
    many = repeat(b.place, firsts * 67)
    answered = [len(one) - hello for one in many if one]
    assert 0 < len(answered) < len(many)  # above the cap nobody is answered
    assert set(answered) <= set(ANSWER)
    until_failed(b, failed + 3 + len(answered))
    b.until(lambda: b.stat("links_refused") - refused == len(many) - len(answered), "the others")
    b.until(lambda: b.stat("handshakes_pending") == 0, "nothing left of them")
    assert state(b, a) == before
    assert b.resident() - memory < 8 << 20
    assert seen(a.dial(b.address)) == ("resume", False, "resumed")
    part(a, b)


def test_a_first_message_that_he_kept_for_himself(line: Trio) -> None:
    """He can show it in the dialler's place: it uses up what it names, and makes no session."""
    a, b, middle = line
    prepare("resume", a, b, middle)
    middle.way = Way.REFLECT
    a.refusal(middle.endpoint)
    first = middle.passed[-1].first
    before, failed = state(b, a), failures(b)
    assert all(repeat(b.place, [first] * 3))
    until_failed(b, failed + 3)
    after = state(b, a)
    assert before["known"]["tickets"].pop("accept") == after["known"]["tickets"].pop("accept") + 1
    assert after["trust"].pop("tickets_accepted") == before["trust"].pop("tickets_accepted") + 1
    assert before["store"].pop("tickets") == after["store"].pop("tickets") + 1
    assert after == before


@pytest.mark.parametrize("mode", MODES)
def test_its_own_first_message_back(line: Trio, mode: str) -> None:
    """Sent back as it is, or handed to the node that made it as if somebody dialled."""
    a, b, middle = line
    prepare(mode, a, b, middle)
    middle.way = Way.REFLECT
    assert a.refusal(middle.endpoint).code in ("dial_failed", "timeout")
    prepare(mode, a, b, middle)
    middle.way, middle.target = Way.PASS, a.place
    if mode != "xx":
        wrong = a.refusal(middle.pinned(b.identity.key))
        assert wrong.code == "identity_mismatch"
        assert a.identity.key in wrong.message
    assert a.refusal(middle.endpoint).code == "refused:self"
    assert a.peers() == b.peers() == []
    for address in (a.bare, a.address):
        assert a.refusal(address).code == "refused:self"
    with pytest.raises(RequestError):
        a.known(a)  # it is no acquaintance of itself


EPHEMERAL = (0, 8 * 16 + 3, 8 * 31 + 7)
HEADER = (8 * 32, 8 * 32 + 1, 8 * 33, 8 * 34 + 7)
"Bits of message 1: of the mode, then of the length."
REST = (8 * 35, 8 * 50 + 7, 8 * 51, 8 * 83 + 4, 8 * 130)
"Of a ticket's name or a static key, then of what is sealed behind."


def dial_broken(line: Trio, mode: str, address: str, bit: int) -> bool:
    """Dial with a first message that arrives with that bit flipped; whether there was a link."""
    a, b, middle = line
    prepare(mode, a, b, middle)
    middle.way, middle.flip = Way.BREAK, bit
    try:
        dialled = a.dial(address)
    except RequestError as error:
        if error.code not in ("dial_failed", "timeout"):
            raise
        return False
    assert seen(dialled) == (mode, True, "none")
    assert dialled["key"] == b.identity.key
    assert a.trusts() == {b.identity.key: "none"}
    assert b.trusts() == {a.identity.key: "none"}
    part(a, b)
    return True


@pytest.mark.parametrize(
    ("mode", "pinned"),
    [("xx", False), ("ik", False), ("ik", True), ("resume", False), ("resume", True)],
)
def test_broken_bytes_cost_the_trust_and_show_nothing(line: Trio, mode: str, pinned: bool) -> None:
    """Whatever is changed: no link, or one without trust, encrypted like all others; and in no mode
    does the length of an answer tell what was tried, or that it failed.
    """
    a, b, middle = line
    hello = hello_length(b)
    wanted = marks(a, b)
    address = middle.pinned(b.identity.key) if pinned else middle.endpoint
    for bit in (*EPHEMERAL, *REST) if pinned else (*EPHEMERAL, *HEADER, *REST):
        came = dial_broken(line, mode, address, bit)
        assert not came or mode != "xx"
        assert came or mode == "xx" or bit not in REST
    broken = [one for one in middle.passed if one.flights]
    assert {len(one.first) for one in broken} <= set(FIRST)
    answered = [one for one in broken if one.reply]
    assert len(answered) >= len(REST)
    assert {len(one.reply) - hello for one in answered} <= set(ANSWER)
    assert middle.readable(wanted) == []


# --- made up ---

LOW_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
)
"All encodings of points of low order on Curve25519 and its twist."


def first_message(e: bytes, mode: int, rest: bytes) -> bytes:
    """With a header that is right, whatever the key is worth."""
    network_key = blake2b(b"dp2p", 32, b"dp2p network")
    header = struct.pack("<BH", mode, len(rest))
    return e + xor(header, header_mask(network_key, 1, e)) + rest


def made_up(firsts: list[bytes]) -> list[bytes]:
    """Messages that no node sends."""
    draw = random.Random(4617)
    found = [first[:length] for first in firsts for length in (1, 31, 34, 35, len(first) - 1)]
    found += [draw.randbytes(length) for length in (35, 36, 100, 300, 700) * 6]
    found += [bytes(200), b"\xff" * 200, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" * 4]
    for point in LOW_ORDER:
        for top in (0, 1 << 255):
            key = (point | top).to_bytes(32, "little")
            found += [first_message(key, mode, draw.randbytes(200)) for mode in (0, 1, 2)]
    return found


def test_first_messages_that_nobody_would_send(pair: tuple[Node, Node]) -> None:
    """Nothing is answered, and nothing follows."""
    a, b = pair
    firsts = first_messages(a, b)
    before, failed = state(b, a), failures(b)
    messages = made_up(firsts)
    for some in range(0, len(messages), 50):
        batch = messages[some : some + 50]
        assert repeat(b.place, batch) == [b""] * len(batch)
    until_failed(b, failed + len(messages))
    assert state(b, a) == before
