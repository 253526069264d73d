"""Coverage: what a peer is worth, and that those chosen let greedy forwarding reach everybody."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.coordinator.coverage import GAP, NEIGHBOUR, NEIGHBOURS, choose, value
from static_network import StaticNetwork

SIZE = 1000
PAIRS = 10_000

# own ID 0: an ID is its own distance. (connected, candidate, worth)
ROWS = [
    ([], 0b1000, GAP),
    ([], 0, 0.0),
    ([0b1000], 0b1000, 0.0),
    ([0b1000], 0b100, GAP),
    ([0b1000], 0b1111, NEIGHBOUR),
    ([1, 2, 4, 8, 16, 0b1000000], 0b1100000, 1.0),
    ([1, 2, 4, 8, 16, 0b1000000], 0b1010000, 0.5),
    ([1, 2, 4, 8, 16, 0b1000000], 0b1000001, 2.0**-5),
    ([1, 2, 4, 8, 16, 0b1000000, 0b1100000], 0b1110000, 0.5),
]


@pytest.mark.parametrize(("connected", "candidate", "worth"), ROWS)
def test_what_a_peer_is_worth(connected: list[int], candidate: int, worth: float) -> None:
    assert value(0, connected, candidate) == worth
    own = 0b101010101
    assert value(own, [one ^ own for one in connected], candidate ^ own) == worth


IDS = st.integers(0, (1 << 16) - 1)


@given(own=IDS, known=st.lists(IDS, unique=True, max_size=60), count=st.integers(0, 40))
def test_choices_are_of_those_known_each_once(own: int, known: list[int], count: int) -> None:
    chosen = choose(own, [(one, str(one)) for one in known], count)
    others = {str(one) for one in known if one != own}
    assert len(chosen) == len(set(chosen)) == min(count, len(others))
    assert set(chosen) <= others


@given(own=IDS, known=st.lists(IDS, unique=True, min_size=1, max_size=60))
def test_each_distance_is_covered_then_neighbours_then_the_rest_by_value(
    own: int, known: list[int]
) -> None:
    distances = {(one ^ own).bit_length() for one in known} - {0}
    chosen = choose(own, [(one, one) for one in known], len(known))
    assert {(one ^ own).bit_length() for one in chosen[: len(distances)]} == distances
    near = sorted((one for one in known if one != own), key=lambda one: one ^ own)[:NEIGHBOURS]
    assert set(near) <= set(chosen[: len(distances) + NEIGHBOURS])
    settled = len(set(chosen[: len(distances)]) | set(near))
    for at in range(settled, len(chosen)):
        best = max(value(own, chosen[:at], one) for one in chosen[at:])
        assert value(own, chosen[:at], chosen[at]) == best


def test_with_few_places_the_farthest_distances_are_covered() -> None:
    assert choose(0, [(1 << bit, bit) for bit in range(10)], 4) == [9, 8, 7, 6]


def hops(peers: dict[int, list[int]], start: int, target: int) -> int:
    """Steps of greedy forwarding over connected peers.  Raises: AssertionError when stuck."""
    at, steps = start, 0
    while at != target:
        nearer = min(peers[at], key=lambda one: one ^ target)
        assert nearer ^ target < at ^ target, "nobody is closer to the target"
        at, steps = nearer, steps + 1
    return steps


@pytest.mark.parametrize("count", [24, 32])
def test_greedy_forwarding_over_chosen_peers_reaches_everybody(count: int) -> None:
    network = StaticNetwork(SIZE, seed=11)
    peers = {
        one.id: choose(one.id, [(other.id, other.id) for other in network.tables[one.key]], count)
        for one in network.contacts
    }
    random, ids = Random(12), list(peers)
    found = [hops(peers, *random.sample(ids, 2)) for _ in range(PAIRS)]
    assert max(found) <= math.log2(SIZE) + 2
    assert sum(found) / PAIRS <= math.log2(SIZE) / 2
