"""Two shards' ends of one connection, with the real engine, negotiation and records: any schedule
of registering, withdrawing, sending, consuming, and bytes on their way.

Every flow that comes up has one counterpart at most; what arrives in it is what was sent in that
one, from the first datagram on, in order and once. Credit is conserved, and nothing ends the link.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dp2p import records
from dp2p.bus import ProtocolEntry
from dp2p.control import PriorityClass, ProtocolSpec
from dp2p.records import DATAGRAM_COST, Kind
from dp2p.transport import EventKind, NodeConfig
from shard_end import ShardEnd, entry
from wire import SEED_A, SEED_B, Pair

LARGEST = 100 << 10
WINDOW = 256 << 10
NUMBERS = 5  # so few that numbers are used again soon
CLASSES: list[PriorityClass] = ["urgent", "normal", "bulk"]
CONFIG = NodeConfig(rekey_bytes=50_000)

SIDES = st.integers(0, 1)
NAMES = st.sampled_from(["chat", "files", "video", "voice"])
SIZES = st.lists(
    st.one_of(st.integers(12, 300), st.sampled_from([32_768, 65_536, LARGEST])),
    min_size=1,
    max_size=5,
)


@dataclass(eq=False)
class Flow:
    """One flow as its application sees it."""

    number: int
    name: str
    window: int
    credit: int
    "``sent_cost`` may go up to here."
    sent: list[bytes] = field(default_factory=list)
    sent_cost: int = 0
    confirmed: tuple[int, int] = (0, 0)
    received: list[bytes] = field(default_factory=list)
    consumed: int = 0
    down: bool = False

    def origin(self) -> bytes | None:
        """Which flow of the other side its datagrams came from."""
        return self.received[0][:8] if self.received else None


class Shard(ShardEnd):
    """One end, with an application that keeps what it is told."""

    def __init__(self, seed: bytes, *, initiator: bool) -> None:
        super().__init__(seed, initiator=initiator, config=CONFIG)
        self.entries: dict[str, ProtocolEntry] = {}
        self.next_number = 0
        self.flows: dict[int, Flow] = {}
        self.seen: list[Flow] = []

    def hear(self, message: bytes) -> None:
        for record in records.split(message):
            self._take(record)

    def _take(self, record: records.Record) -> None:
        if record.kind == Kind.UP:
            up = msgspec.json.decode(record.body)
            flow = Flow(record.flow, up["protocol"], up["window"], up["window"])
            assert all(one.name != flow.name for one in self.flows.values())
            self.flows[record.flow] = flow
            self.seen.append(flow)
        elif record.kind == Kind.DOWN:
            self.flows.pop(record.flow).down = True
        elif record.kind == Kind.DATA:
            self.flows[record.flow].received += records.decode_data(record.body).payloads
        elif record.kind == Kind.CREDIT:
            flow = self.flows[record.flow]
            position = records.decode_position(record.body)
            assert position.datagrams >= flow.confirmed[0]
            assert position.bytes >= flow.confirmed[1]
            flow.confirmed = position.datagrams, position.bytes
            flow.credit = position.bytes + position.window

    # --- what its application and the coordinator do ---

    def publish(self) -> None:
        self.links.set_protocols(list(self.entries.values()))
        self.gather()

    def free_number(self) -> int | None:
        """As the registry gives them out."""
        taken = {entry.number for entry in self.entries.values()}
        free = [n % NUMBERS for n in range(self.next_number, self.next_number + NUMBERS)]
        number = next((n for n in free if n not in taken), None)
        self.next_number = self.next_number if number is None else number + 1
        return number

    def register(self, name: str, priority: PriorityClass, weight: int) -> None:
        """If that is possible."""
        number = self.free_number()
        if name in self.entries or number is None:
            return
        spec = ProtocolSpec(
            name=name,
            versions=[1],
            max_datagram=LARGEST,
            window=WINDOW,
            priority=priority,
            weight=weight,
        )
        self.entries[name] = entry(number, spec)
        self.publish()

    def send(self, flow: Flow, sizes: list[int]) -> None:
        """As much as credit allows, in one record; each datagram says where it comes from."""
        payloads: list[bytes] = []
        for size in sizes:
            if flow.sent_cost + size + DATAGRAM_COST > flow.credit:
                break
            label = b"%08d%04d" % (id(flow) % 10**8, len(flow.sent))
            payloads.append(label.ljust(size, b"."))
            flow.sent.append(payloads[-1])
            flow.sent_cost += size + DATAGRAM_COST
        if payloads:
            self.ingest(records.encode_data(flow.number, payloads, 0))

    def read(self, flow: Flow, count: int) -> None:
        done = flow.received[: flow.consumed + count]
        flow.consumed = len(done)
        self.consume(flow.number, len(done), sum(len(one) + DATAGRAM_COST for one in done))


class Renegotiations(RuleBasedStateMachine):
    """Two shards and what is under way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair([9000, 13, 70_000])
        self.shards = [Shard(SEED_A, initiator=True), Shard(SEED_B, initiator=False)]
        self.pair.a, self.pair.b = self.shards
        for shard in self.shards:
            shard.link = shard.node.link_new(initiator=shard.initiator, now_ms=self.pair.now)
        self.pair.run()
        for shard in self.shards:
            shard.admit()
        for shard, names in zip(self.shards, (["chat"], ["chat", "video", "voice"]), strict=True):
            for name in names:
                shard.register(name, "normal", 16)
        self.pair.run()

    @rule(side=SIDES, name=NAMES, priority=st.sampled_from(CLASSES), weight=st.integers(1, 255))
    def register(self, side: int, name: str, priority: PriorityClass, weight: int) -> None:
        self.shards[side].register(name, priority, weight)

    @rule(side=SIDES, name=NAMES)
    def withdraw(self, side: int, name: str) -> None:
        shard = self.shards[side]
        if shard.entries.pop(name, None):
            shard.publish()

    @rule(side=SIDES, which=st.integers(0, 3), sizes=SIZES)
    def send(self, side: int, which: int, sizes: list[int]) -> None:
        for flow in list(self.shards[side].flows.values())[which : which + 1]:
            self.shards[side].send(flow, sizes)

    @rule(side=SIDES, which=st.integers(0, 3), count=st.integers(1, 6))
    def consume(self, side: int, which: int, count: int) -> None:
        for flow in list(self.shards[side].flows.values())[which : which + 1]:
            self.shards[side].read(flow, count)

    @rule(side=SIDES)
    def carry(self, side: int) -> None:
        self.pair.carry(self.shards[side], self.shards[1 - side])

    @rule()
    def settle(self) -> None:
        """Until nothing is under way: both sides have the same flows."""
        self.pair.run()
        names = [sorted(flow.name for flow in shard.flows.values()) for shard in self.shards]
        assert names[0] == names[1]
        assert names[0] == sorted(self.shards[0].entries.keys() & self.shards[1].entries.keys())

    @invariant()
    def what_arrives_is_what_was_sent(self) -> None:
        for shard, other in (self.shards, self.shards[::-1]):
            by_label = {b"%08d" % (id(flow) % 10**8): flow for flow in other.seen}
            origins = [origin for flow in shard.seen if (origin := flow.origin())]
            assert len(set(origins)) == len(origins), "one flow has come out of two"
            for flow in shard.seen:
                if origin := flow.origin():
                    assert flow.received == by_label[origin].sent[: len(flow.received)]

    @invariant()
    def credit_is_conserved(self) -> None:
        for shard in self.shards:
            assert not shard.of(EventKind.REFUSED)
            for flow in shard.flows.values():
                assert flow.confirmed[0] <= len(flow.sent)
                assert flow.confirmed[1] <= flow.sent_cost <= flow.credit

    def teardown(self) -> None:
        """What is up on both sides arrives whole, and all credit comes back."""
        self.settle()
        for shard in self.shards:
            for flow in list(shard.flows.values()):
                shard.read(flow, len(flow.received))
        self.pair.run()
        for shard, other in (self.shards, self.shards[::-1]):
            assert not shard.kept
            for flow in shard.flows.values():
                (end,) = (one for one in other.flows.values() if one.name == flow.name)
                assert end.received == flow.sent
                assert flow.confirmed == (len(flow.sent), flow.sent_cost)
                assert flow.credit - flow.sent_cost >= LARGEST + DATAGRAM_COST


TestRenegotiations = Renegotiations.TestCase
TestRenegotiations.settings = settings(max_examples=80, stateful_step_count=80, deadline=None)
