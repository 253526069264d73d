"""What both APIs do with a session: its sockets, its events, flushing. No waiting here."""

from __future__ import annotations

import os
import secrets
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import msgspec
import zmq

from dp2p import control
from dp2p.errors import RequestError
from dp2p.sdk.flow import Flow
from dp2p.sdk.heartbeat import Forgotten, Heartbeat, Overheard
from dp2p.sdk.outgoing import Outgoing
from dp2p.sdk.port import FLUSH_BYTES, NOWHERE, Port
from dp2p.sdk.registration import Registration
from dp2p.sdk.session import Session
from dp2p.sdk.signals import (
    AttachAgain,
    Began,
    Connect,
    ConsumedAgain,
    CreditGrown,
    Disconnect,
    Received,
    RegisterAgain,
    Replied,
    Subscribed,
    Unsendable,
)
from dp2p.sdk.sockets import Socket, find_node, keep_freed_memory, open_dealer, send
from dp2p.sdk.types import Event, EventsLost, Peer, PeerAway, PeerDown, PeerUp, Traffic

ATTACH_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 30.0
ANSWER_LATE_S = 5.0  # how late the node may be with an answer that it owes after a given time
CONFIRM_LATER_S = 0.01
"""How long a consumed position may wait for something to travel with. Ours: on its own it costs a
message on each of the three hops back to the sender.
"""
ATTACH_AGAIN_S = 0.02  # a shard hears of a new session a moment after the application does
REGISTER_AGAIN_S = (
    0.2  # a node that has just started is busy until its shards have told their state
)


EVENTS_KEPT = 16384  # of each stream, some 5 MiB


def default_name() -> str:
    """What an application is called when it does not say: its program's name and process."""
    return f"{Path(sys.argv[0]).name or 'python'}[{os.getpid()}]"[-64:]


def make_spec(
    name: str, version: int | Sequence[int], options: dict[str, Any]
) -> control.ProtocolSpec:
    """A checked protocol specification.  Raises: RequestError, ``bad_request``."""
    versions = [version] if isinstance(version, int) else list(version)
    try:
        return msgspec.convert(
            {"name": name, "versions": versions, **options}, control.ProtocolSpec
        )
    except msgspec.ValidationError as error:
        raise RequestError("bad_request", str(error), protocol=str(name)) from None


class EventLog:
    """Events that somebody asked for and has not read yet, at most ``EVENTS_KEPT``. Base of both
    APIs' streams.
    """

    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol
        "Only events of this protocol; None: all."
        self.unread: deque[Event] = deque()
        self._lost = 0

    def wants(self, event: Event) -> bool:
        """Whether the event belongs here."""
        return self.protocol is None or self.protocol == getattr(event, "protocol", None)

    def add(self, event: Event) -> None:
        """Keep an event, in the place of the oldest if need be. Of ``Traffic`` the newest is
        enough.
        """
        if isinstance(event, Traffic):
            for old in [one for one in self.unread if isinstance(one, Traffic)]:
                self.unread.remove(old)
        if len(self.unread) >= EVENTS_KEPT:
            self.unread.popleft()
            self._lost += 1
        self.unread.append(event)

    def take(self) -> Event:
        """The oldest, which must be there; before it, how many were lost."""
        if self._lost:
            lost, self._lost = EventsLost(self._lost), 0
            return lost
        return self.unread.popleft()

    def close(self) -> None:
        """There will be no more."""


class Driver:
    """Owns the sockets of one session."""

    def __init__(self, run_dir: Path | str | None, endpoint: str | None, name: str | None) -> None:
        keep_freed_memory()
        self.endpoint = find_node(run_dir, endpoint)
        "The control endpoint."
        self.session = Session(
            name or default_name(), secrets.token_hex(8), partial(secrets.randbits, 64)
        )
        self.logs: WeakSet[EventLog] = WeakSet()
        self.context: zmq.Context[Socket] = zmq.Context()
        self.control = open_dealer(self.context, self.endpoint)
        self.sockets: dict[Port, Socket] = {}
        self.heartbeat: Heartbeat | None = None
        self.closed = False
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            Received: lambda event: self.on_received(event.registration),
            CreditGrown: lambda event: self.on_credit(event.flow),
            ConsumedAgain: lambda event: self.confirm_later(event.port),
            Replied: self.on_replied,
            Began: lambda event: self._begin(event.attached),
            Subscribed: self._subscribed,
            Connect: lambda event: self._connect(event.port),
            Disconnect: lambda event: self._disconnect(event.port),
            AttachAgain: lambda event: self.later(
                ATTACH_AGAIN_S, partial(self.session.attach_port, event.port)
            ),
            RegisterAgain: lambda event: self.later(
                REGISTER_AGAIN_S, partial(self.session.register_again, event.registration)
            ),
            Unsendable: lambda event: self.on_finished(event.outgoing),
            Forgotten: lambda event: self._forgotten(event.session),
            Overheard: lambda event: self.dispatch(self.session.receive_control(event.message)),
        }

    # --- for the APIs to fill in ---

    def watch(self, socket: Socket, port: Port | None) -> None:
        """Begin to read from a socket; ``port`` is None for control."""
        raise NotImplementedError

    def unwatch(self, socket: Socket) -> None:
        """Stop reading from it; it is about to be closed."""
        raise NotImplementedError

    def sent(self, socket: Socket) -> None:
        """Messages have gone out."""

    def on_received(self, registration: Registration) -> None:
        """Something is in an inbox, or its protocol is closed."""

    def on_replied(self, event: Replied) -> None:
        """A request is answered."""

    def on_finished(self, outgoing: list[Outgoing]) -> None:
        """Calls that send are done."""

    def on_progress(self, protocol: str) -> None:
        """Something was confirmed, or a peer came or went."""

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something after a while, unless the session is closed by then, and flush."""
        raise NotImplementedError

    def confirm_later(self, port: Port) -> None:
        """Call ``flush_port`` after ``CONFIRM_LATER_S``, unless something goes before."""
        raise NotImplementedError

    def expire_later(self) -> None:
        """A peer is away: call the session's ``expire`` soon, and when it is due."""
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        """The heartbeat thread has something to say; called in that thread."""
        raise NotImplementedError

    # --- shared ---

    def dispatch(self, events: list[Event]) -> None:
        """Act on what the session says."""
        for event in events:
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(event)
                continue
            for log in list(self.logs):
                if log.wants(event):
                    log.add(event)
            if isinstance(event, PeerUp | PeerAway | PeerDown):
                self.on_progress(event.protocol)
            if isinstance(event, PeerAway):
                self.expire_later()

    def subscribe(self, log: EventLog) -> None:
        """Fill a log from now on, beginning with the peers that are there."""
        for registration in self.session.protocols.values():
            for flow in registration.flows.values():
                if flow.port is NOWHERE:
                    continue
                event = PeerUp(flow.peer.id, flow.protocol, flow.peer)
                if log.wants(event):
                    log.add(event)
        self.logs.add(log)

    def flush(self) -> None:
        """Send all that is to go."""
        messages = self.session.control_to_send()
        for message in messages:
            send(self.control, message)
        if messages:
            self.sent(self.control)
        self.session.settle()
        for port, socket in self.sockets.items():
            if port.ready or port.urgent:
                self._send(port, socket)
            elif port.consumed:
                self.confirm_later(port)

    def flush_last(self) -> None:
        """As ``flush``, and with it what would have gone later."""
        for port in list(self.sockets):
            self.flush_port(port)
        self.flush()

    def flush_port(self, port: Port) -> None:
        """Send all that is to go to one shard."""
        self.session.settle()
        if port in self.sockets:
            self._send(port, self.sockets[port])

    def _send(self, port: Port, socket: Socket) -> None:
        for message in port.take_messages():
            send(socket, message)
        self.sent(socket)

    def pump(self, flow: Flow) -> None:
        """Move what waits for credit as far as it goes, one record after the other."""
        port = flow.port
        while (finished := flow.pump()) is not None:
            if port.backlog >= FLUSH_BYTES:
                self.flush_port(port)
            if finished:
                self.on_finished(finished)

    def on_credit(self, flow: Flow) -> None:
        """Credit has come."""
        if flow.waiting:
            self.pump(flow)
        self.on_progress(flow.protocol)

    def _begin(self, attached: control.Attached) -> None:
        if self.heartbeat is None:
            self.heartbeat = Heartbeat(self.context, self.endpoint, attached, self.tell)
        else:
            self.heartbeat.use(attached)

    def _subscribed(self, subscribed: Subscribed) -> None:
        if self.heartbeat is not None:
            self.heartbeat.renew_subscription(subscribed.traffic_s)

    def _connect(self, port: Port) -> None:
        socket = open_dealer(self.context, port.endpoint)
        self.sockets[port] = socket
        self.watch(socket, port)

    def _disconnect(self, port: Port) -> None:
        socket = self.sockets.pop(port, None)
        if socket is not None:
            self.unwatch(socket)
            socket.close(linger=0)

    def _forgotten(self, session: str) -> None:
        self.dispatch(self.session.session_lost(session))

    def close_sockets(self) -> None:
        """Close all, and end the calls that wait; ``context.term`` then waits for what is still to
        go, at most ``LINGER_MS``.
        """
        self.closed = True
        if self.heartbeat is not None:
            self.heartbeat.stop()
        for socket in (self.control, *self.sockets.values()):
            self.unwatch(socket)
            socket.close()
        self.sockets.clear()
        self.dispatch(self.session.close())


class Handle:
    """What both APIs' protocols share: everything that never waits."""

    def __init__(self, driver: Driver, registration: Registration) -> None:
        self._registration = registration
        self._flows = registration.flows
        self._inbox = registration.inbox
        self._driver = driver

    @property
    def name(self) -> str:
        """The protocol's name."""
        return self._registration.name

    @property
    def spec(self) -> control.ProtocolSpec:
        """As it was registered."""
        return self._registration.spec

    @property
    def peers(self) -> dict[str, Peer]:
        """Peers that are there now, by node-ID."""
        flows = self._flows.items()
        return {peer: flow.peer for peer, flow in flows if flow.port is not NOWHERE}

    def unconfirmed(self, peer: str) -> int:
        """Datagrams sent to a peer that its application has not consumed, as far as known."""
        return self._registration.flow(peer).unconfirmed

    def credit(self, peer: str) -> int:
        """Bytes that can be sent to a peer without waiting; each datagram costs its payload
        and 16 bytes.
        """
        return self._registration.flow(peer).credit

    def _outgoing(
        self, peer: str, payloads: Sequence[bytes], types: int | Sequence[int]
    ) -> tuple[Flow, Outgoing]:
        """A checked call.  Raises: RequestError."""
        flow = self._registration.flow(peer)
        outgoing = Outgoing(payloads, types)
        if isinstance(types, int):
            lowest = highest = types
        else:
            if len(types) != outgoing.count:
                text = f"{outgoing.count} payloads but {len(types)} types"
                raise flow.error("bad_request", text)
            lowest, highest = min(types, default=0), max(types, default=0)
        flow.check(max(outgoing.sizes, default=0), lowest, highest)
        flow.submit(outgoing)
        self._driver.pump(flow)
        return flow, outgoing
