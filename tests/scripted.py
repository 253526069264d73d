"""A session of the SDK, sans-IO, and a node that says to it what a test wants."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec

from dp2p import control, records
from dp2p.records import Kind, Position
from dp2p.sdk.port import Port
from dp2p.sdk.registration import KEEP_S, Registration
from dp2p.sdk.session import Session
from dp2p.sdk.types import Event

TOKEN = "0" * 31
WINDOW = 1000


LIFE = "0123456789abcdef"  # of the peer's application


def up_record(
    number: int = 1,
    *,
    peer: str = "anna",
    window: int = WINDOW,
    application: str | None = LIFE,
    **more: Any,
) -> bytes:
    """A peer comes up for ``chat``."""
    body = {
        "protocol": "chat", "version": 1, "peer": peer, "key": "k", "trust": "none",
        "introducers": 0, "endpoint": "tcp4://192.0.2.1:1", "direction": "in",
        "max_datagram": 500, "types": 10, "window": window, "application": application, **more,
    }  # fmt: skip
    return records.encode_json(Kind.UP, number, body)


def credit(number: int, datagrams: int, size: int, window: int = WINDOW) -> bytes:
    """The peer's application has consumed so much."""
    return records.encode_position(Kind.CREDIT, number, Position(window, datagrams, size))


class Node:
    """A session and what the node says to it."""

    def __init__(
        self, shards: int = 1, *, instance: str = "fedcba9876543210", first_epoch: int = 1
    ) -> None:
        self.session = Session("test", instance, count(first_epoch).__next__)
        self.sessions = 0
        self.shards = [control.ShardEndpoint(i, f"ipc://shard-{i}") for i in range(shards)]
        self.events: list[Event] = []
        self.session.attach()
        self.answer_attach()

    def requests(self) -> list[dict[str, Any]]:
        """What the session asks."""
        return [msgspec.json.decode(raw) for raw in self.session.control_to_send()]

    def reply(self, request: dict[str, Any], ok: Any = None, error: str | None = None) -> None:
        """Answer a request."""
        body = control.ErrorBody(error, "no") if error else None
        reply = control.Reply(id=request["id"], ok=None if error else ok, error=body)
        self.events += self.session.receive_control(msgspec.json.encode(reply))

    def answer_attach(self) -> None:
        (request,) = self.requests()
        assert request["op"] == "attach"
        self.sessions += 1
        token = f"{self.sessions:032x}"
        self.reply(request, control.Attached(token, "me", "key", self.shards, 1.0))

    def event(self, event: control.AnyEvent) -> None:
        """The coordinator tells something."""
        self.events += self.session.receive_control(msgspec.json.encode(event))

    def register(self, name: str = "chat", keep_s: float = KEEP_S) -> Registration:
        spec = control.ProtocolSpec(name=name, versions=[1])
        _, registration = self.session.register(spec, keep_s)
        (request,) = self.requests()
        self.reply(request, control.Registered(0, WINDOW))
        return registration

    def port(self, index: int = 0) -> Port:
        return self.session.ports[index]

    def receive(self, message: bytes, index: int = 0) -> list[Event]:
        """A shard's message; returns what follows from it."""
        events = self.session.receive_data(self.port(index), message)
        self.events += events
        return events

    def sent(self, index: int = 0) -> list[records.Record]:
        """What goes to the shard now."""
        self.session.settle()
        messages = self.port(index).take_messages()
        return [record for message in messages for record in records.split(message)]

    def take(self, kind: type[Event]) -> list[Any]:
        """Events of one kind so far; all are forgotten."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events.clear()
        return found
