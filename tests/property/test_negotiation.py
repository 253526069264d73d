"""Two negotiations over ordered channels: whatever the interleaving, both sides' flows match."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dp2p.bus import ProtocolEntry
from dp2p.control import ProtocolSpec
from dp2p.hello import Protocols
from dp2p.shards.negotiation import Join, Negotiation

NAMES = st.sampled_from(["chat", "chat", "chat", "files"])
SIDES = st.integers(0, 1)
SESSIONS = st.sampled_from(["x", "y"])
NUMBERS = 5  # so few that numbers are used again soon


@dataclass(eq=False)
class Flow:
    """A flow as the transport has it; ``pair`` is the other side's, once anything has come."""

    joined: Join
    sent: int = 0
    received: int = 0
    pair: Flow | None = field(default=None, repr=False)

    def meet(self, other: Flow) -> None:
        assert self.pair in (None, other), "two flows of the peer reach one of ours"
        self.pair = other


@dataclass
class Side:
    """A shard's end of one link, and its registry."""

    negotiation: Negotiation
    entries: dict[tuple[str, str], ProtocolEntry] = field(default_factory=dict)
    next_number: int = 0
    out: deque[tuple[str, Any, Any]] = field(default_factory=deque)
    flows: dict[str, Flow] = field(default_factory=dict)
    tombs: set[int] = field(default_factory=set)

    def publish(self) -> None:
        """The registry has changed."""
        protocols = self.negotiation.set_ours(list(self.entries.values()))
        if protocols is not None:
            self.out.append(("list", protocols, None))
        self.settle()

    def settle(self) -> None:
        change = self.negotiation.settle()
        self.tombs |= set(change.tombstone)
        for joined, withdrawn in change.close:
            assert self.flows.pop(joined.name).joined == joined
            assert withdrawn is (joined.number in self.tombs)
        for joined in change.open:
            assert joined.name not in self.flows
            for flow in self.flows.values():  # what dp_flow_open refuses
                assert flow.joined.number != joined.number
                assert flow.joined.peer_number != joined.peer_number
            self.flows[joined.name] = Flow(joined)

    def free_number(self) -> int:
        """As the registry gives them out."""
        taken = {entry.number for entry in self.entries.values()}
        while self.next_number in taken:
            self.next_number = (self.next_number + 1) % NUMBERS
        number = self.next_number
        self.next_number = (number + 1) % NUMBERS
        return number

    def receive(self, kind: str, what: Any, flow: Any) -> None:
        match kind:
            case "list":
                assert isinstance(what, Protocols)
                self.negotiation.set_theirs(what)
                self.out.append(("ack", what.generation, None))
                self.settle()
            case "ack":
                self.tombs -= set(self.negotiation.acknowledged(what))
                self.publish()
            case "data":
                self._data(what, flow)
            case "credit":
                found = [one for one in self.flows.values() if one.joined.peer_number == what]
                if found:
                    found[0].meet(flow)

    def _data(self, number: int, index_and_flow: tuple[int, Flow]) -> None:
        if number in self.tombs:
            return
        index, flow = index_and_flow
        (mine,) = (one for one in self.flows.values() if one.joined.number == number)
        mine.meet(flow)
        assert index == mine.received, "data that was sent before this flow began, or a gap"
        mine.received += 1


class Negotiations(RuleBasedStateMachine):
    """Two sides; messages of each arrive in order, but whenever it pleases."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [Side(Negotiation(bytes([i]) * 32)) for i in (1, 2)]
        for side in self.sides:
            side.publish()

    @rule(side=SIDES, name=NAMES, session=SESSIONS, versions=st.sets(st.integers(1, 2), min_size=1))
    def register(self, side: int, name: str, session: str, versions: set[int]) -> None:
        """What the coordinator allows: sessions that share have the same specification."""
        one = self.sides[side]
        others = [entry for (known, _), entry in one.entries.items() if known == name]
        if (name, session) in one.entries or len(one.entries) == NUMBERS:
            return
        spec = (
            others[0].spec
            if others
            else ProtocolSpec(name=name, versions=sorted(versions), window=1 << 21, shared=True)
        )
        number = one.free_number()
        entry = ProtocolEntry(number=number, spec=spec, session=session, instance=session)
        one.entries[name, session] = entry
        one.publish()

    @rule(side=SIDES, name=NAMES, session=SESSIONS)
    def withdraw(self, side: int, name: str, session: str) -> None:
        if self.sides[side].entries.pop((name, session), None):
            self.sides[side].publish()

    @rule(side=SIDES, name=NAMES, session=SESSIONS)
    def reattach(self, side: int, name: str, session: str) -> None:
        """An application is away from the shard for a moment, and keeps its number."""
        one = self.sides[side]
        if entry := one.entries.pop((name, session), None):
            one.publish()
            one.entries[name, session] = entry
            one.publish()

    @rule(side=SIDES, name=NAMES)
    def send(self, side: int, name: str) -> None:
        one = self.sides[side]
        if flow := one.flows.get(name):
            one.out.append(("data", flow.joined.peer_number, (flow.sent, flow)))
            flow.sent += 1

    @rule(side=SIDES, name=NAMES)
    def consume(self, side: int, name: str) -> None:
        one = self.sides[side]
        if flow := one.flows.get(name):
            one.out.append(("credit", flow.joined.number, flow))

    @rule(side=SIDES, count=st.integers(1, 4))
    def arrive(self, side: int, count: int) -> None:
        source, target = self.sides[side], self.sides[1 - side]
        for _ in range(min(count, len(source.out))):
            target.receive(*source.out.popleft())

    @invariant()
    def numbers_are_used_once(self) -> None:
        for side in self.sides:
            assert {name: flow.joined for name, flow in side.flows.items()} == (
                side.negotiation.joined
            )
            assert not side.tombs & {flow.joined.number for flow in side.flows.values()}

    def teardown(self) -> None:
        """Once everything has arrived, both sides have joined the same, with numbers that fit."""
        for _ in range(100):
            for side in (0, 1):
                self.arrive(side, len(self.sides[side].out))
        assert not self.sides[0].out
        assert not self.sides[1].out
        a, b = self.sides
        common = {name for name, _ in a.entries} & {name for name, _ in b.entries}
        assert a.flows.keys() == b.flows.keys()
        assert not a.tombs | b.tombs
        for name in a.flows:
            ours, theirs = a.flows[name].joined, b.flows[name].joined
            assert (ours.number, ours.peer_number) == (theirs.peer_number, theirs.number)
            assert (ours.version, ours.window) == (theirs.version, theirs.peer_window)
            for flow, other in ((a.flows[name], b.flows[name]), (b.flows[name], a.flows[name])):
                assert flow.pair in (None, other)
        for name in common - a.flows.keys():
            versions = [
                {
                    v
                    for (known, _), e in side.entries.items()
                    if known == name
                    for v in e.spec.versions
                }
                for side in (a, b)
            ]
            assert not versions[0] & versions[1]


TestNegotiations = Negotiations.TestCase
TestNegotiations.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
