"""Subscriptions and notices in the SDK, without sockets."""

from __future__ import annotations

import msgspec
import pytest

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk import driver
from dp2p.sdk.driver import EventLog
from dp2p.sdk.heartbeat import Forgotten, Overheard, Pulse
from dp2p.sdk.signals import Replied, Subscribed
from dp2p.sdk.types import EventsLost, Notice, SessionLost, SessionRestored, ShardFound, Traffic
from scripted import TOKEN, Node

FIELDS: dict[str, str | bool | None] = {"endpoint": "tcp4://192.0.2.1:1", "reporter": None}


@pytest.fixture
def node() -> Node:
    return Node()


def subscribe(node: Node) -> None:
    """Subscribed, as the node has confirmed."""
    node.session.subscribe()
    (request,) = node.requests()
    assert (request["op"], request["session"]) == ("subscribe", TOKEN + "1")
    assert request["traffic_s"] is None
    node.reply(request, {})
    assert len(node.take(Subscribed)) == 1


def begin_again(node: Node) -> list[str]:
    """The session is lost and another begun; what the application's session asks then."""
    node.events += node.session.session_lost()
    node.answer_attach()
    assert len(node.take(SessionLost)) == 1
    return [request["op"] for request in node.requests()]


# A kind that a later node tells is an event like any other.
@pytest.mark.parametrize("kind", ["fallback", "mitm_warning", "earthquake"])
def test_notices_are_events(node: Node, kind: str) -> None:
    node.events.clear()
    node.event(control.Notice(kind, 1700000000.5, FIELDS))
    assert node.events == [Notice(kind, 1700000000.5, FIELDS)]
    assert hash(node.events[0]) == hash(Notice(kind, 1700000000.5, {}))


def test_notices_are_of_the_node_and_of_no_protocol() -> None:
    notice = Notice("fallback", 0.0, {})
    assert EventLog(None).wants(notice)
    assert not EventLog("chat").wants(notice)


def test_a_stream_that_nobody_reads_keeps_the_newest_and_says_how_many_it_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "EVENTS_KEPT", 3)
    stream = EventLog(None)
    for number in range(5):
        stream.add(ShardFound(number))
    assert len(stream.unread) == 3
    assert [stream.take() for _ in range(2)] == [EventsLost(2), ShardFound(2)]
    for number in range(5, 7):
        stream.add(ShardFound(number))
    left = [stream.take() for _ in range(4)]
    assert left == [EventsLost(1), ShardFound(4), ShardFound(5), ShardFound(6)]
    assert not stream.unread


def test_traffic_takes_the_place_of_older_traffic_before_anything_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "EVENTS_KEPT", 2)
    stream = EventLog(None)
    for event in (Traffic(1.0, []), ShardFound(0), Traffic(2.0, [])):
        stream.add(event)
    assert [stream.take() for _ in range(2)] == [ShardFound(0), Traffic(2.0, [])]


# what no node of this version says
STRANGE = [
    b'{"event": "weather", "kind": "rain", "at": 1.0, "fields": {}}',
    b'{"event": "notice", "kind": "fallback"}',
    b'{"event": 7}',
]


@pytest.mark.parametrize("raw", STRANGE)
def test_other_events_are_ignored(node: Node, raw: bytes) -> None:
    before = node.session.ignored
    assert node.session.receive_control(raw) == []
    assert node.session.ignored == before + 1


def test_unknown_fields_of_events_are_ignored(node: Node) -> None:
    raw = b'{"event": "notice", "kind": "doubted", "at": 1, "fields": {}, "mood": "bad"}'
    assert node.session.receive_control(raw) == [Notice("doubted", 1.0, {})]


def test_a_new_session_is_subscribed_again_each_time(node: Node) -> None:
    subscribe(node)
    for life in (2, 3):
        node.events += node.session.session_lost()
        node.answer_attach()
        assert node.take(SessionRestored)[0].session == f"{TOKEN}{life}"
        (request,) = node.requests()
        assert (request["op"], request["session"]) == ("subscribe", f"{TOKEN}{life}")
        node.reply(request, {})


def test_nobody_subscribes_who_did_not_ask(node: Node) -> None:
    assert begin_again(node) == []


def test_a_refused_subscription_is_none(node: Node) -> None:
    """An older node knows no such request."""
    number = node.session.subscribe()
    node.reply(node.requests()[0], error="bad_request")
    (reply,) = [event for event in node.events if isinstance(event, Replied) and event.id == number]
    assert reply.error is not None
    assert reply.error.code == "bad_request"
    assert node.take(Subscribed) == []
    assert begin_again(node) == []


def test_without_a_session_there_is_nothing_to_subscribe(node: Node) -> None:
    node.session.session_lost()
    with pytest.raises(RequestError, match="session_lost"):
        node.session.subscribe()


def test_a_subscription_that_finds_no_session_loses_it(node: Node) -> None:
    subscribe(node)
    node.session.subscribe()
    node.reply(node.requests()[0], error="unknown_session")
    assert len(node.take(SessionLost)) == 1


# --- traffic ---


def test_traffic_is_asked_for_in_each_session_and_told_as_an_event(node: Node) -> None:
    node.session.subscribe(0.5)
    (request,) = node.requests()
    assert request["traffic_s"] == 0.5
    node.reply(request, {})
    assert node.take(Subscribed) == [Subscribed(0.5)]
    node.events += node.session.session_lost()
    node.answer_attach()
    assert [one["traffic_s"] for one in node.requests()] == [0.5]
    node.events.clear()
    node.event(control.TrafficSeen(1700000000.5, [{"peer": "p"}], 3))
    assert node.events == [Traffic(1700000000.5, [{"peer": "p"}], 3)]


def test_of_traffic_that_nobody_reads_the_newest_is_kept() -> None:
    log, notice = EventLog(None), Notice("fallback", 0.0, {})
    for event in (Traffic(1.0, []), notice, Traffic(2.0, [])):
        log.add(event)
    assert list(log.unread) == [notice, Traffic(2.0, [])]


# --- heartbeats ---


def beat(pulse: Pulse) -> control.AnyRequest:
    request: control.AnyRequest = msgspec.json.decode(pulse.beat()[0], type=control.AnyRequest)
    return request


def test_beats_renew_a_subscription() -> None:
    pulse = Pulse()
    pulse.session = TOKEN + "1"
    assert beat(pulse) == control.Heartbeat(id=1, session=TOKEN + "1")
    pulse.subscribed = True
    assert beat(pulse) == control.Subscribe(id=2, session=TOKEN + "1")
    pulse.session = TOKEN + "2"
    assert beat(pulse) == control.Subscribe(id=3, session=TOKEN + "2")


def test_a_beat_that_renews_is_answered_as_any_other() -> None:
    pulse = Pulse()
    pulse.session, pulse.subscribed = TOKEN + "1", True
    assert pulse.receive(msgspec.json.encode(control.Reply(id=beat(pulse).id, ok={}))) == []
    error = control.ErrorBody("unknown_session", "no such session")
    reply = msgspec.json.encode(control.Reply(id=beat(pulse).id, error=error))
    assert pulse.receive(reply) == [Forgotten(TOKEN + "1")]


def test_notices_may_come_to_the_socket_of_heartbeats() -> None:
    raw = msgspec.json.encode(control.Notice("fallback", 1.0, FIELDS))
    (overheard,) = Pulse().receive(raw)
    assert isinstance(overheard, Overheard)
    assert Node().session.receive_control(overheard.message) == [Notice("fallback", 1.0, FIELDS)]


def test_beats_of_who_subscribed_to_traffic_say_so() -> None:
    pulse = Pulse()
    pulse.session, pulse.subscribed, pulse.traffic_s = TOKEN + "1", True, 0.5
    request = beat(pulse)
    assert isinstance(request, control.Subscribe)
    assert request.traffic_s == 0.5
