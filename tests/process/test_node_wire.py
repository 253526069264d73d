"""A real node and a peer of another make: the second implementation of docs/spec/wire.md, over TCP.

The peer has no listener and is dialled by nobody; it holds what it needs to know in its hands.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from dp2p import ids, introduction, node_record
from dp2p.hello import ControlType, decode_hello
from dp2p.introduction import Check, Find, Found, Keys
from process.nodes import Node, running
from process.raw_peer import RawPeer, read
from wire_handshake import Known, Link, Mode, WrongKey, header_mask
from wire_noise import ed25519_of, xor


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(Node(tmp_path_factory.mktemp("n"))) as (one,):
        one.until(lambda: one.status()["record"], "its record")
        yield one


def id_of(seed: bytes) -> bytes:
    return ids.node_id(ed25519_of(seed))


def seed_of(node: Node, *, chooses: bool) -> bytes:
    """A peer's seed, by whether it is that peer who chooses among links, or the node."""
    while True:
        seed = secrets.token_bytes(32)
        if (id_of(seed) < ids.from_text(node.id)) is chooses:
            return seed


def visit(node: Node, seed: bytes, known: Known | None = None) -> tuple[Link, dict[str, Any]]:
    """Connect and leave: the link, and what the node said of it."""
    with closing(RawPeer(node, seed, known).open()) as peer:
        text = ids.to_text(id_of(seed))
        node.until(lambda: node.connected(text), "the peer")
        (row,) = node.peers()
    node.until(node.connected, "its end")
    return peer.link, row


def shown(row: dict[str, Any]) -> tuple[str, bool, str]:
    return row["mode"], row["fell_back"], row["trust"]


@pytest.mark.parametrize("chooses", [True, False], ids=["chooser", "other"])
def test_every_mode(node: Node, chooses: bool) -> None:
    """Each session's ticket makes the next one, once."""
    seed, key = seed_of(node, chooses=chooses), node.identity.public
    first, row = visit(node, seed)
    assert (first.peer.key, shown(row)) == (key, ("xx", False, "none"))
    second, row = visit(node, seed, Known(key, pinned=True))
    assert (second.mode, shown(row)) == (Mode.IK, ("ik", False, "none"))
    for link in (second, first):  # a ticket is good until it is used, in any order
        resumed, row = visit(node, seed, Known(key, link.dial_ticket, pinned=True))
        assert (resumed.mode, shown(row)) == (Mode.RESUME, ("resume", False, "resumed"))
    again, row = visit(node, seed, Known(key, second.dial_ticket, pinned=True))
    assert (again.mode, shown(row)) == (Mode.FALLBACK, ("resume", True, "none"))
    assert again.peer.key == key
    _, row = visit(node, seed, Known(key, again.dial_ticket))
    assert shown(row) == ("resume", False, "resumed")


def test_a_ticket_of_the_other_direction_is_not_known(node: Node) -> None:
    seed = secrets.token_bytes(32)
    first, _ = visit(node, seed)
    link, _ = visit(node, seed, Known(node.identity.public, first.accept_ticket))
    assert link.mode == Mode.FALLBACK


def test_a_key_that_the_node_has_not(node: Node) -> None:
    """It answers with its own, which the peer takes or leaves."""
    seed, other = secrets.token_bytes(32), ed25519_of(bytes(32))
    link, row = visit(node, seed, Known(other))
    assert (link.mode, link.peer.key) == (Mode.FALLBACK, node.identity.public)
    assert shown(row) == ("ik", True, "none")
    with closing(RawPeer(node, seed, Known(other, pinned=True))) as peer:
        with pytest.raises(WrongKey) as wrong:
            peer.shake_hands()
        assert wrong.value.key == node.identity.public


def repeat(node: Node, recorded: RawPeer) -> Mode:
    """Send a recorded message 1 again and, behind the answer, the message 3 of that time under a
    header that is right; in which mode the answer was. The node must close without a byte more.
    """
    key, rest = recorded.side.network_key, recorded.message_3[3:]
    with RawPeer.connect(node) as stream:
        stream.sendall(recorded.message_1)
        begin = read(stream, 35)
        ephemerals = recorded.message_1[:32] + begin[:32]
        mode, size = struct.unpack("<BH", xor(begin[32:], header_mask(key, 2, ephemerals)))
        read(stream, size)
        header = struct.pack("<BH", mode, len(rest))
        stream.sendall(xor(header, header_mask(key, 3, ephemerals)) + rest)
        with pytest.raises(EOFError):
            read(stream, 1)
    return Mode(mode)


def test_first_messages_that_are_repeated(node: Node) -> None:
    """Each gets a message 2, and nothing comes of it."""
    seed, key = secrets.token_bytes(32), node.identity.public
    ticket = visit(node, seed)[0].dial_ticket
    answers = {None: Mode.XX, Known(key): Mode.IK, Known(key, ticket): Mode.FALLBACK}
    for known, answer in answers.items():
        with closing(RawPeer(node, seed, known).open()) as recorded:
            text = ids.to_text(id_of(seed))
            node.until(lambda: node.connected(text), "the peer")  # noqa: B023 - used at once
        node.until(node.connected, "its end")
        counted = node.status()["trust"]
        assert [repeat(node, recorded) for _ in range(3)] == [answer] * 3
        seen = node.status()["trust"]
        for name in ("handshakes_xx", "handshakes_ik", "handshakes_resume", "fallbacks"):
            assert seen[name] == counted[name]
        assert node.peers() == []
    node.until(lambda: node.stat("handshakes_pending") == 0, "nothing left of them")


def test_introductions(node: Node) -> None:
    """The hello brings a record that verifies, and questions are answered."""
    with closing(RawPeer(node, secrets.token_bytes(32)).open()) as peer:
        signed = decode_hello(peer.link.peer.hello).record
        assert signed is not None
        assert node_record.verify(signed).key == node.identity.public
        for question in (Find(id=7, limit=4), Find(id=8, protocol="chat", near="a" * 52)):
            peer.say(question)
            found = introduction.decode(ControlType.FOUND, peer.expect(ControlType.FOUND))
            assert isinstance(found, Found)
            assert found.id == question.id
        peer.say(Check(id=9, endpoint=node.bare))
        keys = introduction.decode(ControlType.KEYS, peer.expect(ControlType.KEYS))
        assert isinstance(keys, Keys)
        assert (keys.id, keys.keys[0].key) == (9, node.identity.key)
    node.until(node.connected, "its end")
