"""Two links joined in memory, in virtual time: the transport without sockets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from dp2p import records
from dp2p.errors import TransportError
from dp2p.transport import (
    PRODUCE_MIN,
    Event,
    EventKind,
    FlowConfig,
    Known,
    Node,
    NodeConfig,
    Priority,
)

SEED_A = bytes(range(32))
SEED_B = bytes(range(32, 64))
CAPACITY = 4 * PRODUCE_MIN


def seeded_random(seed: int) -> Callable[[int], bytes]:
    """Repeatable "random" bytes: BLAKE2b in counter mode."""
    counter = 0

    def draw(length: int) -> bytes:
        nonlocal counter
        out = b""
        while len(out) < length:
            counter += 1
            out += hashlib.blake2b(b"%d %d" % (seed, counter)).digest()
        return out[:length]

    return draw


class Side:
    """One node with one link and one application."""

    def __init__(self, seed: bytes, *, initiator: bool, config: NodeConfig, draw: int) -> None:
        self.node = Node(seed, config, random=seeded_random(draw))
        self.node.set_hello(b"{}")
        self.sink = self.node.sink_open()
        self.initiator = initiator
        self.link = 0
        self.inbox = bytearray()
        self.events: list[Event] = []
        self.records: list[tuple[int, int, Any]] = []
        self.token = 0
        self.kept: dict[int, bytes] = {}
        self.tickets: dict[bytes, tuple[bytes, bytes]] = {}
        "Psk and the peer's key by name, for inbound handshakes. Each is given out once."

    def ingest(self, message: bytes) -> None:
        """Hand a message of the application to the node."""
        self.token += 1
        if self.node.ingest(self.sink, self.token, message):
            self.kept[self.token] = message

    def consume(self, flow: int, datagrams: int, size: int) -> None:
        """Tell the node what the application has consumed, absolutely."""
        position = records.Position(0, datagrams, size)
        self.ingest(records.encode_position(records.Kind.CONSUMED, flow, position))

    def payloads(self, flow: int) -> list[bytes]:
        """Every payload that came on ``flow`` so far."""
        out: list[bytes] = []
        for kind, of, body in self.records:
            if kind == records.Kind.DATA and of == flow:
                out += body[0]
        return out

    def gather(self) -> None:
        """Events, released tokens and outputs of the last step."""
        events = self.node.events()
        for event in events:
            if event.kind == EventKind.TICKET:
                psk, key = self.tickets.pop(event.data, (None, None))
                self.node.ticket(event.link, psk, key)
        self.events += events
        self.node.events_done()
        for token in self.node.released():
            del self.kept[token]
        self.node.collect()
        for _, message in self.node.outputs():
            for record in records.split(bytes(message)):
                body: Any = bytes(record.body)
                if record.kind == records.Kind.DATA:
                    datagrams = records.decode_data(record.body)
                    body = (datagrams.payloads, list(datagrams.types))
                self.records.append((record.kind, record.flow, body))

    def of(self, kind: EventKind) -> list[Event]:
        """Events of one kind so far."""
        return [event for event in self.events if event.kind == kind]


class Pair:
    """Two sides; ``cuts`` says how many bytes travel at a time, over and over."""

    def __init__(
        self,
        cuts: Iterable[int] = (),
        *,
        config: NodeConfig | None = None,
        other: NodeConfig | None = None,
        known: Known | None = None,
    ) -> None:
        """``config`` is A's, and B's unless ``other`` is given; ``known`` is what A relies on."""
        config = config or NodeConfig()
        self.now = 1000
        self.cuts = list(cuts) or [1 << 20]
        self.step = 0
        self.a = Side(SEED_A, initiator=True, config=config, draw=1)
        self.b = Side(SEED_B, initiator=False, config=other or config, draw=2)
        for side in (self.a, self.b):
            side.link = side.node.link_new(
                initiator=side.initiator,
                now_ms=self.now,
                known=known if side.initiator else None,
            )

    def carry(self, source: Side, target: Side) -> bool:
        """Move what ``source`` has to say, cut as asked; True when anything moved."""
        data = source.node.produce(source.link, CAPACITY, self.now)
        if not data and not target.inbox:
            return False
        at, progress = 0, bool(data)
        while at < len(data):
            cut = self.cuts[self.step % len(self.cuts)]
            self.step += 1
            target.inbox += data[at : at + cut]
            at += cut
            self.offer(target)
        progress |= self.offer(target)
        return progress

    def offer(self, target: Side) -> bool:
        """Offer a side all bytes that it has not taken; True when it took some."""
        chunk = bytearray(target.inbox)
        used = target.node.receive(target.link, chunk, self.now)
        del target.inbox[:used]
        target.gather()
        return used > 0

    def run(self) -> None:
        """Until nobody has anything to say."""
        moving = True
        while moving:
            moving = self.carry(self.a, self.b)
            moving |= self.carry(self.b, self.a)
            self.a.gather()
            self.b.gather()

    def collapse(self) -> Pair:
        """As ``run``, but what arrives may end a link; the other side hears of it."""
        moving = True
        while moving:
            moving = False
            for source, target in ((self.a, self.b), (self.b, self.a)):
                try:
                    moving |= self.carry(source, target)
                except TransportError:
                    target.inbox.clear()
                source.gather()
                target.gather()
        return self

    def message(self, number: int) -> tuple[Side, bytes]:
        """Who is to read handshake message 1, 2 or 3, and its bytes; those before have arrived."""
        source, target = self.a, self.b
        for _ in range(number - 1):
            self.carry(source, target)
            source, target = target, source
        return target, source.node.produce(source.link, CAPACITY, self.now)

    def open(self) -> Pair:
        """Shake hands and admit on both sides."""
        self.run()
        for side in (self.a, self.b):
            side.node.admit(side.link, b'{"first":true}')
        self.run()
        return self

    def flow(
        self,
        number: int = 0,
        *,
        window: int = 1 << 20,
        max_datagram: int = 1 << 18,
        types: int = 65536,
        priority: Priority = Priority.NORMAL,
        weight: int = 16,
    ) -> tuple[int, int]:
        """The same protocol on both sides, under ``number`` at A and ``number + 100`` at B."""
        handles = []
        for side, own, peer in ((self.a, number, number + 100), (self.b, number + 100, number)):
            config = FlowConfig(
                sink=side.sink,
                number=own,
                peer_number=peer,
                max_datagram=max_datagram,
                types=types,
                window=window,
                peer_window=window,
                priority=priority,
                weight=weight,
            )
            handles.append(side.node.flow_open(side.link, config))
        return handles[0], handles[1]
