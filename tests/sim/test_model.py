"""The model against brute force and against what its parts promise."""

from collections import Counter
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dp2p.sim import model, model_paths
from dp2p.sim.model import FARTHEST, NOBODY


def test_ids_are_sorted_and_distinct() -> None:
    ids = model.random_ids(10_000, np.random.default_rng(1))
    assert len(ids) == 10_000
    assert (ids[1:] > ids[:-1]).all()


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=20))
def test_bit_length_is_that_of_integers(values: list[int]) -> None:
    lengths = model.bit_length(np.array(values, dtype=np.uint64))
    assert lengths.tolist() == [value.bit_length() for value in values]


@given(
    st.sets(st.integers(0, (1 << 64) - 1), min_size=2, max_size=40),
    st.integers(0, (1 << 64) - 1),
    st.data(),
)
def test_a_bucket_is_those_who_share_more_bits(
    members: set[int], target: int, data: st.DataObject
) -> None:
    asked = data.draw(st.sampled_from(sorted(members - {target}) or [target ^ 1]))
    ids = np.array(sorted(members), dtype=np.uint64)
    targets = np.array([target], dtype=np.uint64)
    start, count = model.nearer_ranges(ids, targets, np.array([asked ^ target], dtype=np.uint64))
    found = set(ids[start[0] : start[0] + count[0]].tolist())
    closer = (asked ^ target).bit_length()
    assert found == {one for one in members if (one ^ target).bit_length() < closer}


def test_drawn_members_are_distinct_in_range_and_fair() -> None:
    starts = np.full(20_000, 100, dtype=np.int64)
    drawn = model.draw(starts, np.full(20_000, 10, dtype=np.int64), 4, np.random.default_rng(1))
    assert (np.sort(drawn, axis=1)[:, 1:] != np.sort(drawn, axis=1)[:, :-1]).all()
    often = Counter(drawn.ravel().tolist())
    assert set(often) == set(range(100, 110))
    assert all(abs(times - 8000) < 400 for times in often.values())


def test_a_small_range_is_drawn_whole() -> None:
    starts, counts = np.array([5, 9], dtype=np.int64), np.array([3, 0], dtype=np.int64)
    drawn = model.draw(starts, counts, 4, np.random.default_rng(1))
    assert sorted(drawn[0].tolist()) == [5, 6, 7, NOBODY]
    assert drawn[1].tolist() == [NOBODY] * 4


def test_a_shortlist_keeps_the_closest_once_and_as_they_were() -> None:
    known = model.Shortlist.empty(1, 3)
    known.merge(np.array([[7, 8]]), np.array([[70, 80]], dtype=np.uint64), np.array([0]))
    known.asked[0, 0] = True
    known.merge(
        np.array([[8, 7, 5, 9]]), np.array([[80, 70, 50, 90]], dtype=np.uint64), np.array([1])
    )
    assert known.members.tolist() == [[5, 7, 8]]
    assert known.asked.tolist() == [[False, True, False]]
    assert known.depths.tolist() == [[1, 0, 0]]
    assert FARTHEST not in known.distances


def test_who_knows_everybody_needs_one_hop() -> None:
    rng = np.random.default_rng(1)
    result = model.lookups(model.Ideal(model.random_ids(17, rng), rng), 200)
    assert set(result.hops.tolist()) == {1}


@pytest.mark.parametrize("k", [8, 16, 32])
def test_a_hop_gains_the_published_bits(k: int) -> None:
    rng = np.random.default_rng(1)
    gained = model.bits_per_hop(model.Ideal(model.random_ids(100_000, rng), rng, k), 5000)
    assert abs(gained - (log2(k) + 1.3327)) < 0.15


def test_no_adversary_no_failure_and_nobody_but_them_no_success() -> None:
    rng = np.random.default_rng(1)
    assert model_paths.success(0.0, 1, 200, rng, nodes=1000) == 1.0
    assert model_paths.success(0.99, 1, 500, rng, nodes=1000) < 0.2


def test_more_paths_find_more() -> None:
    rng = np.random.default_rng(1)
    rates = [model_paths.success(0.4, paths, 2000, rng) for paths in (1, 2, 4, 8)]
    assert rates == sorted(rates)
