"""A coordinator and shards that do what a test tells them: ROUTERs in a thread.

Everything that touches sockets runs in the thread; ``FakeNode.do`` hands it a function.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import zmq

from dp2p import control, records
from dp2p.records import Epoch, Kind, Position

T = TypeVar("T")
Socket = zmq.Socket[bytes]

# What the node answers to ``dial`` and ``find``.
DIALLED: dict[str, Any] = {
    "peer": "anna", "key": "kanna", "endpoint": "tcp4://192.0.2.1:1", "mode": "resume",
    "fell_back": True, "trust": "none", "introducers": 2,
}  # fmt: skip
INTRODUCED: dict[str, Any] = {
    "key": "kbob", "node": "bob", "seq": 7, "endpoints": ["tcp4://192.0.2.2:1"],
    "protocols": ["chat"], "text": "dp2p-record:...",
}  # fmt: skip


class Shard:
    """One data socket; used in the thread only."""

    def __init__(self, node: FakeNode, index: int, life: int) -> None:
        self.node = node
        self.index = index
        self.endpoint = f"ipc://{node.run_dir}/shard-{index}-{life}.sock"
        self.router = node.open_router(self.endpoint)
        self.sessions: dict[str, bytes] = {}
        self.next_flow = 1
        self.flows: dict[int, Flow] = {}

    def handle(self, identity: bytes, message: bytes) -> None:
        """One message of an application."""
        self.node.counts["messages"] += 1
        for record in records.split(message):
            if record.kind == Kind.ATTACH:
                self._attach(identity, bytes(record.body[:16]).hex())
            elif record.flow not in self.flows:
                body = {"code": "unknown_flow", "message": "no such flow"}
                error = records.encode_json(Kind.ERROR, record.flow, body)
                self.router.send_multipart([identity, error])
            elif record.kind == Kind.DATA:
                self._data(self.flows[record.flow], record.body)
            elif record.kind == Kind.EPOCH:
                self.flows[record.flow].epoch = records.decode_epoch(record.body)
            elif record.kind == Kind.CONSUMED:
                self.node.counts["consumed records"] += 1
                self.flows[record.flow].consumed = records.decode_position(record.body)

    def _attach(self, identity: bytes, session: str) -> None:
        if self.node.refuse_attach:
            self.node.refuse_attach -= 1
            body: dict[str, Any] = {"code": "unknown_session", "message": "not yet"}
            self.router.send_multipart([identity, records.encode_json(Kind.ERROR, 0, body)])
            return
        self.sessions[session] = identity
        body = {"shard": self.index}
        self.router.send_multipart([identity, records.encode_json(Kind.ATTACHED, 0, body)])
        for name, owner in self.node.protocols.items():
            if owner == session:
                self.bring_up(name)

    def bring_up(self, protocol: str) -> None:
        """UP for every peer that this shard carries, once."""
        identity = self.sessions.get(self.node.protocols[protocol])
        present = {(flow.peer, flow.protocol, flow.identity) for flow in self.flows.values()}
        for peer, index in self.node.carried.items():
            if index == self.index and (peer, protocol, identity) not in present:
                self.up(peer, protocol)

    def up(self, peer: str, protocol: str) -> Flow:
        """A peer comes up."""
        identity = self.sessions.get(self.node.protocols[protocol])
        flow = Flow(self, identity or b"", self.next_flow, peer, protocol)
        if identity is not None:
            self.flows[flow.number] = flow
            self.next_flow += 1
            flow.send(records.encode_json(Kind.UP, flow.number, flow.up_body()))
        return flow

    def _data(self, flow: Flow, body: memoryview) -> None:
        data = records.decode_data(body)
        flow.sent += len(data.payloads)
        flow.sent_bytes += data.cost
        assert flow.sent_bytes <= flow.granted, "sent beyond credit"
        if self.node.keep:
            flow.payloads += data.payloads
            flow.types += data.types
        reply = b""
        if self.node.auto_credit:
            reply = flow.credit_record()
        if self.node.echo:
            reply += records.encode_data(flow.number, data.payloads, data.types)
        if reply:
            flow.send(reply)


class Flow:
    """One flow as the shard sees it; used in the thread only."""

    def __init__(
        self, shard: Shard, identity: bytes, number: int, peer: str, protocol: str
    ) -> None:
        self.shard = shard
        self.identity = identity
        self.number = number
        self.peer = peer
        self.protocol = protocol
        self.sent = self.sent_bytes = 0
        self.granted = shard.node.window
        self.payloads: list[bytes] = []
        self.types: list[int] = []
        self.consumed = Position(0, 0, 0)
        self.epoch: Epoch | None = None

    def send(self, message: bytes) -> None:
        """To the application."""
        self.shard.router.send_multipart([self.identity, message])

    def up_body(self) -> dict[str, Any]:
        """The UP record's JSON."""
        node = self.shard.node
        return {
            "protocol": self.protocol, "version": 1, "peer": self.peer, "key": "k" + self.peer,
            "trust": "none", "introducers": 0, "endpoint": "tcp4://127.0.0.1:1", "direction": "in",
            "max_datagram": node.max_datagram, "types": 100, "window": node.window, "mode": "ik",
            "application": node.application,
        }  # fmt: skip

    def credit_record(self, datagrams: int | None = None, size: int | None = None) -> bytes:
        """Confirm up to a position, by default all."""
        at = Position(
            self.shard.node.window,
            self.sent if datagrams is None else datagrams,
            self.sent_bytes if size is None else size,
        )
        self.granted = at.bytes + at.window
        return records.encode_position(Kind.CREDIT, self.number, at)

    def down(self, reason: str = "peer_closed") -> None:
        """The peer goes."""
        del self.shard.flows[self.number]
        self.send(records.encode_json(Kind.DOWN, self.number, {"reason": reason}))


class FakeNode:
    """The thread. Attributes may be set before applications attach, or through ``do``."""

    def __init__(self, shards: int = 1, *, heartbeat_s: float = 0.02) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="dp2p-")
        self.run_dir = Path(self._directory.name)
        self.heartbeat_s = heartbeat_s
        self.carried: dict[str, int] = {"anna": 0}
        "Peers, and the shard that carries each."
        self.window = 1 << 20
        self.max_datagram = 1 << 20
        self.application: str | None = "0123456789abcdef"
        "The life of the peers' applications."
        self.auto_credit = self.keep = self.echo = False
        self.silent = False
        "Answer no heartbeats."
        self.refuse_attach = 0
        "So many ATTACH records find a shard that does not know the session yet."
        self.busy = 0
        "So many requests to register are refused as the node is busy."
        self.sessions: dict[str, bytes] = {}
        self.protocols: dict[str, str] = {}
        self.subscribed: set[str] = set()
        self.requests: list[control.Request] = []
        self.counts: Counter[str] = Counter()
        self._context: zmq.Context[Socket] = zmq.Context()
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = (
            queue.SimpleQueue()
        )
        self._control = self.open_router(f"ipc://{self.run_dir}/control.sock")
        self.shards = [Shard(self, index, 0) for index in range(shards)]
        self._bell = self._context.socket(zmq.PAIR)
        self._bell.bind("inproc://bell")
        self._rung = self._context.socket(zmq.PAIR)
        self._rung.connect("inproc://bell")
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running = False
        self._bell.send(b"")
        self._thread.join()
        self._context.destroy(linger=0)
        self._directory.cleanup()

    def do(self, task: Callable[[], T]) -> T:
        """Run ``task`` in the thread and return what it returns."""
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks.put((task, answer))
        self._bell.send(b"")
        result = answer.get(timeout=10)
        if isinstance(result, BaseException):
            raise result
        done: T = result
        return done

    def flow(self, protocol: str = "chat", peer: str = "anna") -> Flow:
        """A flow that is up."""
        return next(
            flow
            for shard in self.shards
            for flow in shard.flows.values()
            if (flow.protocol, flow.peer) == (protocol, peer)
        )

    def deliver(self, *payloads: bytes, type: int = 0, protocol: str = "chat") -> None:  # noqa: A002
        """Datagrams from the peer."""

        def task() -> None:
            flow = self.flow(protocol)
            flow.send(records.encode_data(flow.number, payloads, type))

        self.do(task)

    def confirm(self, datagrams: int | None = None, size: int | None = None) -> None:
        """The peer's application has consumed so much."""

        def task() -> None:
            flow = self.flow()
            flow.send(flow.credit_record(datagrams, size))

        self.do(task)

    def reconnect(self, protocol: str = "chat") -> None:
        """The connection to the peer is lost, and made again."""

        def task() -> None:
            flow = self.flow(protocol)
            flow.down("eof")
            flow.shard.up(flow.peer, protocol)

        self.do(task)

    def restart_shard(self, index: int, life: int = 1) -> None:
        """The shard dies, and another takes its place."""

        def task() -> None:
            old = self.shards[index]
            old.router.close(linger=0)
            self._announce(control.ShardDown(index, old.endpoint))
            self.shards[index] = Shard(self, index, life)
            self._announce(control.ShardUp(index, self.shards[index].endpoint))

        self.do(task)

    def forget(self) -> None:
        """The coordinator loses all sessions."""

        def task() -> None:
            self.sessions.clear()
            self.protocols.clear()
            self.subscribed.clear()
            for shard in self.shards:
                shard.flows.clear()

        self.do(task)

    def notice(self, kind: str, **fields: str | float | bool | None) -> None:
        """An event for those who have subscribed."""

        def task() -> None:
            event = control.Notice(kind, 1700000000.5, fields)
            for session in self.subscribed:
                self._tell(self.sessions[session], event)

        self.do(task)

    # --- below: the thread only ---

    def open_router(self, endpoint: str) -> Socket:
        """A bound ROUTER without a high-water mark."""
        router = self._context.socket(zmq.ROUTER)
        router.set(zmq.SNDHWM, 0)
        router.set(zmq.RCVHWM, 0)
        router.set(zmq.ROUTER_MANDATORY, 1)
        router.bind(endpoint)
        return router

    def _run(self) -> None:
        while self._running:
            sockets = {self._control: None, **{shard.router: shard for shard in self.shards}}
            poller = zmq.Poller()
            for socket in (self._rung, *sockets):
                poller.register(socket, zmq.POLLIN)
            for socket, _ in poller.poll(10_000):
                if socket is self._rung:
                    socket.recv()
                    self._work()
                elif not socket.closed:
                    self._serve(socket, sockets[socket])

    def _serve(self, socket: zmq.Socket[bytes], shard: Shard | None) -> None:
        identity, message = socket.recv_multipart()
        try:
            if shard is None:
                self._on_control(identity, message)
            else:
                shard.handle(identity, message)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.counts["asked and gone"] += 1  # as a node counts them

    def _work(self) -> None:
        while not self._tasks.empty():
            task, answer = self._tasks.get()
            try:
                answer.put(task())
            except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                answer.put(error)

    def _announce(self, event: control.AnyEvent) -> None:
        for identity in self.sessions.values():
            self._tell(identity, event)

    def _tell(self, identity: bytes, event: control.AnyEvent) -> None:
        self._control.send_multipart([identity, msgspec.json.encode(event)])

    def _on_control(self, identity: bytes, message: bytes) -> None:
        request = msgspec.json.decode(message, type=control.AnyRequest)
        if self._is_beat(identity, request):
            self.counts["heartbeats"] += 1
            if self.silent:
                return
        else:
            self.requests.append(request)
        answer = self._answer(identity, request)
        if answer is None:
            return
        if isinstance(answer, control.ErrorBody):
            reply = control.Reply(id=request.id, error=answer)
        else:
            reply = control.Reply(id=request.id, ok=answer)
        self._control.send_multipart([identity, msgspec.json.encode(reply)])
        if isinstance(request, control.Register) and not isinstance(answer, control.ErrorBody):
            for shard in self.shards:
                shard.bring_up(request.protocol.name)

    def _is_beat(self, identity: bytes, request: control.AnyRequest) -> bool:
        """A subscription is renewed as a heartbeat, from the socket of heartbeats."""
        if isinstance(request, control.Subscribe):
            return self.sessions.get(request.session) != identity
        return isinstance(request, control.Heartbeat)

    def _answer(self, identity: bytes, request: control.AnyRequest) -> Any:
        session = getattr(request, "session", None)
        if session is not None and session not in self.sessions:
            return control.ErrorBody("unknown_session", "no such session")
        match request:
            case control.Attach():
                return self._attach(identity)
            case control.Register() if self.busy:
                self.busy -= 1
                return control.ErrorBody("busy", "later")
            case control.Register(protocol=spec):
                if self.protocols.get(spec.name, request.session) != request.session:
                    return control.ErrorBody("protocol_taken", "in use", protocol=spec.name)
                self.protocols[spec.name] = request.session
                return control.Registered(len(self.protocols) - 1, spec.window or 1 << 20)
            case control.Detach():
                kept = {k: v for k, v in self.protocols.items() if v != request.session}
                self.protocols = kept
                return {}
            case control.Subscribe():
                self.subscribed.add(request.session)
                return {}
            case _:
                return self._answer_anybody(request)

    def _answer_anybody(self, request: control.AnyRequest) -> Any:
        """What needs no session."""
        match request:
            case control.Status():
                return {"node": "me"}
            case control.Peers():
                return {"peers": [{"peer": peer} for peer in self.carried]}
            case control.Dial(address="silence"):
                return None
            case control.Dial(address=address):
                return DIALLED | {"endpoint": address}
            case control.Known(peer=peer):
                return {"node": peer, "connected": peer in self.carried}
            case control.Find():
                return {"records": [INTRODUCED], "asked": 1}
            case _:
                return {}

    def _attach(self, identity: bytes) -> control.Attached:
        self.counts["sessions"] += 1
        session = f"{self.counts['sessions']:032x}"
        self.sessions[session] = identity
        shards = [control.ShardEndpoint(shard.index, shard.endpoint) for shard in self.shards]
        return control.Attached(session, "me", "mykey", shards, self.heartbeat_s)
