"""Caps under any schedule of offers, changes, openings and closings: never more than the cap
allows, all that is due in the end, and order kept.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dp2p.records import DATAGRAM_COST
from dp2p.transport import Lift
from star import BULK, NORMAL, URGENT, Flow, Star

FRAME = 32784
LARGEST = 4000
WINDOW = 1 << 15
RATES = st.one_of(st.just(0), st.integers(5_000, 3_000_000))
OFFERS = st.lists(
    st.tuples(st.integers(0, LARGEST), st.integers(1, 8), st.integers(1, 300)),
    min_size=1,
    max_size=12,
)


@given(rate=st.integers(200_000, 5_000_000), offers=OFFERS, scope=st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_never_above_the_cap(rate: int, offers: list[tuple[int, int, int]], scope: int) -> None:
    """Bursts of any size at any time: in ten seconds 1 % above the cap at most, and a frame or what
    an idle meter saves up.
    """
    star = Star()
    hub, other = star.open(0, 1, window=1 << 19, max_datagram=LARGEST)
    node = star.hub.node
    if scope == 0:
        node.limit(rate, 0)
    elif scope == 1:
        node.group_limit(1, rate, 0)
    else:
        node.link_limit(star.ways[0].links[0], rate, 0)
    end = star.now + 10_000
    while star.now < end:
        for size, batch, pause in offers:
            hub.size, hub.batch = size, batch
            star.run(pause, step=4)
            hub.size = 0
            star.run(pause // 4, step=4)
    seconds = (star.now - end + 10_000) / 1000
    assert other.got <= rate * seconds * 1.01 + max(FRAME, rate // 50) + LARGEST


class Caps(RuleBasedStateMachine):
    """Two links, three protocols on each, with lifts; caps of all kinds come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.star = Star(2)
        self.flows: dict[tuple[int, int], tuple[Flow, Flow]] = {}
        self.sent: dict[int, list[tuple[int, int]]] = {}
        for way in (0, 1):
            for number in (0, 1, 2):
                self._open(way, number)

    def _open(self, way: int, number: int) -> None:
        pair = self.star.open(
            way,
            number,
            window=WINDOW,
            max_datagram=LARGEST,
            priority=(URGENT, NORMAL, BULK)[number],
            lifts=((), (Lift(1, 1, URGENT),), (Lift(1, 1, URGENT), Lift(2, 3, NORMAL)))[number],
            weight=1 + number,
        )
        self.flows[way, number] = pair
        for flow in pair:
            self.sent[id(flow)] = []

    @rule(
        way=st.integers(0, 1),
        number=st.integers(0, 2),
        up=st.booleans(),
        kind=st.integers(0, 4),
        sizes=st.lists(st.integers(0, LARGEST), min_size=1, max_size=10),
    )
    def send(self, way: int, number: int, up: bool, kind: int, sizes: list[int]) -> None:
        flow = self.flows[way, number][0 if up else 1]
        if flow.sent + sum(sizes) + DATAGRAM_COST * len(sizes) <= flow.limit:
            flow.send(sizes, kind)
            self.sent[id(flow)] += [(kind, size) for size in sizes]

    @rule(ms=st.integers(1, 200))
    def wait(self, ms: int) -> None:
        self.star.run(ms, step=3)

    @rule(up=RATES, down=RATES)
    def limit_node(self, up: int, down: int) -> None:
        self.star.hub.node.limit(up, down)

    @rule(group=st.integers(0, 2), up=RATES, down=RATES)
    def limit_group(self, group: int, up: int, down: int) -> None:
        self.star.hub.node.group_limit(group, up, down)

    @rule(way=st.integers(0, 1), up=RATES, down=RATES)
    def limit_link(self, way: int, up: int, down: int) -> None:
        self.star.hub.node.link_limit(self.star.ways[way].links[0], up, down)

    @rule(way=st.integers(0, 1))
    def stall(self, way: int) -> None:
        self.star.stalled ^= {way}

    @precondition(lambda self: not self.star.stalled)
    @rule(way=st.integers(0, 1), number=st.integers(0, 2))
    def reopen(self, way: int, number: int) -> None:
        """Whatever waits there is gone, and the next flow begins anew."""
        self.star.close(self.flows[way, number])
        self.star.quiet()
        for end, link in zip(self.star.ways[way].ends, self.star.ways[way].links, strict=True):
            end.node.flow_bury(link, number)
        self._open(way, number)

    @invariant()
    def order_is_kept(self) -> None:
        for pair in self.flows.values():
            for sender, receiver in (pair, pair[::-1]):
                sent = self.sent[id(sender)]
                assert receiver.received == sent[: len(receiver.received)]

    def teardown(self) -> None:
        """All arrives under caps that allow it, and all credit is back without any."""
        star, node = self.star, self.star.hub.node
        star.stalled.clear()
        for number in range(3):
            node.group_limit(number, 3_000_000, 3_000_000)
        for way in star.ways:
            node.link_limit(way.links[0], 3_000_000, 3_000_000)
        node.limit(3_000_000, 3_000_000)
        star.run(2000, step=3)
        for pair in self.flows.values():
            for sender, receiver in (pair, pair[::-1]):
                assert receiver.received == self.sent[id(sender)]
        for number in range(3):
            node.group_limit(number, 0, 0)
        for way in star.ways:
            node.link_limit(way.links[0], 0, 0)
        node.limit(0, 0)
        for pair in self.flows.values():
            for flow in pair:
                flow.send([0], 0)
        star.run(100)
        for pair in self.flows.values():
            for flow in pair:
                window = flow.end.node.flow(flow.handle).peer_window
                assert window >= WINDOW  # it opens when it holds up a sender
                assert flow.limit == flow.sent + window
        assert node.tick(star.now) > star.now
        usage = node.usage()
        assert usage.up_bytes >= sum(hub.sent for hub, _ in self.flows.values())
        assert usage.down_bytes >= sum(other.sent for _, other in self.flows.values())


TestCaps = Caps.TestCase
TestCaps.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
