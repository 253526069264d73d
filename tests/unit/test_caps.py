"""Caps on rates over whole links, in virtual time: what holds over ten seconds, and for whom."""

from __future__ import annotations

import pytest

from dp2p.errors import TransportError
from dp2p.transport import GROUP_COUNT, LIFTS_MAX, RATE_MAX, FlowConfig, Lift
from star import BULK, NORMAL, URGENT, Flow, Star

SECONDS = 10
RATE = 400_000


def near(value: float, wanted: float, share: float = 0.03) -> bool:
    return abs(value - wanted) <= share * wanted


def received(star: Star, flows: list[Flow], seconds: int = SECONDS) -> list[float]:
    """Bytes a second, at the receivers, once offers from before the cap are used up."""
    before = [flow.got for flow in flows]
    star.run(seconds * 1000)
    return [(flow.got - start) / seconds for flow, start in zip(flows, before, strict=True)]


# --- one cap, of each kind and direction ---

SCOPES = [("node", 100), ("node", 20_000), ("group", 5_000), ("link", 60_000)]


def limit(star: Star, scope: str, up: int, down: int) -> None:
    node = star.hub.node
    if scope == "node":
        node.limit(up, down)
    elif scope == "group":
        node.group_limit(1, up, down)
    else:
        node.link_limit(star.ways[0].links[0], up, down)


@pytest.mark.parametrize(("scope", "size"), SCOPES)
@pytest.mark.parametrize("down", [False, True])
def test_a_cap_holds(scope: str, size: int, down: bool) -> None:
    """Also when it is changed while all is under way; and nothing is held back without one."""
    star = Star()
    hub, other = star.open(0, 1, window=1 << 17)
    sender, receiver = (other, hub) if down else (hub, other)
    sender.size = size
    limit(star, scope, 0 if down else RATE, RATE if down else 0)
    star.run(500)
    assert near(received(star, [receiver])[0], RATE)
    limit(star, scope, 0 if down else 2 * RATE, 2 * RATE if down else 0)
    assert near(received(star, [receiver])[0], 2 * RATE)
    limit(star, scope, 0 if down else RATE // 4, RATE // 4 if down else 0)
    star.run(1000)
    assert near(received(star, [receiver])[0], RATE // 4)
    limit(star, scope, 0, 0)
    assert received(star, [receiver], 1)[0] > 2.5 * RATE


@pytest.mark.parametrize("down", [False, True])
def test_usage(down: bool) -> None:
    """Counted with a cap and without; ``short`` only when a cap held something back."""
    star = Star()
    node = star.hub.node
    hub, other = star.open(0, 7)
    sender, receiver = (other, hub) if down else (hub, other)
    sender.size, sender.batch = 1000, 1
    star.run(100)
    usage = node.group_usage(7)
    counted = usage.down_bytes if down else usage.up_bytes
    assert counted == receiver.got == 50 * 1016
    assert (usage.up_short, usage.down_short) == (False, False)
    assert node.usage() == usage
    assert node.group_usage(8) == (0, 0, False, False)
    node.group_limit(7, 0 if down else 100_000, 100_000 if down else 0)
    star.run(3000)
    first, second = node.group_usage(7), node.group_usage(7)
    assert (first.up_short, first.down_short) == (not down, down)
    assert (second.up_short, second.down_short) == (False, False)
    total = node.usage()
    assert (total.up_short, total.down_short) == (False, False)


# --- several flows under one cap ---


@pytest.mark.parametrize("scope", ["node", "group"])
@pytest.mark.parametrize("down", [False, True])
def test_links_share_evenly(scope: str, down: bool) -> None:
    """Links that take turns under one cap, although the first is always asked first."""
    star = Star(3)
    pairs = [star.open(i, 1, window=1 << 17) for i in range(3)]
    for hub, other in pairs:
        (other if down else hub).size = 1000
    limit(star, scope, 0 if down else RATE, RATE if down else 0)
    star.run(1500)
    rates = received(star, [hub if down else other for hub, other in pairs])
    assert near(sum(rates), RATE)
    assert all(near(rate, RATE / 3) for rate in rates)


@pytest.mark.parametrize("down", [False, True])
def test_other_protocols_are_not_slowed(down: bool) -> None:
    star = Star()
    capped, free = star.open(0, 1, window=1 << 17), star.open(0, 2, window=1 << 17)
    for hub, other in (capped, free):
        (other if down else hub).size = 1000
    side = 0 if down else 1
    (alone,) = received(star, [free[side]], 1)
    star.hub.node.group_limit(1, 0 if down else 50_000, 50_000 if down else 0)
    star.run(3000)
    slow, fast = received(star, [capped[side], free[side]])
    assert near(slow, 50_000)
    assert near(fast, alone)


def test_a_stalled_link_holds_up_nobody() -> None:
    """A peer that takes nothing keeps its turn, and the others go on."""
    star = Star(2)
    slow, fast = star.open(0, 1), star.open(1, 1)
    slow[0].size = fast[0].size = 1000
    star.hub.node.group_limit(1, RATE, 0)
    star.run(500)
    star.stalled.add(0)
    assert near(received(star, [fast[1]])[0], RATE)
    star.stalled.clear()
    rates = received(star, [slow[1], fast[1]])
    assert all(near(rate, RATE / 2) for rate in rates)


def test_the_lowest_of_three_caps_holds() -> None:
    star = Star()
    hub, other = star.open(0, 1, window=1 << 17)
    hub.size = other.size = 5000
    node, link = star.hub.node, star.ways[0].links[0]
    for rates in ((1, 2, 3), (2, 3, 1), (3, 1, 2)):
        node.limit(rates[0] * RATE, rates[1] * RATE)
        node.group_limit(1, rates[1] * RATE, rates[2] * RATE)
        node.link_limit(link, rates[2] * RATE, rates[0] * RATE)
        star.run(1000)
        assert all(near(rate, RATE) for rate in received(star, [hub, other]))


def test_urgent_goes_first_under_a_cap() -> None:
    """A link's cap is taken up by bulk; what is urgent waits for no more than a turn."""
    star = Star()
    bulk, _ = star.open(0, 1, priority=BULK)
    urgent, heard = star.open(0, 2, priority=URGENT)
    bulk.size = 60_000
    star.hub.node.link_limit(star.ways[0].links[0], RATE, 0)
    star.run(1000)
    waits = []
    for _ in range(50):
        seen, start = len(heard.received), star.now
        urgent.send([100], 0)
        while len(heard.received) == seen:
            star.run(1, step=1)
        waits.append(star.now - start)
        star.run(20)
    assert max(waits) <= 30  # a piece of 2 kB at 400 kB/s, and a byte's worth of turns
    assert sum(waits) / len(waits) <= 15


# --- parked flows that go away ---


def test_parked_flows_are_closed() -> None:
    """At any time, in any order; what remains goes on."""
    star = Star(2)
    node = star.hub.node
    node.group_limit(1, 20_000, 20_000)
    node.limit(40_000, 40_000)
    pairs = [star.open(i, 1, window=10_000, max_datagram=1000) for i in range(2)]
    for hub, other in pairs:
        hub.size = other.size = 1000
    star.run(1000)
    star.close(pairs[0])
    star.run(1000)
    rates = received(star, list(pairs[1]))
    assert all(near(rate, 20_000) for rate in rates)
    node.close_link(star.ways[1].links[0], 1)
    star.hub.gather()
    assert node.stats()["flows"] == 0
    node.limit(0, 0)
    assert star.hub.node.tick(star.now) > star.now


def test_250_parked_protocols() -> None:
    """Each with a cap of its own, and all under the node's; then all caps are gone."""
    star = Star()
    options = {"window": 1 << 13, "max_datagram": 1000, "weight": 1}
    pairs = [star.open(0, number, **options) for number in range(250)]
    for number, (hub, _) in enumerate(pairs):
        hub.size, hub.batch = 484, 4
        star.hub.node.group_limit(number, 2000, 0)
    star.run(1000)
    others = [other for _, other in pairs]
    rates = received(star, others, 4)
    assert all(near(rate, 2000, 0.1) for rate in rates)
    star.hub.node.limit(250_000, 0)
    star.run(1000)
    rates = received(star, others, 5)
    assert near(sum(rates), 250_000)
    assert all(near(rate, 1000, 0.5) for rate in rates)  # a turn or two more or less
    for number in range(250):
        star.hub.node.group_limit(number, 0, 0)
    star.hub.node.limit(0, 0)
    assert min(received(star, others, 1)) > 100_000


def test_a_largest_datagram_passes_the_slowest_cap() -> None:
    star = Star()
    hub, other = star.open(0, 1, window=70_000, max_datagram=60_000)
    hub.size = other.size = 60_000
    star.hub.node.group_limit(1, 6000, 6000)
    star.run(60_000, step=10)
    for end in (hub, other):
        assert 5 <= len(end.received) <= 7


REFUSED = [(RATE_MAX + 1, 0), (0, RATE_MAX + 1)]


@pytest.mark.parametrize(("up", "down"), REFUSED)
def test_rates_beyond_all_bounds(up: int, down: int) -> None:
    star = Star()
    with pytest.raises(TransportError):
        star.hub.node.limit(up, down)
    with pytest.raises(TransportError):
        star.hub.node.group_limit(0, up, down)
    with pytest.raises(TransportError):
        star.hub.node.link_limit(star.ways[0].links[0], up, down)
    star.hub.node.limit(RATE_MAX, RATE_MAX)


def test_unknown_groups_and_links() -> None:
    node = Star().hub.node
    with pytest.raises(TransportError):
        node.group_limit(GROUP_COUNT, 1, 1)
    with pytest.raises(TransportError):
        node.group_usage(GROUP_COUNT)
    with pytest.raises(TransportError):
        node.link_limit(12345, 1, 1)


# --- lifts ---

TO_URGENT = Lift(100, 199, URGENT)
TO_NORMAL = Lift(50, 50, NORMAL)


def crowd(star: Star, lifts: tuple[Lift, ...]) -> tuple[Flow, Flow]:
    """A bulk protocol with lifts, beside a normal one that fills the link's cap."""
    lifted = star.open(0, 1, priority=BULK, weight=1, lifts=lifts)
    busy, _ = star.open(0, 2, priority=NORMAL, weight=255)
    busy.size = 5000
    star.hub.node.link_limit(star.ways[0].links[0], 100_000, 0)
    star.run(500)
    return lifted


def time_for(star: Star, receiver: Flow, count: int) -> int:
    start = star.now
    while len(receiver.received) < count and star.now < start + 60_000:
        star.run(1, step=1)
    return star.now - start


def test_a_lift_passes_others_and_keeps_order() -> None:
    """20 kB of bulk goes with the lifted datagram behind it, in order, and in time."""
    star = Star()
    sender, receiver = crowd(star, (TO_URGENT,))
    sender.send([1000] * 20, 0)
    star.run(100)
    before = len(receiver.received)
    assert before < 10
    sender.send([10], 150)
    took = time_for(star, receiver, 21)
    assert [kind for kind, _ in receiver.received] == [0] * 20 + [150]
    assert took <= 300  # at 100 kB/s

    sender.send([1000] * 20, 0)  # and then it is bulk again
    assert time_for(star, receiver, 41) > 800


@pytest.mark.parametrize(("kind", "lifted"), [(99, False), (100, True), (199, True), (200, False)])
def test_the_types_of_a_lift(kind: int, lifted: bool) -> None:
    star = Star()
    sender, receiver = crowd(star, (TO_URGENT,))
    sender.send([1000] * 20, kind)
    assert (time_for(star, receiver, 20) <= 400) == lifted


def test_the_most_urgent_one_that_is_queued_counts() -> None:
    """A normal lift alone shares with the normal protocol by weight; an urgent one does not."""
    star = Star()
    sender, receiver = crowd(star, (TO_NORMAL, TO_URGENT))
    sender.send([1000] * 10, 50)
    sender.send([1000] * 10, 150)
    sender.send([1000] * 10, 50)
    assert time_for(star, receiver, 20) <= 400
    assert time_for(star, receiver, 30) > 400
    assert [kind for kind, _ in receiver.received] == [50] * 10 + [150] * 10 + [50] * 10


def test_a_parked_flow_is_lifted() -> None:
    """It waits for its group all the same, and then goes first."""
    star = Star()
    sender, receiver = crowd(star, (TO_URGENT,))
    star.hub.node.group_limit(1, 10_000, 0)
    sender.send([1000] * 10, 0)
    star.run(50)
    sender.send([1000] * 10, 100)
    assert near(time_for(star, receiver, 20), 2000, 0.15)
    star.hub.node.group_limit(1, 0, 0)
    sender.send([1000] * 10, 100)
    assert time_for(star, receiver, 30) <= 300


LIFTS = [
    (NORMAL, (Lift(5, 4, URGENT),)),
    (NORMAL, (Lift(1, 2, NORMAL),)),
    (NORMAL, (Lift(1, 2, BULK),)),
    (URGENT, (Lift(1, 2, URGENT),)),
]


@pytest.mark.parametrize(("priority", "lifts"), LIFTS)
def test_lifts_that_are_none(priority: int, lifts: tuple[Lift, ...]) -> None:
    with pytest.raises(TransportError):
        Star().open(0, 1, priority=priority, lifts=lifts)


def test_too_many_lifts() -> None:
    star = Star()
    many = (TO_URGENT,) * LIFTS_MAX
    star.open(0, 1, lifts=many)
    with pytest.raises(ValueError, match="at most"):
        star.hub.node.flow_open(
            star.ways[0].links[0],
            FlowConfig(
                sink=star.hub.sink,
                number=2,
                peer_number=2,
                max_datagram=1,
                window=20,
                peer_window=20,
                lifts=(*many, TO_URGENT),
            ),
        )
