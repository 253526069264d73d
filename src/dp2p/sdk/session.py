"""An application's session with its node, without sockets: bytes in, events and bytes out.

Source: docs/spec/app-api.md. Requests and replies are matched, records of shards become flows and
messages, and a session that the coordinator has forgotten is begun again with its protocols.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dp2p import control, records
from dp2p.errors import RecordError, RequestError
from dp2p.records import Kind, Record
from dp2p.sdk.arrivals import GapError
from dp2p.sdk.conversations import Conversations
from dp2p.sdk.flow import Flow
from dp2p.sdk.inbox import LEFT_BYTES_MAX
from dp2p.sdk.port import Port
from dp2p.sdk.registration import KEEP_S, Registration
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
)
from dp2p.sdk.types import (
    Event,
    Notice,
    ProtocolLost,
    SessionLost,
    SessionRestored,
    ShardFound,
    ShardLost,
    Traffic,
    Trouble,
)
from dp2p.sdk.up import Up

KEEP_MOST_S = 86400
_CLOSED_KEPT = 1024  # withdrawn protocols that are remembered, unless too much of them is unread


class Session:
    """The whole state. Feed it with ``receive_control`` and ``receive_data``; send what
    ``control_to_send`` and each ``Port.take_messages`` give.
    """

    def __init__(self, name: str, instance: str, draw: Callable[[], int]) -> None:
        """``instance`` names this life of the application, 16 hexadecimal digits; ``draw`` gives
        random integers of 64 bits.
        """
        self.name = name
        self.instance = instance
        self.attached: control.Attached | None = None
        "The session, while there is one."
        self.protocols: dict[str, Registration] = {}
        self.ports: dict[int, Port] = {}
        self.ignored = 0
        "Records for flows that are gone, or of a kind not known here."
        self._lost = False
        self._attaching: int | None = None
        "The request for a session that was made last."
        self._asks = False
        "It has not left yet."
        self._subscribed = False
        self._traffic_s: float | None = None
        self._next_id = 1
        self._pending: dict[int, control.Request] = {}
        self._outbox: list[bytes] = []
        self._conversations = Conversations(self.protocols, draw)
        self._closed: dict[str, Registration] = {}
        "Protocols that were on the air, for when they are again."
        self._again: dict[int, Registration] = {}
        "Requests that register protocols once more, after a session was lost."

    # --- control ---

    def request(self, request: control.Request) -> int:
        """Queue a request; its ``id`` is set here and returned."""
        request.id = self._next_id
        self._next_id += 1
        self._pending[request.id] = request
        self._outbox.append(msgspec.json.encode(request))
        return request.id

    def forget(self, request_id: int) -> None:
        """Nobody waits for this reply any more. A protocol that it would have put on the air is
        taken off again.
        """
        request = self._pending.pop(request_id, None)
        if isinstance(request, control.Register):
            name = request.protocol.name
            self._close_protocol(name, RequestError("withdrawn", "withdrawn"))
            self.request(control.Withdraw(id=0, session=request.session, name=name))

    def control_to_send(self) -> list[bytes]:
        """Control messages to go, each once."""
        outbox, self._outbox = self._outbox, []
        self._asks = False
        return outbox

    def attach(self) -> int:
        """Ask for a session."""
        request = control.Attach(id=0, name=self.name, instance=self.instance)
        self._asks = True
        self._attaching = self.request(request)
        return self._attaching

    def register(
        self, spec: control.ProtocolSpec, keep_s: float = KEEP_S
    ) -> tuple[int, Registration]:
        """Ask for a protocol. Flows may come up before the reply does. What is not confirmed is
        kept for peers that are away, ``keep_s`` seconds.

        Raises: RequestError, ``protocol_taken`` if this very session has it, ``bad_request``.
        """
        if not 0 <= keep_s <= KEEP_MOST_S:
            text = f"keep_s is {keep_s}, it may be 0 to {KEEP_MOST_S} s"
            raise RequestError("bad_request", text, protocol=spec.name)
        if spec.name in self.protocols:
            text = "this application has registered it already"
            raise RequestError("protocol_taken", text, protocol=spec.name)
        session = self.token()
        registration = Registration(spec, keep_s)
        if former := self._closed.pop(spec.name, None):
            registration.inherit(former)
        self.protocols[spec.name] = registration
        return self.request(control.Register(id=0, session=session, protocol=spec)), registration

    def subscribe(self, traffic_s: float | None = None) -> int:
        """Ask for notices, and for ``Traffic`` every ``traffic_s`` seconds; a new session asks
        again by itself.
        """
        self._traffic_s = traffic_s
        request = control.Subscribe(id=0, session=self.token(), traffic_s=traffic_s)
        return self.request(request)

    def token(self) -> str:
        """The session's token.  Raises: RequestError, ``session_lost``, while there is none."""
        if self.attached is None:
            raise RequestError("session_lost", "the node has no session for this application now")
        return self.attached.session

    def receive_control(self, raw: bytes | memoryview) -> list[Event]:
        """One message of the coordinator."""
        try:
            fields = msgspec.json.decode(raw)
            if isinstance(fields, dict) and "event" in fields:
                return self._on_event(msgspec.convert(fields, control.AnyEvent))
            return self._on_reply(msgspec.convert(fields, control.Reply))
        except msgspec.MsgspecError:
            self.ignored += 1  # of a later version, which may say more than this one
            return []

    def _on_event(self, event: control.AnyEvent) -> list[Event]:
        if isinstance(event, control.ShardUp):
            return self._shard_up(event.index, event.endpoint)
        if isinstance(event, control.Notice):
            return [Notice(event.kind, event.at, event.fields)]
        if isinstance(event, control.TrafficSeen):
            return [Traffic(event.at, event.rows, event.left_out)]
        port = self.ports.get(event.index)
        if port is None or port.endpoint != event.endpoint:
            return []
        return self._drop_port(port, "shard_down")

    def _on_reply(self, reply: control.Reply) -> list[Event]:
        request = self._pending.pop(reply.id, None)
        if request is None:
            return []
        error = None
        if body := reply.error:
            error = RequestError(body.code, body.message, protocol=body.protocol, peer=body.peer)
        events: list[Event] = [Replied(reply.id, reply.ok, error)]
        if isinstance(request, control.Attach) and error is None:
            events += self._on_attached(msgspec.convert(reply.ok, control.Attached))
        elif isinstance(request, control.Register):
            events += self._on_registered(reply, request, error)
        elif isinstance(request, control.Subscribe) and error is None:
            self._subscribed = True
            events.append(Subscribed(request.traffic_s))
        elif isinstance(request, control.Withdraw) and _off_air(error):
            events += self._close_protocol(request.name, RequestError("withdrawn", "withdrawn"))
        if error is not None and error.code == "unknown_session":
            session = getattr(request, "session", None)
            events += self.session_lost(session) if session else []
        return events

    def _on_attached(self, attached: control.Attached) -> list[Event]:
        self.attached = attached
        events: list[Event] = [Began(attached)]
        for shard in attached.shards:
            events += self._shard_up(shard.index, shard.endpoint)
        for registration in self.protocols.values():
            self.register_again(registration)
        if self._subscribed:
            self.subscribe(self._traffic_s)
        if self._lost:
            self._lost = False
            events.append(SessionRestored(attached.session))
        return events

    def register_again(self, registration: Registration) -> None:
        """Ask for a protocol that was on the air in an earlier session, unless it has been closed,
        or the present session is lost as well.
        """
        under_way = registration in self._again.values()
        if self.attached is None or under_way or registration.closed is not None:
            return
        request = control.Register(id=0, session=self.attached.session, protocol=registration.spec)
        self._again[self.request(request)] = registration

    def _on_registered(
        self, reply: control.Reply, request: control.Register, error: RequestError | None
    ) -> list[Event]:
        name = request.protocol.name
        again = self._again.pop(reply.id, None)
        if error is None:
            registration = self.protocols.get(name)
            if registration is not None:
                registration.learn(msgspec.convert(reply.ok, control.Registered))
            return []
        if error.code == "unknown_session" and again is not None:
            return []  # the session is lost once more: it will be registered in the next one
        if error.code == "busy" and again is not None:
            return [RegisterAgain(again)]
        events = self._close_protocol(name, error)
        return [*events, ProtocolLost(name, error)] if again is not None else []

    def session_lost(self, session: str | None = None) -> list[Event]:
        """The coordinator has forgotten ``session`` (default: the present one): drop all that
        belonged to it, attach and register again.
        """
        if self.attached is None and self._lost:
            self._attach_again()
            return []
        if session is not None and (self.attached is None or self.attached.session != session):
            return []
        self.attached = None
        self._lost = True
        error = RequestError("session_lost", "the node has forgotten this application's session")
        events: list[Event] = [SessionLost()]
        for request_id, request in list(self._pending.items()):
            if isinstance(request, control.Register) and request_id not in self._again:
                events += self._close_protocol(request.protocol.name, error)
            events.append(Replied(request_id, None, error))
        self._pending.clear()
        self._again.clear()
        for port in list(self.ports.values()):
            events += self._drop_port(port, "session_lost")
        self.attach()
        return events

    def _attach_again(self) -> None:
        """The coordinator answers, and there is no session yet: it has refused to begin one, or
        died over the question. If it has not, what it began expires unused.
        """
        if not self._asks:
            self._pending.pop(self._attaching or 0, None)
            self.attach()

    # --- shards ---

    def _shard_up(self, index: int, endpoint: str) -> list[Event]:
        events: list[Event] = []
        old = self.ports.get(index)
        if old is not None:
            if old.endpoint == endpoint:
                return []
            events += self._drop_port(old, "shard_down")
        port = Port(index, endpoint)
        self.ports[index] = port
        self.attach_port(port)
        return [*events, Connect(port), ShardFound(index)]

    def attach_port(self, port: Port) -> None:
        """Queue the ATTACH record."""
        if self.attached is not None and self.ports.get(port.index) is port:
            token = bytes.fromhex(self.attached.session)
            port.urgent.append(records.encode_bytes(Kind.ATTACH, 0, token))

    def _drop_port(self, port: Port, reason: str) -> list[Event]:
        del self.ports[port.index]
        events = self._conversations.port_lost(port, reason)
        return [*events, Disconnect(port), ShardLost(port.index)]

    @property
    def due(self) -> float | None:
        """When to call ``expire`` next; None when no peer is away."""
        return self._conversations.due

    def expire(self, now: float) -> list[Event]:
        """Give up peers that have been away too long at ``now`` (s, monotonic). Call it soon after
        ``PeerAway`` has come, from when the time counts, and then as ``due`` says.
        """
        return self._conversations.expire(now)

    def settle(self) -> None:
        """Count what the application has taken as consumed; call it before
        ``Port.take_messages``.
        """
        for registration in self.protocols.values():
            registration.inbox.settle()

    def receive_data(self, port: Port, message: bytes | memoryview) -> list[Event]:
        """One message of a shard."""
        events: list[Event] = []
        try:
            for record in records.split(message):
                self._on_record(port, record, events)
        except (RecordError, msgspec.MsgspecError) as error:
            text = f"shard {port.index}: {error}"
            events.append(Trouble(RequestError("bad_record", text)))
        return events

    def _on_record(self, port: Port, record: Record, events: list[Event]) -> None:
        flow = self._conversations.find(port, record.flow)
        if record.kind == Kind.DATA and flow is not None:
            self._on_data(flow, record, events)
        elif record.kind == Kind.CREDIT and flow is not None:
            flow.confirm(records.decode_position(record.body))
            events.append(CreditGrown(flow))
        elif record.kind == Kind.UP:
            events += self._on_up(port, record)
        elif record.kind == Kind.DOWN and flow is not None:
            reason = msgspec.json.decode(record.body, type=_Down).reason
            events += self._conversations.lost(flow, reason)
        elif record.kind == Kind.EPOCH and flow is not None:
            try:
                flow.meet(records.decode_epoch(record.body))
            except GapError as error:
                events.append(_gap(flow, error))
        elif record.kind == Kind.ATTACHED:
            port.attached = True
        elif record.kind == Kind.ERROR:
            events += self._on_refused(port, record)
        else:
            self.ignored += 1

    def _on_refused(self, port: Port, record: Record) -> list[Event]:
        body = msgspec.json.decode(record.body, type=control.ErrorBody)
        if body.code == "unknown_session" and not port.attached:
            return [AttachAgain(port)]
        if body.code in ("unknown_flow", "peer_down"):
            self.ignored += 1  # it went down while the record was on its way
            return []
        return [
            Trouble(RequestError(body.code, body.message, protocol=body.protocol, peer=body.peer))
        ]

    def _on_up(self, port: Port, record: Record) -> list[Event]:
        up = msgspec.json.decode(record.body, type=Up)
        registration = self.protocols.get(up.protocol)
        if registration is None:
            self.ignored += 1  # withdrawn while it came up
            return []
        return self._conversations.peer_up(port, record.flow, up, registration)

    def _on_data(self, flow: Flow, record: Record, events: list[Event]) -> None:
        registration = self.protocols[flow.protocol]
        data = records.decode_data(record.body)
        try:
            new = flow.receive(data)
        except GapError as error:
            events.append(_gap(flow, error))
            new = flow.receive(data)
        if new is not data:
            events.append(ConsumedAgain(flow.port))
        if new.payloads:
            registration.inbox.put(flow.arrivals, new)
            events.append(Received(registration))

    def close(self) -> list[Event]:
        """The application ends it: what waits never goes."""
        error = RequestError("closed", "the node is closed")
        return [
            event for name in list(self.protocols) for event in self._close_protocol(name, error)
        ]

    def _close_protocol(self, name: str, error: RequestError) -> list[Event]:
        registration = self.protocols.get(name)
        if registration is None:
            return []
        events = self._conversations.give_up_all(registration, error.code)
        del self.protocols[name]
        self._closed.pop(name, None)
        self._closed[name] = registration
        unread = sum(former.inbox.cost for former in self._closed.values())
        while len(self._closed) > _CLOSED_KEPT or unread > LEFT_BYTES_MAX:
            unread -= self._closed.pop(next(iter(self._closed))).inbox.cost
        registration.closed = error
        return [*events, Received(registration)]


def _off_air(error: RequestError | None) -> bool:
    """Whether what was to be withdrawn is: it was, or has not come on the air in this session."""
    return error is None or error.code == "unknown_protocol"


def _gap(flow: Flow, error: GapError) -> Trouble:
    return Trouble(RequestError("gap", str(error), protocol=flow.protocol, peer=flow.peer.id))


class _Down(msgspec.Struct, frozen=True):
    """Body of a DOWN record."""

    reason: str
