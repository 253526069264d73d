"""One flow of the SDK under any interleaving of what both sides may do."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dp2p import records
from dp2p.records import DATAGRAM_COST, Kind, Position
from dp2p.sdk.outgoing import Outgoing
from scripted import Node, credit, up_record


class Interleaving(RuleBasedStateMachine):
    """One flow under any order of sends, flushes, credit, arrivals and reads.

    Always: credit is never exceeded, nothing is lost, doubled or reordered, and both positions are
    those of the datagrams that really went.
    """

    @initialize(window=st.integers(516, 5000))
    def begin(self, window: int) -> None:
        self.node = Node()
        self.window = window
        self.registration = self.node.register()
        self.node.receive(up_record(window=window))
        self.flow = self.registration.flow("anna")
        self.node.sent()
        self.offered: list[bytes] = []
        self.arrived: list[bytes] = []
        self.confirmed = 0
        self.given: list[bytes] = []
        self.taken: list[bytes] = []
        self.told = Position(0, 0, 0)
        self.counter = 0

    def payload(self, size: int) -> bytes:
        self.counter += 1
        return self.counter.to_bytes(4, "big") + bytes(size)

    @rule(size=st.integers(0, 496))
    def send_one(self, size: int) -> None:
        payload = self.payload(size)
        if self.flow.offer(payload, 1):
            self.offered.append(payload)

    @rule(sizes=st.lists(st.integers(0, 496), max_size=30))
    def send_many(self, sizes: list[int]) -> None:
        payloads = [self.payload(size) for size in sizes]
        self.flow.submit(Outgoing(payloads, [size % 10 for size in sizes]))
        self.offered += payloads
        self.pump()

    @rule()
    @precondition(lambda self: self.flow.waiting)
    def give_up(self) -> None:
        call = self.flow.waiting[-1]
        self.flow.give_up(call)
        rest = call.count - call.accepted
        if rest:
            del self.offered[-rest:]

    @rule()
    def pump(self) -> None:
        while self.flow.pump() is not None:
            pass

    @rule()
    def flush(self) -> None:
        for record in self.node.sent():
            if record.kind == Kind.DATA:
                self.arrived += records.decode_data(record.body).payloads
            else:
                position = records.decode_position(record.body)
                assert position.datagrams > self.told.datagrams
                self.told = position

    @rule(share=st.floats(0, 1))
    def confirm(self, share: float) -> None:
        self.confirmed += int((len(self.arrived) - self.confirmed) * share)
        size = sum(len(p) + DATAGRAM_COST for p in self.arrived[: self.confirmed])
        self.node.receive(credit(1, self.confirmed, size, self.window))
        self.pump()

    @rule(sizes=st.lists(st.integers(0, 496), min_size=1, max_size=30))
    def arrive(self, sizes: list[int]) -> None:
        payloads = [self.payload(size) for size in sizes]
        self.given += payloads
        self.node.receive(records.encode_data(1, payloads, 1))

    @rule(count=st.integers(1, 10))
    def read(self, count: int) -> None:
        inbox = self.registration.inbox
        for _ in range(count):
            message = next(inbox.messages, None)
            if message is None:
                if inbox.open() is None:
                    break
                message = next(inbox.messages)
            self.taken.append(message.payload)

    @rule()
    def read_batch(self) -> None:
        if taken := self.registration.inbox.take_batch():
            self.taken += taken[1].payloads

    @invariant()
    def credit_is_never_exceeded(self) -> None:
        cost = sum(len(p) + DATAGRAM_COST for p in self.arrived)
        confirmed = sum(len(p) + DATAGRAM_COST for p in self.arrived[: self.confirmed])
        assert cost <= self.flow.sent_bytes <= confirmed + self.window
        assert self.flow.unconfirmed == self.flow.sent_datagrams - self.confirmed

    @invariant()
    def nothing_is_lost_or_reordered(self) -> None:
        assert self.arrived == self.offered[: len(self.arrived)]
        assert self.taken == self.given[: len(self.taken)]
        assert self.flow.handed_datagrams == len(self.arrived)

    @invariant()
    def consumed_is_what_was_taken(self) -> None:
        self.node.session.settle()
        cost = sum(len(p) + DATAGRAM_COST for p in self.taken)
        arrivals = self.flow.arrivals
        assert (arrivals.consumed_datagrams, arrivals.consumed_bytes) == (len(self.taken), cost)
        assert self.told.bytes <= cost

    def teardown(self) -> None:
        """With enough credit, everything that was offered arrives."""
        if not hasattr(self, "node"):
            return
        before = -1
        while len(self.arrived) != before:
            before = len(self.arrived)
            self.confirm(1.0)
            self.flush()
        assert self.arrived == self.offered


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
