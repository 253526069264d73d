"""One node with links to several, in memory and in virtual time, and applications that send all
they may: for what holds of many links together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dp2p import records
from dp2p.records import DATAGRAM_COST, Kind
from dp2p.transport import PRODUCE_MIN, FlowConfig, Node, Priority
from wire import seeded_random

CAPACITY = 4 * PRODUCE_MIN
WINDOW = 1 << 20
URGENT, NORMAL, BULK = Priority.URGENT, Priority.NORMAL, Priority.BULK


@dataclass
class Flow:
    """One end of a protocol on a link, with an application that consumes at once."""

    end: End
    handle: int
    window: int
    sent: int = 0
    "Cost."
    limit: int = 0
    received: list[tuple[int, int]] = field(default_factory=list)
    "Type and size of each datagram, in order."
    got: int = 0
    "Cost."
    size: int = 0
    "Of the datagrams that are offered, whenever credit allows; 0: none."
    batch: int = 20
    consumes: bool = True

    def offer(self) -> None:
        """Send as much as is allowed, up to a batch, unless much is queued."""
        cost = self.size + DATAGRAM_COST
        count = min(self.batch, (self.limit - self.sent) // cost)
        if self.size and count > 0:
            self.send([self.size] * count, 0)

    def send(self, sizes: list[int], kind: int) -> None:
        """Datagrams of one type, within the credit."""
        self.sent += sum(sizes) + DATAGRAM_COST * len(sizes)
        assert self.sent <= self.limit
        payloads = [bytes(size) for size in sizes]
        self.end.ingest(records.encode_data(self.handle, payloads, kind))

    def take(self, kind: int, body: memoryview) -> None:
        if kind == Kind.CREDIT:
            window, _, size = records.decode_position(body)
            assert size + window >= self.limit
            self.limit = size + window
            return
        assert kind == Kind.DATA
        datagrams = records.decode_data(body)
        self.received += [
            (one, len(data)) for one, data in zip(datagrams.types, datagrams.payloads, strict=True)
        ]
        self.got += sum(len(data) + DATAGRAM_COST for data in datagrams.payloads)
        if self.consumes:
            position = records.Position(0, len(self.received), self.got)
            self.end.ingest(records.encode_position(Kind.CONSUMED, self.handle, position))


class End:
    """One node with its application."""

    def __init__(self, seed: int) -> None:
        self.node = Node(bytes([seed]) * 32, random=seeded_random(seed))
        self.node.set_hello(b"{}")
        self.sink = self.node.sink_open()
        self.flows: dict[int, Flow] = {}
        self._token = 0
        self._kept: dict[int, bytes] = {}

    def ingest(self, message: bytes) -> None:
        self._token += 1
        if self.node.ingest(self.sink, self._token, message):
            self._kept[self._token] = message

    def gather(self) -> None:
        self.node.events()
        self.node.events_done()
        for token in self.node.released():
            del self._kept[token]
        self.node.collect()
        for _, message in self.node.outputs():
            for record in records.split(bytes(message)):
                if flow := self.flows.get(record.flow):
                    flow.take(record.kind, record.body)


@dataclass
class Way:
    """A link between the hub and another node: handles at both ends, and bytes not yet taken."""

    ends: tuple[End, End]
    links: tuple[int, int]
    wires: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))


class Star:
    """``hub`` and ``others``, joined by ``ways``."""

    def __init__(self, count: int = 1) -> None:
        self.now = 1000
        self.hub = End(1)
        self.others = [End(2 + i) for i in range(count)]
        self.ways = [self._join(other) for other in self.others]
        self.stalled: set[int] = set()
        "Ways on which nothing moves."
        self.quiet()
        for way in self.ways:
            for end, link in zip(way.ends, way.links, strict=True):
                end.node.admit(link, b"{}")
        self.quiet()

    def _join(self, other: End) -> Way:
        ends = self.hub, other
        links = [end.node.link_new(initiator=end is self.hub, now_ms=self.now) for end in ends]
        return Way(ends, (links[0], links[1]))

    def _carry(self, way: Way) -> bool:
        moved = False
        for source in (0, 1):
            end, wire = way.ends[source], way.wires[1 - source]
            wire += end.node.produce(way.links[source], CAPACITY, self.now)
            if wire:
                target = way.ends[1 - source]
                used = target.node.receive(way.links[1 - source], wire, self.now)
                del wire[:used]
                target.gather()
                moved |= used > 0
            end.gather()
        return moved

    def quiet(self) -> None:
        """Until nothing moves."""
        moving = True
        while moving:
            moved = [self._carry(w) for i, w in enumerate(self.ways) if i not in self.stalled]
            moving = any(moved)

    def run(self, ms: int, step: int = 2) -> None:
        """Let time pass; every application offers what it has."""
        end = self.now + ms
        while self.now < end:
            self.now += step
            for one in (self.hub, *self.others):
                one.node.tick(self.now)
                for flow in one.flows.values():
                    flow.offer()
            self.quiet()

    def open(self, way: int, number: int, **options: Any) -> tuple[Flow, Flow]:
        """A protocol on a link: its end at the hub, and the other one. Groups are numbers."""
        window = options.pop("window", WINDOW)
        flows = []
        joined = self.ways[way]
        for end, link in zip(joined.ends, joined.links, strict=True):
            config = FlowConfig(
                sink=end.sink,
                number=number,
                peer_number=number,
                window=window,
                peer_window=window,
                **({"max_datagram": 1 << 16, "group": number} | options),
            )
            flow = Flow(end, end.node.flow_open(link, config), window, limit=window)
            end.flows[flow.handle] = flow
            flows.append(flow)
        return flows[0], flows[1]

    def close(self, flows: tuple[Flow, Flow]) -> None:
        """Both ends give a protocol up; what is under way is dropped."""
        for flow in flows:
            flow.end.node.flow_close(flow.handle, tombstone=True)
            del flow.end.flows[flow.handle]
