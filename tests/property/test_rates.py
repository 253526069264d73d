"""Caps divided among simulated shards: the sum is the cap, demand is met, nothing swings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.bus import Cap, Usage, Used
from dp2p.coordinator.rates import DIVIDE_S, SPARE, STEADY_ALL, Rates, divide

CAP = 10_000_000
STEPS_PER_S = round(1 / DIVIDE_S)

wants = st.lists(st.none() | st.floats(0, 2e7), min_size=1, max_size=256)


@given(st.integers(1024, 1 << 40), wants)
def test_parts_add_up_and_nobody_has_none(cap: int, used: list[float | None]) -> None:
    parts = divide(cap, used)
    assert sum(parts) == cap
    assert len(parts) == len(used)
    assert all(part >= 1 for part in parts)


@given(wants)
def test_who_wants_more_has_at_least_as_much_as_anybody(used: list[float | None]) -> None:
    parts = divide(CAP, used)
    hungry = [part for part, one in zip(parts, used, strict=True) if one is None]
    if hungry:
        assert min(hungry) >= max(parts) - len(parts) - 1  # what rounding leaves
    for part, one in zip(parts, used, strict=True):
        if one is not None and hungry and part < min(hungry) - len(parts):
            assert part >= int(one) - 1


# used, of a cap of 1000 in thousandths, None wants more -> parts
ROWS = [
    ([None], [1000]),
    ([None, None], [500, 500]),
    ([300, None], [320, 680]),
    ([None, 0], [980, 20]),
    ([0, 0], [500, 500]),
    ([700, 100], [800, 200]),
    ([990, None], [500, 500]),
    ([None, 100, None], [440, 120, 440]),
]


@pytest.mark.parametrize(("used", "parts"), ROWS)
def test_rows(used: list[int | None], parts: list[int]) -> None:
    scaled = [None if one is None else one * 10_000 for one in used]
    found = divide(CAP, scaled)
    assert found == pytest.approx([one * 10_000 for one in parts], abs=25_000)


# --- shards in simulated time ---


Demand = Callable[[float], float]
"Bytes a second that a shard would send, by time."


@dataclass
class Shard:
    """One that uses what it may."""

    demand: Demand
    share: int = 0
    backlog: float = 0.0
    used: float = 0.0

    def turn(self, now: float) -> Used:
        wanted = self.backlog + self.demand(now) * DIVIDE_S
        self.used = min(wanted, self.share * DIVIDE_S)
        self.backlog = min(wanted - self.used, CAP / 4)  # the application waits beyond
        return Used(up=self.used / DIVIDE_S, up_short=wanted > self.used)


class World:
    """A coordinator's rates and shards, which report in turn."""

    def __init__(self, demands: Sequence[Demand], scope: str = "node") -> None:
        name = "" if scope == "node" else "chat"
        cap = Cap(scope="node", name="") if scope == "node" else Cap(scope="protocol", name=name)
        self.name = name
        self.rates = Rates([])
        self.shards = [Shard(demand) for demand in demands]
        for index in range(len(demands)):
            self.rates.shard_up(index)
        self.rates.set(Cap(scope=cap.scope, name=name, up=CAP))
        self.now = 0.0
        self.changes = 0
        self.collect()

    def collect(self) -> None:
        for index, shard in enumerate(self.shards):
            told = self.rates.shares(index)
            shard.share = (told.protocols[self.name] if self.name else told.node).up
        assert sum(shard.share for shard in self.shards) == CAP

    def turn(self) -> float:
        """One interval: bytes used by all."""
        for index, shard in enumerate(self.shards):
            used = shard.turn(self.now)
            by_name = {self.name: used} if self.name else {}
            usage = Usage(generation=1, node=None if self.name else used, protocols=by_name)
            self.rates.used(index, usage, self.now)
        self.now += DIVIDE_S
        if self.rates.run(self.now):
            self.changes += 1
            self.collect()
        return sum(shard.used for shard in self.shards)

    def run(self, seconds: float) -> float:
        """Bytes a second that all used."""
        return sum(self.turn() for _ in range(round(seconds * STEPS_PER_S))) / seconds


def steady(rate: float) -> Demand:
    return lambda _: rate


def bursts(high: float, low: float, period: float, phase: float) -> Demand:
    return lambda now: high if (now + phase) % period < period / 2 else low


def vanishing(rate: float, at: float) -> Demand:
    return lambda now: rate if now < at else 0.0


@given(st.lists(st.floats(0, 1.5), min_size=1, max_size=16), st.sampled_from(["node", "protocol"]))
def test_steady_demand_is_met_without_swings(parts: list[float], scope: str) -> None:
    world = World([steady(part * CAP) for part in parts], scope)
    world.run(10.0)  # what waited before shares were right is gone
    before = world.changes
    used = world.run(10.0)
    assert used <= CAP * 1.000001
    assert used >= min(sum(parts), 1 - SPARE - STEADY_ALL) * CAP * 0.9999
    assert world.changes - before <= 1


@pytest.mark.parametrize("count", [2, 3, 8, 64])
def test_all_of_the_cap_is_used_whoever_wants_it(count: int) -> None:
    demands = [steady(2 * CAP), *(steady(0) for _ in range(count - 1))]
    world = World(demands)
    world.run(1.0)
    assert world.run(10.0) >= 0.97 * CAP


@pytest.mark.parametrize("seed", range(20))
def test_bursts_beside_steady_demand(seed: int) -> None:
    """Bursts longer than a division: the one that always wants fills what the others leave."""
    draw = random.Random(seed)
    period = draw.uniform(4, 8)
    world = World(
        [
            steady(2 * CAP),
            bursts(CAP * draw.uniform(0.1, 1), 0, period, draw.uniform(0, 4)),
        ]
    )
    world.run(2.0)
    used = world.run(40.0)
    assert 0.90 * CAP <= used <= CAP * 1.000001


def test_what_one_gives_up_the_others_have_within_a_second() -> None:
    world = World([vanishing(2 * CAP, 5.0), steady(2 * CAP)])
    world.run(5.0)
    world.run(1.0)
    assert world.run(10.0) >= 0.97 * CAP


def test_who_begins_has_half_within_a_second() -> None:
    world = World([lambda now: 0.0 if now < 5 else 2.0 * CAP, steady(2 * CAP)])
    world.run(5.0)
    assert world.shards[0].share <= 0.021 * CAP
    world.run(0.75)
    assert world.shards[0].share == pytest.approx(CAP / 2, rel=0.01)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=40))
def test_shards_that_come_and_go(steps: list[tuple[bool, int]]) -> None:
    rates = Rates([Cap(scope="node", name="", up=CAP, down=1024)])
    there: set[int] = set()
    for up, index in steps:
        (rates.shard_up if up else rates.shard_down)(index)
        (there.add if up else there.discard)(index)
        shares = [rates.shares(one).node for one in there]
        assert not there or sum(one.up for one in shares) == CAP
        assert not there or sum(one.down for one in shares) == 1024
