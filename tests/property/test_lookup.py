"""Lookups over networks that are drawn: what honest ones find, and that all of them end."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contacts import OWN, contact
from dp2p.coordinator.discovery import lookup as module
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.lookup import Lookup
from static_network import K, StaticNetwork, nearest, run

SIZE = 1000
LIES = st.lists(st.integers(0, 400), max_size=40)
TARGETS = st.integers(0, (1 << 256) - 1)


@cache
def network() -> StaticNetwork:
    return StaticNetwork(SIZE, seed=7)


@settings(max_examples=40, deadline=None)
@given(target=TARGETS, seed=st.integers(0, 1000), paths=st.sampled_from([1, 2, 4, 8]))
def test_honest_tables_lead_to_the_closest_of_a_thousand(
    target: int, seed: int, paths: int
) -> None:
    random = Random(seed)
    start = random.sample(network().contacts, K)
    search = Lookup(target, start, own=OWN, paths=paths, random=random)
    asked = run(search, network().answer, random)
    assert search.result() == nearest(network().contacts, target, K)
    assert len({one.key for one in asked}) == len(asked)
    assert search.hops <= 8


@settings(max_examples=40, deadline=None)
@given(target=TARGETS, seed=st.integers(0, 1000), dead=st.floats(0, 0.3))
def test_the_closest_that_live_are_found_among_the_dead(
    target: int, seed: int, dead: float
) -> None:
    random = Random(seed)
    gone = {one.key for one in network().contacts if random.random() < dead}
    living = [one for one in network().contacts if one.key not in gone]

    def answers(asked: Contact, target: int) -> list[Contact] | None:
        return None if asked.key in gone else network().answer(asked, target)

    search = Lookup(target, random.sample(living, K), own=OWN, paths=4, random=random)
    run(search, answers, random)
    assert search.result()[:4] == nearest(living, target, 4)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), paths=st.integers(1, 5), seed=st.integers(0, 1000))
def test_whatever_is_answered_it_ends_and_asks_nobody_twice(
    data: st.DataObject, paths: int, seed: int
) -> None:
    """Any contacts, this node itself and keys with several places among them, in any order."""

    def named(number: int) -> Contact:
        return contact(number % 100, ("198.51.100.4", 1 + number) if number >= 100 else None)

    def answers(asked: Contact, target: int) -> list[Contact] | None:
        said = data.draw(st.none() | LIES)
        return None if said is None else [named(one) for one in said]

    start = [named(one) for one in data.draw(LIES)]
    search = Lookup(data.draw(TARGETS), start, own=OWN, paths=paths, random=Random(seed))
    asked = run(search, answers, Random(seed))
    assert search.done
    assert len(set(asked)) == len(asked)
    assert all(one.id != OWN for one in asked)
    for one in {one.key for one in asked}:
        assert sum(other.key == one for other in asked) <= module.PLACES_MAX
    result = search.result()
    assert len(result) == len({one.key for one in result}) <= K
    assert result == nearest(result, search.target, K)
    assert search.asked == len(asked)


@pytest.mark.parametrize("paths", [1, 4])
def test_endless_new_contacts_come_to_an_end(paths: int) -> None:
    fresh = iter(range(10_000, 10_000_000))

    def answers(asked: Contact, target: int) -> list[Contact]:
        return [contact(next(fresh)) for _ in range(20)]

    start = [contact(number) for number in range(1, 9)]
    search = Lookup(0, start, own=OWN, paths=paths, random=Random(1))
    asked = run(search, answers, Random(1))
    assert len(asked) <= paths * module.ASKED_MAX * K
    assert search.done
