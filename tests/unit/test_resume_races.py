"""Conversations when news come late, twice, in the wrong order, or from who means no good."""

from __future__ import annotations

import gc
import weakref

import pytest

from dp2p import control, records
from dp2p.records import Epoch, Kind
from dp2p.sdk import conversations, inbox, registration, session
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.registration import Registration
from dp2p.sdk.types import PeerDown, SendError, SessionRestored, Trouble
from scripted import Node, up_record

HUNDRED = bytes(84)  # what costs 100 bytes of credit
THEIRS = 1 << 40  # an epoch of the peer's


@pytest.fixture
def node() -> Node:
    return Node(2)


def down(number: int) -> bytes:
    return records.encode_json(Kind.DOWN, number, {"reason": "eof"})


def begins(number: int, datagrams: int = 0, size: int = 0, epoch: int = THEIRS) -> bytes:
    return records.encode_epoch(number, Epoch(epoch, datagrams, size))


def data(number: int, *payloads: bytes) -> bytes:
    return records.encode_data(number, list(payloads), 0)


def taken(protocol: Registration) -> list[bytes]:
    found: list[bytes] = []
    while batch := protocol.inbox.take_batch():
        found += batch[1].payloads
    return found


def life(number: int) -> str:
    return f"{number:016x}"


# --- two shards, whose sockets are read in any order ---


def test_a_flow_that_ended_before_the_present_one_began_does_not_replace_it(node: Node) -> None:
    protocol = node.register()
    node.receive(up_record(5, since=2000), 0)
    flow = protocol.flow("anna")
    stale = up_record(9, since=1000) + begins(9) + data(9, b"old") + down(9)
    assert node.receive(stale, 1) == []
    assert (flow.port, flow.number) == (node.port(0), 5)
    node.receive(begins(5) + data(5, b"old", b"new"), 0)
    assert taken(protocol) == [b"old", b"new"]


def test_a_younger_flow_replaces_the_present_one(node: Node) -> None:
    protocol = node.register()
    node.receive(up_record(5, since=1000), 0)
    node.receive(up_record(9, since=2000), 1)
    assert protocol.flow("anna").number == 9
    assert node.receive(down(5), 0) == []


# --- the session ---


def test_a_session_is_asked_for_again_when_the_answer_never_comes(node: Node) -> None:
    node.register()
    token = node.session.token()
    node.session.session_lost(token)
    (lost,) = node.requests()
    assert node.session.session_lost(token) == []  # the next heartbeat is refused as well
    node.answer_attach()
    assert len(node.take(SessionRestored)) == 1
    node.reply(lost, control.Attached("f" * 32, "me", "key", node.shards, 1.0))
    assert node.session.token() == f"{2:032x}"
    assert [request["op"] for request in node.requests()] == ["register"]


def test_a_session_that_is_refused_is_asked_for_again(node: Node) -> None:
    token = node.session.token()
    node.session.session_lost(token)
    node.reply(node.requests()[0], error="busy")
    node.session.session_lost(token)
    node.answer_attach()
    assert node.session.attached is not None


def test_it_is_asked_for_once_when_its_loss_is_told_often(node: Node) -> None:
    token = node.session.token()
    for _ in range(5):  # of a program that did something else for so many heartbeats
        node.session.session_lost(token)
    assert [request["op"] for request in node.requests()] == ["attach"]


# --- what is told to a shard ---


def test_what_goes_again_is_no_message_that_the_socket_refuses(node: Node) -> None:
    window = 64 << 20
    protocol = node.register()
    node.receive(up_record(1, window=window))
    flow = protocol.flow("anna")
    for _ in range(90_000):  # a record each, as a blocking program sends them
        flow.submit(Outgoing([bytes(484)], 0))
        flow.pump()
    node.sent()
    node.receive(down(1))
    node.receive(up_record(2, window=window))
    messages = node.port().take_messages()
    assert sum(map(len, messages)) > records.MESSAGE_MAX
    assert max(map(len, messages)) < 1 << 20


# --- memory ---


def test_bytes_kept_for_those_that_are_away_are_bounded(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "AWAY_BYTES_MAX", 250)
    protocol = node.register()
    for number, peer in enumerate(("anna", "bob", "carl"), 1):
        node.receive(up_record(number, peer=peer))
        protocol.flow(peer).offer(HUNDRED, 0)
    for number in (1, 2, 3):
        node.receive(down(number))
    assert [event.peer for event in node.take(PeerDown)] == ["anna"]
    assert list(protocol.flows) == ["bob", "carl"]


def test_a_peer_cannot_make_us_forget_what_another_has_sent(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_LEFT_KEPT", 20)
    protocol = node.register()
    node.receive(up_record(1) + begins(1) + data(1, b"once") + down(1))
    for number in range(2, 50):
        node.receive(up_record(number, peer="mallory", application=life(number)) + down(number))
    node.receive(up_record(50) + begins(50) + data(50, b"once", b"twice"))
    assert taken(protocol) == [b"once", b"twice"]


@pytest.mark.parametrize("manner", ["lives", "epochs", "lies", "keeps nothing"])
def test_a_peer_that_comes_again_and_again_cannot_fill_the_inbox(
    node: Node, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    monkeypatch.setattr(inbox, "LEFT_BYTES_MAX", 2000)
    protocol = node.register()
    protocol.inbox.clear()
    for number in range(1, 200):
        application = life(number) if manner == "lives" else life(1)
        base = 5 * (number - 1) if manner == "lies" else 0
        epoch = number if manner == "epochs" else THEIRS
        node.receive(up_record(number, application=application))
        if manner != "keeps nothing":
            node.receive(begins(number, base, 100 * base, epoch))
        node.receive(data(number, *[HUNDRED] * 5) + down(number))
    assert 0 < len(taken(protocol)) * 100 <= 2 * 2000 + 2 * 500


def test_what_was_thrown_away_comes_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LEFT_BYTES_MAX", 20)
    node = Node()
    protocol = node.register()
    node.receive(up_record(1) + begins(1) + data(1, b"a", b"b"))
    node.receive(up_record(2, peer="bob", application=life(2)) + begins(2) + data(2, b"c"))
    assert protocol.inbox.take_batch() is not None
    node.receive(data(1, b"d", b"e") + down(1))
    node.receive(up_record(3) + begins(3, 1, 17) + data(3, b"b", b"d", b"e"))
    assert taken(protocol) == [b"c", b"d", b"e"]
    assert node.take(Trouble) == []


def test_withdrawn_protocols_that_nobody_reads_keep_little(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEFT_BYTES_MAX", 2000)
    unread = []
    for number in range(1, 100):
        name = f"job-{number}"
        unread.append(weakref.ref(node.register(name).inbox))
        node.receive(up_record(number, protocol=name) + data(number, *[HUNDRED] * 5))
        node.session.request(control.Withdraw(id=0, session=node.session.token(), name=name))
        node.reply(node.requests()[0], {})
        node.events.clear()
    gc.collect()
    assert sum(one() is not None for one in unread) <= 4


# --- terms ---


def test_other_terms_do_not_make_us_take_anything_twice(node: Node) -> None:
    protocol = node.register()
    node.receive(up_record(1) + begins(1) + data(1, b"a") + down(1))
    node.receive(up_record(2, types=5) + down(2))  # the peer never heard of this one
    node.receive(up_record(3) + begins(3) + data(3, b"a", b"b"))
    assert taken(protocol) == [b"a", b"b"]


# --- errors ---


def test_who_sends_to_a_peer_that_has_gone_gets_the_error_that_was_promised(node: Node) -> None:
    protocol = node.register()
    node.receive(up_record(1) + down(1))
    for peer, code in (("anna", "peer_down"), ("nobody", "unknown_peer")):
        with pytest.raises(SendError) as caught:
            protocol.flow(peer)
        assert (caught.value.code, caught.value.accepted) == (code, 0)
