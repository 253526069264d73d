"""``dp2p events``: the session that it keeps, without sockets, and what it says of each event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from dp2p import control, places
from dp2p.cli import client, run
from dp2p.cli.events import ASK_AGAIN_S, SILENT_S, Subscription, as_line
from dp2p.cli.root import cli
from dp2p.errors import RequestError

SESSION = "0" * 32
OTHER = "1" * 32
NOTICE = control.Notice(kind="doubted", at=0.5, fields={"key": "k", "endpoint": "tcp4://a:1"})


def ok(number: int, result: Any) -> bytes:
    return json.dumps({"id": number, "ok": result}).encode()


def error(number: int, code: str) -> bytes:
    return json.dumps({"id": number, "error": {"code": code, "message": "no"}}).encode()


def attached(session: str = SESSION) -> dict[str, Any]:
    return {"session": session, "node": "n", "key": "k", "shards": [], "heartbeat_s": 2.0}


def begun() -> Subscription:
    """Attached at 0 and about to say who listens."""
    subscription = Subscription(0.0)
    (attach,) = subscription.to_send(0.0)
    assert subscription.receive(ok(attach.id, attached()), 0.0) is None
    return subscription


def kinds(requests: list[control.AnyRequest]) -> list[tuple[type, str]]:
    return [(type(each), getattr(each, "session", "")) for each in requests]


BEAT = [(control.Heartbeat, SESSION), (control.Subscribe, SESSION)]


# --- the session ---


def test_it_asks_for_a_session_until_it_has_one() -> None:
    subscription = Subscription(0.0)
    assert kinds(subscription.to_send(0.0)) == [(control.Attach, "")]
    assert subscription.to_send(0.0) == []
    assert subscription.due == ASK_AGAIN_S
    (again,) = subscription.to_send(ASK_AGAIN_S)
    subscription.receive(ok(again.id, attached()), ASK_AGAIN_S)
    assert kinds(subscription.to_send(ASK_AGAIN_S)) == BEAT


def test_it_says_who_listens_with_each_heartbeat() -> None:
    subscription = begun()
    for now in (0.0, 2.0, 4.0):
        assert subscription.due == now
        requests = subscription.to_send(now)
        assert kinds(requests) == BEAT
        for request in requests:
            assert subscription.receive(ok(request.id, {}), now) is None


def test_a_forgotten_session_is_begun_again() -> None:
    subscription = begun()
    for request in subscription.to_send(0.0):
        assert subscription.receive(error(request.id, "unknown_session"), 0.5) is None
    assert subscription.due == 0.5 + ASK_AGAIN_S
    (attach,) = subscription.to_send(subscription.due)
    assert isinstance(attach, control.Attach)
    subscription.receive(ok(attach.id, attached(OTHER)), 2.0)
    assert kinds(subscription.to_send(2.0)) == [
        (control.Heartbeat, OTHER),
        (control.Subscribe, OTHER),
    ]


def test_another_error_is_the_end() -> None:
    with pytest.raises(RequestError, match="bad_version"):
        Subscription(0.0).receive(error(1, "bad_version"), 0.0)


def test_silence_counts_from_the_last_message() -> None:
    subscription = begun()
    assert subscription.silent_at == SILENT_S
    subscription.receive(msgspec.json.encode(NOTICE), 7.0)
    assert subscription.silent_at == 7.0 + SILENT_S


def test_it_detaches_from_the_session_it_has() -> None:
    assert kinds(begun().end()) == [(control.Detach, SESSION)]
    assert Subscription(0.0).end() == []


def test_only_notices_are_shown() -> None:
    subscription = begun()
    for other in (control.ShardUp(index=0, endpoint="ipc://x"), {"event": "later"}):
        assert subscription.receive(msgspec.json.encode(other), 0.0) is None
    assert subscription.receive(msgspec.json.encode(NOTICE), 0.0) == NOTICE


def test_every_request_has_its_own_number() -> None:
    subscription = begun()
    sent = [*subscription.to_send(0.0), *subscription.to_send(2.0), *subscription.end()]
    assert len({request.id for request in sent}) == len(sent) == 5


# --- with a socket ---


@pytest.fixture
def router(tmp_path: Path) -> Iterator[zmq.Socket[bytes]]:
    """The coordinator's end."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(places.control_endpoint(tmp_path))
        yield socket


def test_a_conversation_goes_both_ways(router: zmq.Socket[bytes], tmp_path: Path) -> None:
    with client.conversation(tmp_path) as node:
        node.send(control.Status(id=5))
        identity, frame = router.recv_multipart()
        assert msgspec.json.decode(frame) == {"op": "status", "id": 5}
        router.send_multipart([identity, b"one"])
        router.send_multipart([identity, b"two"])
        assert [node.receive(10.0), node.receive(10.0)] == [b"one", b"two"]
        assert node.receive(0.0) is None
        assert node.receive(-1.0) is None
        node.send(control.Status(id=6))
    assert b'"id":6' in router.recv_multipart()[1]


class Scripted:
    """A conversation in which each message that is received is read from a list."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = frames
        self.sent: list[control.AnyRequest] = []

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, message: control.AnyRequest) -> None:
        self.sent.append(message)

    def receive(self, _timeout_s: float) -> bytes:
        if not self.frames:
            raise KeyboardInterrupt
        return self.frames.pop(0)


SHOWN = [
    ([], "1970-01-01T00:00:00Z doubted: k is no longer thought to be at tcp4://a:1"),
    (["--json"], '{"at": 0.5, "kind": "doubted", "key": "k", "endpoint": "tcp4://a:1"}'),
]


@pytest.mark.parametrize(("options", "text"), SHOWN)
def test_notices_come_out_until_ctrl_c(
    options: list[str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notice = msgspec.json.encode(NOTICE)
    node = Scripted([ok(1, attached()), notice, notice])
    monkeypatch.setattr(client, "conversation", lambda _: node)
    assert run(cli, ["events", *options]) == 130
    assert capsys.readouterr().out.splitlines() == [text] * 2
    assert kinds(node.sent) == [(control.Attach, ""), *BEAT, (control.Detach, SESSION)]


# --- what is said ---

OUT = {"peer": "p", "endpoint": "tcp4://a:1", "direction": "out", "mode": "ik", "relied": "k1"}
IN = {"peer": "p", "endpoint": "tcp4://a:1", "direction": "in", "mode": "resume", "relied": None}
ASKED = {"endpoint": "tcp4://a:1", "mode": "xx", "asked": "k1"}
MET = {"peer": "p", "endpoint": "tcp4://a:1", "met": "k1", "other": "k2", "evidence": "dialled"}

LINES: list[tuple[str, dict[str, str | bool | None], str]] = [
    (
        "fallback",
        {**OUT, "answered": "k2"},
        "fallback at tcp4://a:1: dialled as k1 (ik) in vain, k2 answered; trust is none",
    ),
    (
        "fallback",
        {**IN, "answered": "k2"},
        "fallback at tcp4://a:1: k2 relied on what was in vain (resume)",
    ),
    (
        "identity_error",
        {**ASKED, "answered": "k2"},
        "identity error at tcp4://a:1: k1 was dialled, k2 answered; not connected",
    ),
    (
        "identity_error",
        {**ASKED, "answered": None},
        "identity error at tcp4://a:1: k1 was dialled, another key answered; not connected",
    ),
    (
        "doubted",
        {"key": "k1", "endpoint": "tcp4://a:1"},
        "doubted: k1 is no longer thought to be at tcp4://a:1",
    ),
    (
        "mitm_warning",
        {**MET, "reporter": "k3"},
        "man in the middle? at tcp4://a:1: met k1, but k3 knows k2 there (dialled)",
    ),
    (
        "mitm_warning",
        {**MET, "reporter": None},
        "man in the middle? at tcp4://a:1: met k1, but this node knows k2 there (dialled)",
    ),
    ("later", {"what": "\x1b[2J", "so": True}, 'later what="\\u001b[2J" so=true'),
]


@pytest.mark.parametrize(("kind", "fields", "text"), LINES)
def test_a_line_for_people(kind: str, fields: dict[str, str | bool | None], text: str) -> None:
    notice = control.Notice(kind=kind, at=1763835603.9, fields=fields)
    assert as_line(notice) == f"2025-11-22T18:20:03Z {text}"
