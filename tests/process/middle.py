"""Somebody on the way between two nodes, who has a key of his own and none of theirs. He passes
bytes on, breaks them, sends them back, or answers in the other's place, alone or with a link of his
own to who was meant. He records what passes, and ``repeat`` sends it again.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from dp2p import ids, node_record, noise, records
from dp2p.errors import TransportError
from dp2p.hello import Ack, ControlType, Hello, Offer, Protocols, decode_protocols
from dp2p.transport import PRODUCE_MIN, Event, EventKind, FlowConfig, Node, NodeConfig
from process import nodes
from process.fakes import Waiting
from wire_noise import to_x25519

LOOK_S = 0.02  # between two looks at whether it is over
PATIENCE_S = 10.0  # for whoever is really dialled to answer the middle
CHUNK = 65536
WINDOW = 1 << 21

Place = tuple[str, int]


class Way(Enum):
    """What becomes of the next connections."""

    PASS = auto()
    "Bytes are passed on as they are."
    BREAK = auto()
    "One bit of the dialler's first message is flipped, then bytes are passed on."
    REFLECT = auto()
    "The dialler gets back what it sends."
    ANSWER = auto()
    "The middle shakes hands itself, and that is all."
    RELAY = auto()
    """The middle dials who was meant, shakes hands with both, and tells each what the other says:
    its hello, and the datagrams of one protocol, which it reads."""


@dataclass(slots=True)
class Passed:
    """What went over one connection that was passed on, or sent back."""

    flights: list[bytes] = field(default_factory=list)
    "In turn; the dialler's come first. A side's flight lasts until the other says something."

    def add(self, from_dialler: bool, data: bytes) -> None:
        """Some more bytes."""
        if not self.flights and not from_dialler:
            self.flights.append(b"")
        if len(self.flights) % 2 == from_dialler:
            self.flights[-1] += data
        else:
            self.flights.append(data)

    @property
    def first(self) -> bytes:
        """The first message."""
        return self.flights[0] if self.flights else b""

    @property
    def reply(self) -> bytes:
        """The second message; empty when none came."""
        return self.flights[1] if len(self.flights) > 1 else b""


class Middle:
    """Listens in threads of its own until the end of the block."""

    def __init__(self, target: Place | None = None, network: str = "dp2p") -> None:
        """``target``: who is dialled really; may be said later."""
        self.target = target
        self.way = Way.PASS
        self.flip = 0
        "The bit that BREAK flips: 8 to a byte, the lowest first."
        self.protocol = "chat"
        "That which RELAY relays."
        self.passed: list[Passed] = []
        "All connections by PASS, BREAK and REFLECT, in order."
        self.met: list[str] = []
        "Public keys of those that dialled and shook hands with the middle itself."
        self.heard: list[bytes] = []
        "Payloads that it could read."
        self.seed = secrets.token_bytes(32)
        self.key = ids.to_text(noise.identity_public(self.seed))
        self.network = network
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LOOK_S)
        self.place: Place = self._listener.getsockname()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def id(self) -> str:
        """Its node-ID."""
        return ids.node_id_text(self.key)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"tcp4://{self.place[0]}:{self.place[1]}"

    def pinned(self, key: str) -> str:
        """The address of somebody with that key, as if he were where the middle is."""
        return f"dp2p://{key}@{self.place[0]}:{self.place[1]}"

    def readable(self, wanted: Iterable[bytes]) -> list[bytes]:
        """Which of these stand in what was passed on, in either direction."""
        streams = [b"".join(one.flights[side::2]) for one in self.passed for side in (0, 1)]
        return [one for one in wanted if any(one in stream for stream in streams)]

    def close(self) -> None:
        """End all of it."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._listener.close()

    # --- below: in its threads ---

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._start(self._serve, connection, self.way)

    def _serve(self, connection: socket.socket, way: Way) -> None:
        with connection:
            match way:
                case Way.PASS | Way.BREAK:
                    with self._dial() as onward:
                        self._pass(connection, onward, self.flip if way is Way.BREAK else None)
                case Way.REFLECT:
                    self._reflect(connection)
                case Way.ANSWER:
                    hello = Hello(instance=secrets.token_hex(8))
                    self._talk(_End(connection, self, hello=msgspec.json.encode(hello)))
                case Way.RELAY:
                    with self._dial() as onward:
                        self._relay(connection, onward)

    def _dial(self) -> socket.socket:
        assert self.target is not None, "nobody said who is meant"
        return socket.create_connection(self.target)

    def _readable(self, *sources: socket.socket) -> list[socket.socket]:
        return select.select(sources, [], [], LOOK_S)[0]

    def _pass(self, dialler: socket.socket, answerer: socket.socket, flip: int | None) -> None:
        """Both ways, until one side closes."""
        passed, left = Passed(), flip
        self.passed.append(passed)
        while not self._over.is_set():
            for source in self._readable(dialler, answerer):
                data = _read(source)
                if not data:
                    return
                passed.add(source is dialler, data)
                if source is dialler and left is not None:
                    data, left = _flipped(data, left)
                _write(answerer if source is dialler else dialler, data)

    def _reflect(self, dialler: socket.socket) -> None:
        passed = Passed()
        self.passed.append(passed)
        while not self._over.is_set():
            if self._readable(dialler):
                data = _read(dialler)
                if not data:
                    return
                passed.add(True, data)
                _write(dialler, data)

    def _relay(self, dialler: socket.socket, answerer: socket.socket) -> None:
        """Who is meant comes first: what it says of itself is what the dialler is to hear."""
        far = _End(answerer, self, initiator=True, protocol=self.protocol)
        waiting = Waiting(PATIENCE_S)
        while far.hello is None and waiting.left_ms():
            if not far.turn(bool(self._readable(answerer))):
                return
        assert far.hello is not None, "who is meant does not answer"
        near = _End(dialler, self, hello=far.hello, protocol=self.protocol)
        near.other, far.other = far, near
        self._talk(near, far)

    def _talk(self, *ends: _End) -> None:
        """Keep the links going, until one has ended."""
        while not self._over.is_set():
            readable = self._readable(*(end.stream for end in ends))
            if not all(end.turn(end.stream in readable) for end in ends):
                return


@contextlib.contextmanager
def between(target: Place | None = None) -> Iterator[Middle]:
    """A middle before ``target``, until the end of the block."""
    middle = Middle(target)
    try:
        yield middle
    finally:
        middle.close()


class _End:
    """A link of the middle's own: as a node's, but for who is behind it."""

    def __init__(
        self,
        stream: socket.socket,
        middle: Middle,
        *,
        initiator: bool = False,
        hello: bytes | None = None,
        protocol: str | None = None,
    ) -> None:
        self.stream = stream
        self._middle = middle
        self.node = Node(middle.seed, NodeConfig(network=middle.network))
        self.node.set_hello(hello or msgspec.json.encode(Hello(instance=secrets.token_hex(8))))
        self.link = self.node.link_new(initiator=initiator, now_ms=_now_ms())
        self.hello: bytes | None = None
        "What the peer says of itself, once it has shaken hands."
        self.other: _End | None = None
        "Who is told what comes here."
        self._offers = [_offer(protocol)] if protocol else []
        self._sink = self.node.sink_open()
        self._flow: int | None = None
        self._early: list[tuple[list[bytes], Sequence[int]]] = []
        "What is to be sent, before there was a flow."
        self._kept: list[bytes] = []
        "What the node may still read; there is not much, so it is never let go."
        self._inbox = bytearray()

    def turn(self, readable: bool) -> bool:
        """Read what there is and say what is to be said; False when the link has ended."""
        if readable:
            data = _read(self.stream)
            if not data:
                return False
            self._inbox += data
        try:
            while self._step():
                pass
            while out := self.node.produce(self.link, PRODUCE_MIN, _now_ms()):
                _write(self.stream, out)
        except TransportError:
            return False
        return True

    def _step(self) -> bool:
        """Whether anything came of what was read."""
        used = self.node.receive(self.link, self._inbox, _now_ms())
        del self._inbox[:used]
        events = self.node.events()
        for event in events:
            self._handle(event)
        self.node.events_done()
        self.node.collect()
        for _, message in self.node.outputs():
            self._deliver(bytes(message))
        return bool(used or events)

    def _handle(self, event: Event) -> None:
        match event.kind:
            case EventKind.TICKET:
                self.node.ticket(self.link, None, None)
            case EventKind.READY:
                info = self.node.link(self.link)
                if not info.initiator:
                    self._middle.met.append(ids.to_text(info.key))
                self.hello = event.data
                protocols = Protocols(generation=1, protocols=self._offers)
                self.node.admit(self.link, msgspec.json.encode(protocols))
            case EventKind.CONTROL if event.type == ControlType.PROTOCOLS:
                self._join(decode_protocols(event.data))

    def _join(self, theirs: Protocols) -> None:
        """Speak what is relayed with a peer that speaks it."""
        ack = msgspec.json.encode(Ack(generation=theirs.generation))
        self.node.control(self.link, ControlType.ACK, ack)
        common = [
            (mine, its)
            for mine in self._offers
            for its in theirs.protocols
            if mine.name == its.name and self._flow is None
        ]
        for mine, its in common:
            config = FlowConfig(
                sink=self._sink,
                number=mine.number,
                peer_number=its.number,
                max_datagram=min(mine.max_datagram, its.max_datagram),
                types=min(mine.types, its.types),
                window=mine.window,
                peer_window=its.window,
            )
            self._flow = self.node.flow_open(self.link, config)
            for payloads, types in self._early:
                self.tell(payloads, types)

    def _deliver(self, message: bytes) -> None:
        for record in records.split(message):
            if record.kind == records.Kind.DATA:
                payloads, types, _ = records.decode_data(record.body)
                self._middle.heard += payloads
                if self.other is not None:
                    self.other.tell(payloads, types)

    def tell(self, payloads: list[bytes], types: Sequence[int]) -> None:
        """Send datagrams, as soon as the peer takes them."""
        if self._flow is None:
            self._early.append((payloads, types))
            return
        self._kept.append(records.encode_data(self._flow, payloads, types))
        self.node.ingest(self._sink, len(self._kept), self._kept[-1])


def _offer(name: str) -> Offer:
    return Offer(
        number=7, name=name, versions=[1], max_datagram=1 << 20, types=65536, window=WINDOW
    )


def marks(*whose: nodes.Node) -> list[bytes]:
    """What would show that bytes are readable, or whose they are."""
    found = [b'"instance"', b'"listen"', b'"protocols"', b'"generation"', b'"record"', b"tcp4://"]
    for node in whose:
        key = ids.from_text(node.identity.key)
        record = node.until(lambda n=node: n.status()["record"], "its record")  # type: ignore[misc]
        found += [key, ids.node_id(key), to_x25519(key), node_record.from_text(record)[:32]]
        found += [node.identity.key.encode(), node.id.encode()]
    return found


# --- repeating ---


def repeat(place: Place, firsts: Sequence[bytes], seconds: float = 20.0) -> list[bytes]:
    """Send each of ``firsts`` on a connection of its own, all at the same time, and wait until the
    other side has hung up on all of them; what each got before that.
    """
    waiting, got = Waiting(seconds), [b""] * len(firsts)
    with contextlib.ExitStack() as stack:
        poller, left = select.poll(), {}
        for number, first in enumerate(firsts):
            stream = stack.enter_context(socket.create_connection(place, seconds))
            poller.register(stream, select.POLLIN)
            left[stream.fileno()] = (number, stream)
            _write(stream, first)
        while left:
            ready = poller.poll(waiting.left_ms())
            assert ready, f"{len(left)} were not hung up on in {seconds} s"
            for descriptor, _ in ready:
                number, stream = left[descriptor]
                data = _read(stream)
                got[number] += data
                if not data:
                    poller.unregister(descriptor)
                    del left[descriptor]
    return got


def _read(source: socket.socket) -> bytes:
    try:
        return source.recv(CHUNK)
    except OSError:
        return b""


def _write(target: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        target.sendall(data)


def _flipped(data: bytes, bit: int) -> tuple[bytes, int | None]:
    """``data`` with that bit of it flipped, or how many bits further it stands."""
    at, which = divmod(bit, 8)
    if at >= len(data):
        return data, bit - 8 * len(data)
    return data[:at] + bytes([data[at] ^ 1 << which]) + data[at + 1 :], None


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
