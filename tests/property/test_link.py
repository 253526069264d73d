"""Two links joined in memory: whatever is sent, cut and consumed in whatever order, it arrives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from dp2p import noise, records
from dp2p.records import DATAGRAM_COST, Kind
from dp2p.transport import EventKind, FlowInfo, Known, LinkState, NodeConfig, Priority
from wire import SEED_A, SEED_B, Pair, Side

WINDOW = 640 << 10
LARGEST = 300 << 10
REKEY = NodeConfig(rekey_bytes=5000)
CAPS = [0, 7 * WINDOW, 10 * WINDOW]  # on windows; six begin with one each
PATTERN = bytes(range(256)) * (LARGEST // 256 + 1)

SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from([0, 1, 32_735, 32_745, 32_746, 32_747, 32_758, 32_768, 65_536, LARGEST]),
    st.integers(0, LARGEST),
)
BATCH = st.lists(st.tuples(SIZES, st.integers(0, 65_535)), min_size=1, max_size=6)
CUTS = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 70_000)), min_size=1, max_size=8)


KEY = noise.identity_public(SEED_B)
TICKET = bytes(range(48))
KNOWN = [
    None,
    Known(KEY),
    Known(noise.identity_public(SEED_A)),
    Known(KEY, TICKET),
    Known(KEY, TICKET, pinned=True),
]


@given(
    cuts=CUTS,
    known=st.sampled_from(KNOWN),
    held=st.booleans(),
    first=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_handshake_in_any_pieces(
    cuts: list[int], known: Known | None, held: bool, first: bool
) -> None:
    """Both get ready, know each other, and open, whoever admits first."""
    pair = Pair(cuts, known=known)
    if held:
        pair.b.tickets[TICKET[:16]] = (TICKET[16:], noise.identity_public(SEED_A))
    pair.run()
    for side in (pair.a, pair.b) if first else (pair.b, pair.a):
        side.node.admit(side.link, b"{}")
        pair.run()
    wrong = known is not None and (known.key != KEY or (known.ticket is not None and not held))
    for side, seed in ((pair.a, SEED_B), (pair.b, SEED_A)):
        info = side.node.link(side.link)
        assert (info.state, info.fell_back) == (LinkState.OPEN, wrong)
        assert info.key == noise.identity_public(seed)
        assert len(side.of(EventKind.CONTROL)) == 1


def payload(index: int, size: int) -> bytes:
    """Different for each index, as far as its size allows."""
    return PATTERN[index % 251 : index % 251 + size]


@given(cuts=CUTS, batches=st.lists(BATCH, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_fragmentation(cuts: list[int], batches: list[list[tuple[int, int]]]) -> None:
    """One flow, batches within the credit, any cuts: the same datagrams, types and order."""
    pair = Pair(cuts if sum(cuts) > 2000 else [*cuts, 9000], config=REKEY).open()
    ours, theirs = pair.flow(0, window=8 << 20, max_datagram=LARGEST)
    sent: list[tuple[bytes, int]] = []
    for batch in batches:
        datagrams = [(payload(len(sent) + i, size), kind) for i, (size, kind) in enumerate(batch)]
        room = (8 << 20) - sum(len(data) + DATAGRAM_COST for data, _ in [*sent, *datagrams])
        if room < 0:
            break
        sent += datagrams
        payloads, types = zip(*datagrams, strict=True)
        pair.a.ingest(records.encode_data(ours, payloads, types))
    pair.run()
    got = [body for kind, flow, body in pair.b.records if (kind, flow) == (Kind.DATA, theirs)]
    assert [one for payloads, types in got for one in zip(payloads, types, strict=True)] == sent
    assert not pair.a.kept


@dataclass
class Way:
    """One direction of one protocol, as the test knows it."""

    source: Side
    target: Side
    out: int
    "Flow at the source."
    into: int
    "Flow at the target."
    sent: list[tuple[bytes, int]] = field(default_factory=list)
    cost: int = 0
    confirmed: tuple[int, int] = (0, 0)
    consumed: int = 0
    epoch: records.Epoch | None = None

    def received(self) -> list[tuple[bytes, int]]:
        found = [
            body
            for kind, flow, body in self.target.records
            if (kind, flow) == (Kind.DATA, self.into)
        ]
        return [one for payloads, types in found for one in zip(payloads, types, strict=True)]

    def consume(self, count: int) -> None:
        """The application takes ``count`` more."""
        done = self.received()[: self.consumed + count]
        self.consumed = len(done)
        self.target.consume(self.into, len(done), sum(len(p) + DATAGRAM_COST for p, _ in done))

    def credit(self) -> int:
        """By the last CREDIT record that came."""
        for kind, flow, body in reversed(self.source.records):
            if (kind, flow) == (Kind.CREDIT, self.out):
                window, datagrams, size = records.decode_position(memoryview(body))
                self.confirmed = datagrams, size
                return window + size - self.cost
        return WINDOW - self.cost

    def sender(self) -> FlowInfo:
        return self.source.node.flow(self.out)

    def receiver(self) -> FlowInfo:
        return self.target.node.flow(self.into)

    def epochs(self) -> list[bytes]:
        """EPOCH records that came, each of which must be the flow's first."""
        came = [record for record in self.target.records if record[1] == self.into]
        said = [i for i, (kind, _, _) in enumerate(came) if kind == Kind.EPOCH]
        others = [i for i, (kind, _, _) in enumerate(came) if kind == Kind.DATA]
        assert not said or not others or said[-1] < others[0]
        return [came[i][2] for i in said]


class Links(RuleBasedStateMachine):
    """Three protocols of different class, both ways, with rekeying and control datagrams amid."""

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[Way] = []
        self.controls: dict[bool, list[bytes]] = {True: [], False: []}
        self.refused: Counter[bool] = Counter()

    @initialize(cap=st.sampled_from(CAPS), most=st.sampled_from([WINDOW, 5 * WINDOW]))
    def begin(self, cap: int, most: int) -> None:
        self.cap = cap
        config = NodeConfig(rekey_bytes=5000, window_max=most, window_bytes_max=cap)
        self.pair = Pair([70_000, 13], config=config).open()
        self.ways = [way for number in range(3) for way in self.open(number)]

    def open(self, number: int) -> list[Way]:
        a, b = self.pair.flow(
            number,
            window=WINDOW,
            max_datagram=LARGEST,
            priority=Priority(number),
            weight=1 + number,
        )
        return [Way(self.pair.a, self.pair.b, a, b), Way(self.pair.b, self.pair.a, b, a)]

    @rule(number=st.integers(0, 2))
    def open_anew(self, number: int) -> None:
        """What is under way meets the tombstone; the new flow begins at zero."""
        sides = ((self.pair.a, number, 0), (self.pair.b, number + 100, 1))
        for side, _, at in sides:
            side.node.flow_close(self.ways[2 * number + at].out, tombstone=True)
        self.pair.run()
        for side, own, _ in sides:
            side.node.flow_bury(side.link, own)
        self.ways[2 * number : 2 * number + 2] = self.open(number)

    @rule(way=st.integers(0, 5), epoch=st.builds(records.Epoch, *[st.integers(0, 2**64 - 1)] * 3))
    def say_epoch(self, way: int, epoch: records.Epoch) -> None:
        """It is taken before all DATA, once."""
        one = self.ways[way]
        one.source.ingest(records.encode_epoch(one.out, epoch))
        if one.epoch is None and not one.sent:
            one.epoch = epoch
        else:
            self.refused[one.source is self.pair.a] += 1

    @rule(way=st.integers(0, 5), batch=BATCH)
    def send(self, way: int, batch: list[tuple[int, int]]) -> None:
        """A record is taken whole when the credit that the application knows of covers it."""
        one = self.ways[way]
        datagrams = [(payload(len(one.sent) + i, n), kind) for i, (n, kind) in enumerate(batch)]
        cost = sum(len(data) + DATAGRAM_COST for data, _ in datagrams)
        payloads, types = zip(*datagrams, strict=True)
        if cost > one.credit():
            return
        one.source.ingest(records.encode_data(one.out, payloads, types))
        one.sent += datagrams
        one.cost += cost

    @rule(way=st.integers(0, 5))
    def send_beyond(self, way: int) -> None:
        """More than any credit is refused as a whole."""
        one = self.ways[way]
        info = one.sender()
        left = info.send_limit - info.accepted.bytes
        over = [bytes(LARGEST)] * (left // LARGEST + 1)
        one.source.ingest(records.encode_data(one.out, over, 0))
        self.refused[one.source is self.pair.a] += 1

    @rule(way=st.integers(0, 5), count=st.integers(1, 8))
    def consume(self, way: int, count: int) -> None:
        self.ways[way].consume(count)

    @rule(from_a=st.booleans(), size=st.sampled_from([0, 1, 1000, 40_000, 65_536]))
    def control(self, from_a: bool, size: int) -> None:
        side = self.pair.a if from_a else self.pair.b
        data = payload(len(self.controls[from_a]), size)
        side.node.control(side.link, 9, data)
        self.controls[from_a].append(data)

    @rule(from_a=st.booleans())
    def carry(self, from_a: bool) -> None:
        a, b = self.pair.a, self.pair.b
        self.pair.carry(*((a, b) if from_a else (b, a)))

    @rule(cuts=CUTS)
    def cut_differently(self, cuts: list[int]) -> None:
        self.pair.cuts = cuts if sum(cuts) > 2000 else [*cuts, 9000]

    @precondition(lambda self: self.pair.now < 1_000_000)
    @rule()
    def let_time_pass(self) -> None:
        """So much that the key is due by time."""
        self.pair.now += 10_000
        for side in (self.pair.a, self.pair.b):
            side.node.tick(self.pair.now)
        self.pair.run()

    @precondition(lambda self: self.ways)
    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        for way in self.ways:
            got = way.received()
            assert got == way.sent[: len(got)]

    @precondition(lambda self: self.ways)
    @invariant()
    def credit_is_conserved(self) -> None:
        """Confirmed, consumed, received, sent: in this order, and within the window."""
        for way in self.ways:
            way.credit()
            assert way.confirmed[0] <= way.consumed <= len(way.received()) <= len(way.sent)
            sender, receiver = way.sender(), way.receiver()
            assert way.cost == sender.accepted.bytes <= sender.send_limit
            assert sender.send_limit <= receiver.receive_limit
            assert receiver.received.bytes <= sender.send_limit

    @precondition(lambda self: self.ways)
    @invariant()
    def sums_are_what_a_recount_gives(self) -> None:
        for side in (self.pair.a, self.pair.b):
            out = [way.sender() for way in self.ways if way.source is side]
            into = [way.receiver() for way in self.ways if way.target is side]
            stats = side.node.stats()
            assert stats["queued_bytes"] == sum(f.accepted.bytes - f.sent.bytes for f in out)
            assert stats["unread_bytes"] == sum(f.received.bytes - f.consumed.bytes for f in into)
            usable = sum(f.send_limit - f.confirmed.bytes for f in out)
            assert stats["peer_window_bytes"] == usable
            granted = sum(f.receive_limit - f.consumed.bytes for f in into)
            assert stats["window_bytes"] >= granted
            assert not self.cap or stats["window_bytes"] + usable <= self.cap

    def nothing_is_under_way(self) -> None:
        """Both sides agree on every limit, and all that was granted may be sent."""
        for way in self.ways:
            sender, receiver = way.sender(), way.receiver()
            assert way.credit() == sender.send_limit - way.cost
            assert sender.send_limit == receiver.receive_limit or self.cap
            assert receiver.consumed == sender.confirmed
        for side in (self.pair.a, self.pair.b):
            into = [way.receiver() for way in self.ways if way.target is side]
            granted = sum(f.receive_limit - f.consumed.bytes for f in into)
            assert side.node.stats()["window_bytes"] == granted

    def teardown(self) -> None:
        """Everything arrives once it is consumed, all messages are let go, all credit is back."""
        if not self.ways:
            return
        self.pair.run()
        for way in self.ways:
            assert way.received() == way.sent
            way.consume(len(way.sent))
        self.pair.run()
        for way in self.ways:
            assert way.credit() >= WINDOW
            assert way.confirmed == (len(way.sent), way.cost)
            said = [] if way.epoch is None else [records.encode_epoch(0, way.epoch)[12:]]
            assert way.epochs() == said
        self.nothing_is_under_way()
        for side, from_a in ((self.pair.a, True), (self.pair.b, False)):
            assert not side.kept
            assert not side.of(EventKind.DOWN)
            assert len(side.of(EventKind.REFUSED)) == self.refused[from_a]
            heard = [event.data for event in side.of(EventKind.CONTROL) if event.type == 9]
            assert heard == self.controls[not from_a]


TestLinks = Links.TestCase
TestLinks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
