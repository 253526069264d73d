"""Conversations of the SDK that outlive their connections: what is kept, sent again, dropped."""

from __future__ import annotations

from typing import Any

import pytest

from dp2p import control, records
from dp2p.errors import RequestError
from dp2p.records import DATAGRAM_COST, Datagrams, Epoch, Kind, Position, Record
from dp2p.sdk import conversations, signals
from dp2p.sdk.flow import Flow
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.registration import Registration
from dp2p.sdk.types import PeerAway, PeerDown, PeerUp, Trouble
from scripted import WINDOW, Node, credit, up_record

HUNDRED = bytes(84)  # what costs 100 bytes of credit
THEIRS = 1 << 40  # an epoch of the peer's


@pytest.fixture
def node() -> Node:
    return Node()


def chat(node: Node, keep_s: float = 30.0) -> tuple[Registration, Flow]:
    """A protocol with a flow to anna. Its events and first records are gone."""
    registration = node.register(keep_s=keep_s)
    node.receive(up_record())
    node.sent()
    node.events.clear()
    return registration, registration.flow("anna")


def down(number: int, reason: str = "eof") -> bytes:
    return records.encode_json(Kind.DOWN, number, {"reason": reason})


def begins(number: int, datagrams: int = 0, size: int = 0, epoch: int = THEIRS) -> bytes:
    """The peer's EPOCH."""
    return records.encode_epoch(number, Epoch(epoch, datagrams, size))


def datagrams(record: Record) -> Datagrams:
    return records.decode_data(record.body)


def taken(registration: Registration) -> list[bytes]:
    """All that the application can take now."""
    found: list[bytes] = []
    while batch := registration.inbox.take_batch():
        found += batch[1].payloads
    return found


# --- sending ---


def test_what_is_not_confirmed_goes_again_first(node: Node) -> None:
    _, flow = chat(node)
    payloads = [bytes([i]) * 84 for i in range(5)]
    flow.submit(Outgoing(payloads[:4], [1, 2, 3, 4]))
    flow.pump()
    node.sent()
    flow.offer(payloads[4], 5)
    node.receive(credit(1, 1, 100) + down(1))
    assert node.take(PeerAway) == [PeerAway("anna", "chat", "eof")]
    node.receive(up_record(2))
    (up,) = node.take(PeerUp)
    assert up.resumed
    epoch, cut, last = node.sent()
    assert (epoch.kind, epoch.flow) == (Kind.EPOCH, 2)
    assert records.decode_epoch(epoch.body)[1:] == (1, 100)
    assert (cut.flow, datagrams(cut).payloads, list(datagrams(cut).types)) == (
        2,
        payloads[1:4],
        [2, 3, 4],
    )
    assert (last.flow, datagrams(last).payloads) == (2, payloads[4:])
    node.receive(credit(2, 4, 400))
    assert (flow.confirmed_datagrams, flow.confirmed_bytes, flow.kept) == (5, 500, [])


def test_one_conversation_has_one_epoch(node: Node) -> None:
    _, flow = chat(node)
    found = []
    for number in (2, 3):
        flow.offer(HUNDRED, 0)
        node.receive(down(number - 1) + up_record(number))
        found.append(records.decode_epoch(node.sent()[0].body))
    assert found == [(flow.epoch, 0, 0)] * 2


def test_while_the_peer_is_away_calls_wait(node: Node) -> None:
    registration, flow = chat(node)
    flow.offer(HUNDRED, 0)
    node.receive(down(1))
    assert registration.flow("anna") is flow
    assert (flow.credit, flow.unconfirmed) == (0, 1)
    assert not flow.offer(HUNDRED, 0)
    call = Outgoing([HUNDRED], 0)
    flow.submit(call)
    assert flow.pump() is None
    events = node.receive(up_record(2))
    assert [type(event) for event in events] == [signals.CreditGrown, PeerUp]
    assert flow.pump() == [call]
    assert flow.credit == WINDOW - 200


def test_sending_again_obeys_a_smaller_window(node: Node) -> None:
    _, flow = chat(node)
    flow.submit(Outgoing([HUNDRED] * 9, 0))
    flow.pump()
    node.receive(down(1) + up_record(2, window=516))
    _, part = node.sent()
    assert len(datagrams(part).payloads) == 5
    assert flow.credit == 0
    assert not flow.offer(b"", 0)
    node.receive(credit(2, 3, 300, 516))
    assert node.sent() == [], "less than what is left of the record, and something is under way"
    node.receive(credit(2, 5, 500, 516))
    (rest,) = node.sent()
    assert len(datagrams(rest).payloads) == 4
    assert flow.offer(HUNDRED, 0)


def test_a_peer_that_has_confirmed_all_is_given_up_at_once_and_may_come_back(node: Node) -> None:
    registration, flow = chat(node)
    flow.offer(HUNDRED, 0)
    node.sent()
    node.receive(credit(1, 1, 100) + down(1))
    assert node.take(PeerDown) == [PeerDown("anna", "chat", "eof", 1, 0, 0)]
    assert registration.undrained("anna") == []
    with pytest.raises(RequestError, match="peer_down: eof"):
        registration.flow("anna")
    node.receive(up_record(2))
    assert node.take(PeerUp)[0].resumed
    (epoch,) = node.sent()
    assert records.decode_epoch(epoch.body) == (flow.epoch, 1, 100)


def test_without_keeping_a_peer_is_given_up_at_once(node: Node) -> None:
    _, flow = chat(node, keep_s=0)
    flow.offer(HUNDRED, 0)
    node.sent()
    assert flow.kept == [b""], "no more than its position"
    node.receive(down(1))
    assert node.take(PeerDown) == [PeerDown("anna", "chat", "eof", 0, 1, 0)]
    node.receive(up_record(2))
    assert not node.take(PeerUp)[0].resumed
    assert node.sent() == [], "no EPOCH"


# fields of UP that say that it is not the conversation that was
OTHERS: list[dict[str, Any]] = [
    {"application": "0" * 16},
    {"application": None},
    {"version": 2},
    {"max_datagram": 400},
    {"types": 9},
]


@pytest.mark.parametrize("change", OTHERS)
def test_another_application_or_other_terms_begin_anew(node: Node, change: dict[str, Any]) -> None:
    registration, flow = chat(node)
    flow.offer(HUNDRED, 0)
    node.sent()
    node.receive(down(1) + up_record(2, **change))
    away, gone, up = node.events
    assert isinstance(away, PeerAway)
    assert gone == PeerDown("anna", "chat", "replaced", 0, 1, 0)
    assert isinstance(up, PeerUp)
    assert not up.resumed
    (epoch,) = node.sent()
    assert records.decode_epoch(epoch.body).epoch != flow.epoch
    assert registration.flow("anna").sent_datagrams == 0


def test_a_peer_that_stays_away_is_given_up(node: Node) -> None:
    registration, flow = chat(node)
    flow.offer(HUNDRED, 0)
    node.receive(down(1))
    call = Outgoing([HUNDRED], 0)
    flow.submit(call)
    session = node.session
    assert session.expire(100.0) == []
    assert session.due == pytest.approx(130.0)
    assert session.expire(129.9) == []
    unsendable, gone = session.expire(130.0)
    assert isinstance(unsendable, signals.Unsendable)
    assert gone == PeerDown("anna", "chat", "eof", 0, 0, 2)
    assert call.error is not None
    assert call.error.code == "peer_down"
    assert not session.expire(1000.0)
    assert not registration.flows
    assert not flow.kept
    with pytest.raises(RequestError, match="peer_down: eof"):
        registration.undrained("anna")


def test_withdrawing_gives_up_those_that_are_away(node: Node) -> None:
    _, flow = chat(node)
    flow.offer(HUNDRED, 0)
    node.receive(down(1))
    node.session.request(control.Withdraw(id=0, session=node.session.token(), name="chat"))
    node.reply(node.requests()[0], {})
    assert node.take(PeerDown) == [PeerDown("anna", "chat", "withdrawn", 0, 0, 1)]


def test_so_many_are_away_at_most(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "AWAY_MAX", 2)
    registration = node.register()
    for number, peer in enumerate(("anna", "bob", "carl"), 1):
        node.receive(up_record(number, peer=peer))
        registration.flow(peer).offer(HUNDRED, 0)
    for number in (1, 2, 3):
        node.receive(down(number))
    assert [event.peer for event in node.take(PeerDown)] == ["anna"]
    assert list(registration.flows) == ["bob", "carl"]


# datagrams and bytes that a peer claims to have consumed of 3 that went, 100 each, in one record,
# and of one more that did not; what is believed
CLAIMS = [
    ((2, 200), (2, 200)),
    ((3, 300), (3, 300)),
    ((4, 400), (3, 300)),
    ((1 << 60, 1 << 60), (3, 300)),
    ((0, 1 << 60), (0, 300)),
    ((3, 0), (3, 300)),
]


@pytest.mark.parametrize(("claim", "believed"), CLAIMS)
def test_nothing_is_confirmed_that_was_not_sent(
    node: Node, claim: tuple[int, int], believed: tuple[int, int]
) -> None:
    _, flow = chat(node)
    flow.submit(Outgoing([HUNDRED] * 3, 0))
    flow.pump()
    node.sent()
    flow.offer(HUNDRED, 0)
    node.receive(credit(1, *claim))
    assert (flow.confirmed_datagrams, flow.confirmed_bytes) == believed
    node.receive(down(1))
    kept = sum(len(datagrams(next(records.split(one))).payloads) for one in flow.kept)
    assert kept == flow.unconfirmed == 4 - believed[0]
    assert flow.confirmed_bytes == 100 * believed[0]


# --- receiving ---


def consumed(node: Node) -> list[Position]:
    """Positions that the shard is told."""
    return [records.decode_position(one.body) for one in node.sent() if one.kind == Kind.CONSUMED]


def test_what_comes_again_is_dropped_and_confirmed(node: Node) -> None:
    registration, _ = chat(node)
    node.receive(begins(1) + records.encode_data(1, [b"a", b"b", b"c"], 0))
    inbox = registration.inbox
    inbox.open()
    assert next(inbox.messages).payload == b"a"
    node.receive(down(1) + up_record(2) + begins(2))
    assert consumed(node) == []
    node.events.clear()
    again = node.receive(records.encode_data(2, [b"a", b"b"], 0))
    assert [type(event) for event in again] == [signals.ConsumedAgain]
    assert consumed(node) == [Position(0, 1, 17)]
    node.receive(records.encode_data(2, [b"c", b"d"], 0))
    assert taken(registration) == [b"b", b"c", b"d"]
    assert consumed(node) == [Position(0, 4, 68)]


def test_nothing_is_confirmed_before_it_has_come_again(node: Node) -> None:
    registration, _ = chat(node)
    node.receive(begins(1) + records.encode_data(1, [b"a", b"b"], 0))
    node.receive(down(1) + up_record(2) + begins(2))
    assert taken(registration) == [b"a", b"b"]
    assert consumed(node) == []
    node.receive(records.encode_data(2, [b"a"], 0))
    assert consumed(node) == [Position(0, 1, 17)]


def test_a_flow_may_begin_in_the_middle(node: Node) -> None:
    """Of a conversation whose beginning another life of this application has had."""
    registration, flow = chat(node)
    node.receive(begins(1, 1000, 50_000) + records.encode_data(1, [b"a"], 0))
    assert node.take(Trouble) == []
    assert taken(registration) == [b"a"]
    assert consumed(node) == [Position(0, 1, 17)]
    assert flow.arrivals.received_datagrams == 1001


def test_a_peer_that_keeps_nothing_begins_each_flow_anew(node: Node) -> None:
    registration, _ = chat(node)
    node.receive(records.encode_data(1, [b"a"], 0) + down(1))
    node.receive(up_record(2) + records.encode_data(2, [b"a"], 0))
    assert taken(registration) == [b"a", b"a"]
    assert consumed(node) == [Position(0, 1, 17)]


def test_a_gap_is_told_and_the_rest_is_taken(node: Node) -> None:
    registration, _ = chat(node)
    node.receive(begins(1) + records.encode_data(1, [b"a"], 0) + down(1) + up_record(2))
    node.receive(begins(2, 2, 34) + records.encode_data(2, [b"c"], 0))
    (trouble,) = node.take(Trouble)
    assert (trouble.error.code, trouble.error.peer) == ("gap", "anna")
    assert taken(registration) == [b"a", b"c"]
    assert consumed(node) == [Position(0, 1, 17)]


# EPOCH of the second flow, its datagrams; after three of 17 bytes each in the first
LIES = [
    (begins(2, 2, 0), [b"c"]),
    (begins(2, 0, 0), [bytes(100), b"b"]),
    (begins(2, 3, 17), [b"d"]),
    (begins(2, 1 << 63, 0), [b"d"]),
    (begins(2, 0, 1 << 63), [b"d"]),
    (begins(2, 2, 33), [b"c"]),
    (begins(2) + begins(2), [b"a"]),
]


@pytest.mark.parametrize(("said", "payloads"), LIES)
def test_a_peer_that_lies_about_positions(node: Node, said: bytes, payloads: list[bytes]) -> None:
    """It gets no credit for it, and nothing breaks."""
    registration, _ = chat(node)
    node.receive(begins(1) + records.encode_data(1, [b"a", b"b", b"c"], 0))
    node.receive(down(1) + up_record(2) + said)
    node.receive(records.encode_data(2, payloads, 0))
    (trouble,) = node.take(Trouble)
    assert trouble.error.code == "gap"
    cost = sum(len(payload) + DATAGRAM_COST for payload in payloads)
    told = consumed(node)
    assert all(one.bytes <= cost and one.datagrams <= len(payloads) for one in told)
    node.receive(records.encode_data(2, [b"x"] * 10, 0))
    unread = registration.flow("anna").arrivals
    assert unread.received_bytes - unread.consumed_bytes >= 10 * 17, "what is not taken counts"
    taken(registration)
    (last,) = consumed(node)
    assert last == Position(0, len(payloads) + 10, cost + 170)


def test_what_was_never_read_comes_to_the_next_registration(node: Node) -> None:
    former, _ = chat(node)
    node.receive(begins(1) + records.encode_data(1, [b"a", b"b"], 0))
    former.inbox.open()
    assert next(former.inbox.messages).payload == b"a"
    node.session.request(control.Withdraw(id=0, session=node.session.token(), name="chat"))
    node.reply(node.requests()[0], {})
    registration = node.register()
    node.receive(up_record(2) + begins(2) + records.encode_data(2, [b"a", b"b"], 0))
    assert taken(former) == []
    assert taken(registration) == [b"b"]
    assert consumed(node) == [Position(0, 2, 34)]


@pytest.mark.parametrize("keep_s", [-1.0, 1e9, float("nan"), float("inf")])
def test_how_long_is_checked(node: Node, keep_s: float) -> None:
    with pytest.raises(RequestError, match="bad_request"):
        node.register(keep_s=keep_s)
