"""The coordinator's end of the control socket: requests of applications and their replies.

Until a restarted coordinator has heard its shards, what needs their state waits here, so that no
session is called unknown that a shard still serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from dp2p import control
from dp2p.coordinator.registry import HEARTBEAT_S, Registry, Session
from dp2p.coordinator.router import Router
from dp2p.errors import AddressError, RequestError
from dp2p.logs import Log

MESSAGE_MAX = 1 << 20
WAITING_MAX = 10_000  # requests kept until the node is settled

log = Log("coordinator.applications")

Later = control.Dial | control.Find | control.Traffic | control.Lookup | control.AskContact
"Requests whose answers take their time."
Answer = Callable[[Any], None]
"Takes a reply's ``ok``, or the RequestError that stands in its place."


class Desk(Protocol):
    """What the node does for applications."""

    def status(self) -> dict[str, Any]:
        """The node's state."""

    def peer_list(self) -> list[dict[str, object]]:
        """Connected peers."""

    def endpoints(self) -> list[control.ShardEndpoint]:
        """The shards' data sockets."""

    def identity(self) -> tuple[str, str]:
        """Node-ID and public key."""

    def dial(self, address: str, timeout_s: float, answer: Answer) -> None:
        """Connect to an address.  Raises: AddressError."""

    def known(self, peer: str) -> dict[str, Any]:
        """What is remembered of a peer.  Raises: RequestError."""

    def find(self, request: control.Find, answer: Answer) -> None:
        """Ask connected peers for others.  Raises: RequestError."""

    def limit(self, request: control.Limit) -> dict[str, Any]:
        """Change a cap.  Raises: RequestError."""

    def limits(self) -> list[dict[str, Any]]:
        """All caps."""

    def traffic(self, request: control.Traffic, answer: Answer) -> None:
        """How flows stand.  Raises: RequestError."""

    def lookup(self, request: control.Lookup, answer: Answer) -> None:
        """Walk the network towards a node-ID.  Raises: RequestError."""

    def table(self) -> dict[str, Any]:
        """Discovery's table.  Raises: RequestError."""

    def ask_contact(self, request: control.AskContact, answer: Answer) -> None:
        """Ask one node over discovery.  Raises: AddressError, RequestError."""

    def watch(self, session: str, every_s: float | None) -> None:
        """Tell a session how its flows stand, from now on and this often; None: no longer."""

    def disconnect(self, peer: str) -> None:
        """Close the connection to a peer.  Raises: RequestError."""

    def registry_changed(self) -> None:
        """Sessions or protocols are not what they were."""


class Applications:
    """All applications by session."""

    def __init__(
        self, router: Router, registry: Registry, desk: Desk, clock: Callable[[], float]
    ) -> None:
        self._router = router
        self._registry = registry
        self._desk = desk
        self._clock = clock
        self._identities: dict[str, bytes] = {}
        self._subscribed: set[str] = set()
        self._waiting: list[tuple[bytes, control.AnyRequest]] | None = []
        "None once the node is settled."

    async def run(self) -> None:
        """Read requests, for ever."""
        await self._router.serve(self.received, self.given_up)

    def received(self, identity: bytes, frame: bytes) -> None:
        """One request."""
        try:
            request = _requests.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._router.counters.malformed += 1
            self._refuse(identity, _id_of(frame), RequestError("bad_request", str(error)))
            return
        if self._waiting is None or isinstance(request, control.Status):
            self._serve(identity, request)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((identity, request))
        else:
            self._refuse(identity, request.id, RequestError("busy", "the node is starting"))

    def settled(self) -> None:
        """The shards have said what they own: serve what waited."""
        waiting, self._waiting = self._waiting or [], None
        for identity, request in waiting:
            self._serve(identity, request)

    def tell_all(self, event: control.AnyEvent) -> None:
        """Send an event to every session."""
        frame = _encoder.encode(event)
        for identity in list(self._identities.values()):
            self._router.send(identity, frame)

    def tell_subscribed(self, event: control.AnyEvent) -> None:
        """Send an event to the sessions that asked for it."""
        frame = _encoder.encode(event)
        self._subscribed &= self._identities.keys()
        for session in self._subscribed:
            self._router.send(self._identities[session], frame)

    def tell(self, session: str, event: control.TrafficSeen) -> None:
        """Send a session how things stand, if it is still there. One that has not read what it was
        sent before is left out: it will want to know how they stand then.
        """
        identity = self._identities.get(session)
        if identity is not None and not self._router.behind(identity):
            self._router.send(identity, _encoder.encode(event))

    def expire(self, now: float) -> None:
        """End sessions that have been silent for too long."""
        over = self._registry.expire(now)
        for session in over:
            self._identities.pop(session.token, None)
            log.warning("application silent, its session ends", app=session.name)
        if over:
            self._desk.registry_changed()

    def given_up(self, identity: bytes) -> None:
        """Somebody does not read, and has missed something: its sessions end."""
        over = [token for token, one in self._identities.items() if one == identity]
        ended = [self._registry.name_of(token) for token in over]
        for token in over:
            self._registry.end(token)
            del self._identities[token]
        log.warning("application does not read, given up", apps=ended)
        self._desk.registry_changed()

    # --- requests ---

    def _serve(self, identity: bytes, request: control.AnyRequest) -> None:
        try:
            if isinstance(request, Later):
                self._later(identity, request)
                return
            self._reply(identity, control.Reply(id=request.id, ok=self._result(identity, request)))
        except RequestError as error:
            self._refuse(identity, request.id, error)
        finally:
            self._desk.registry_changed()

    def _result(self, identity: bytes, request: control.AnyRequest) -> Any:
        """Of sessions; the rest is the node's."""
        match request:
            case control.Subscribe():
                self._known(identity, request.session)
                self._subscribed.add(request.session)
                self._desk.watch(request.session, request.traffic_s)
            case control.Attach():
                return self._attach(identity, request)
            case control.Heartbeat():
                self._known(identity, request.session)
            case control.Register():
                return self._register(identity, request)
            case control.Withdraw():
                self._known(identity, request.session)
                self._registry.withdraw(request.session, request.name)
                log.info("protocol off the air", protocol=request.name)
            case control.Detach():
                self._detach(identity, request)
            case _:
                return self._of_node(request)
        return {}

    def _of_node(self, request: control.AnyRequest) -> Any:
        match request:
            case control.Status():
                return self._desk.status()
            case control.Peers():
                return {"peers": self._desk.peer_list()}
            case control.Known():
                return self._desk.known(request.peer)
            case control.Table():
                return self._desk.table()
            case control.Limits():
                return {"limits": self._desk.limits()}
            case control.Limit():
                return self._limit(request)
            case control.Disconnect():
                self._desk.disconnect(request.peer)
        return {}

    def _attach(self, identity: bytes, request: control.Attach) -> control.Attached:
        if request.version != control.API_VERSION:
            raise RequestError(
                "bad_version", f"this node speaks version {control.API_VERSION} of the control API"
            )
        session = self._registry.attach(request.name, self._clock(), request.instance)
        self._identities[session.token] = identity
        log.info("application attached", app=session.name)
        node, key = self._desk.identity()
        return control.Attached(session.token, node, key, self._desk.endpoints(), HEARTBEAT_S)

    def _limit(self, request: control.Limit) -> dict[str, Any]:
        limit = self._desk.limit(request)
        log.info("limit set", **limit)
        return limit

    def _register(self, identity: bytes, request: control.Register) -> control.Registered:
        session = self._known(identity, request.session)
        protocol = self._registry.register(request.session, request.protocol)
        log.info("protocol on the air", protocol=request.protocol.name, app=session.name)
        return control.Registered(protocol.numbers[request.session], protocol.spec.window)

    def _detach(self, identity: bytes, request: control.Detach) -> None:
        session = self._known(identity, request.session)
        self._registry.end(request.session)
        self._identities.pop(request.session, None)
        log.info("application detached", app=session.name)

    def _known(self, identity: bytes, token: str) -> Session:
        """The session, which lives and now comes from ``identity``.

        An application that reconnected may have missed events, so it is told where shards are.
        """
        session = self._registry.touch(token, self._clock())
        if self._identities.get(token) != identity:
            self._identities[token] = identity
            for shard in self._desk.endpoints():
                event = control.ShardUp(index=shard.index, endpoint=shard.endpoint)
                self._router.send(identity, _encoder.encode(event))
        return session

    def _later(self, identity: bytes, request: Later) -> None:
        """A request whose answer takes its time."""

        def answer(result: Any) -> None:
            if isinstance(result, RequestError):
                self._refuse(identity, request.id, result)
            else:
                self._reply(identity, control.Reply(id=request.id, ok=result))

        try:
            match request:
                case control.Find():
                    self._desk.find(request, answer)
                case control.Traffic():
                    self._desk.traffic(request, answer)
                case control.Lookup():
                    self._desk.lookup(request, answer)
                case control.AskContact():
                    self._desk.ask_contact(request, answer)
                case control.Dial():
                    self._desk.dial(request.address, request.timeout_s, answer)
        except AddressError as error:
            raise RequestError("bad_address", str(error)) from None

    def _refuse(self, identity: bytes, number: int, error: RequestError) -> None:
        body = control.ErrorBody(error.code, error.message, error.protocol, error.peer)
        self._reply(identity, control.Reply(id=number, error=body))

    def _reply(self, identity: bytes, reply: control.Reply) -> None:
        self._router.send(identity, _encoder.encode(reply))


class _OnlyId(msgspec.Struct):
    id: int = -1


_encoder = msgspec.json.Encoder()
_requests = msgspec.json.Decoder(control.AnyRequest)
_only_id = msgspec.json.Decoder(_OnlyId)


def _id_of(frame: bytes) -> int:
    """The ``id`` of a request that cannot be read otherwise; -1 when not even that can."""
    try:
        return _only_id.decode(frame).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return -1
