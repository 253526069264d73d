"""Lookups: whom they find, whom they ask, when they end, what liars can do to them."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from contacts import OWN, contact, key
from dp2p.coordinator.discovery import lookup as module
from dp2p.coordinator.discovery.bucket import NetworkLimits
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.lookup import Lookup
from static_network import K, StaticNetwork, nearest, run


@cache
def network() -> StaticNetwork:
    return StaticNetwork(300, seed=1)


def lookup(
    start: list[Contact], target: int = 0, paths: int = 1, alpha: int = module.ALPHA, k: int = K
) -> Lookup:
    return Lookup(target, start, own=OWN, k=k, alpha=alpha, paths=paths, random=Random(1))


def test_without_anybody_to_ask_it_is_done() -> None:
    empty = lookup([])
    assert empty.done
    assert empty.ask() == empty.result() == []
    assert empty.hops == 0


@pytest.mark.parametrize(("paths", "first"), [(1, 3), (2, 4), (3, 3), (4, 4), (8, 8)])
def test_so_many_are_asked_at_a_time(paths: int, first: int) -> None:
    search = lookup(network().contacts[:32], paths=paths)
    assert len(search.ask()) == first
    assert search.ask() == []
    assert search.asked == first


def test_the_closest_are_asked_first() -> None:
    start = network().contacts[:20]
    assert lookup(start).ask() == nearest(start, 0, 3)


@pytest.mark.parametrize("paths", [1, 2, 4, 8])
def test_the_closest_are_found(paths: int) -> None:
    target = contact(77).id
    search = lookup(Random(2).sample(network().contacts, K), target, paths)
    asked = run(search, network().answer, Random(3))
    assert search.done
    assert search.result() == nearest(network().contacts, target, K)
    assert search.asked == len(asked) == len({one.key for one in asked})
    assert 1 <= search.hops <= 6


def test_what_a_path_is_told_stays_on_it() -> None:
    start = network().contacts[:2]
    search = lookup(start, paths=2, alpha=2)
    one, other = search.ask()
    told = network().contacts[10:20]
    search.answered(one, told)
    search.answered(other, [])
    asked = search.ask()
    assert asked == nearest(told, 0, 1)  # by one path of two, one at a time
    assert not search.done


def test_enough_ends_it() -> None:
    search = lookup(network().contacts[:20])
    (first, *_) = search.ask()
    search.answered(first, network().contacts[20:40])
    search.enough = True
    assert search.done
    assert search.ask() == []
    assert search.result() == [first]


def test_hops_count_who_named_whom() -> None:
    search = lookup([contact(1)])
    for number in (1, 2, 3):
        assert search.ask() == [contact(number)]
        search.answered(contact(number), [contact(number + 1)])
    search.ask()
    search.failed(contact(4))
    assert search.done
    best = search.result()[0]
    assert search.hops == 1 + [contact(1), contact(2), contact(3)].index(best)
    assert (search.asked, search.failures) == (4, 1)


def test_reports_of_what_was_not_asked_count_for_nothing() -> None:
    search = lookup([contact(1), contact(2)], alpha=1)
    (asked,) = search.ask()
    for other in (contact(3), contact(1, ("198.51.100.4", 9)), contact(2, ("198.51.100.4", 9))):
        search.answered(other, [contact(5)])
        search.failed(other)
    assert search.ask() == []
    search.answered(asked, [])
    search.answered(asked, [contact(6)])
    search.failed(asked)
    assert search.result() == [asked]


# --- what is named falsely ---


def test_this_node_is_never_asked() -> None:
    search = lookup([contact(0), contact(1)])
    assert search.ask() == [contact(1)]
    search.answered(contact(1), [contact(0)])
    assert search.done


def test_of_several_places_of_a_key_the_first_that_answers_counts() -> None:
    false, true = contact(9, ("198.51.100.4", 9)), contact(9)
    search = lookup([contact(1), contact(2)])
    search.ask()
    search.answered(contact(1), [false])
    assert search.ask() == [false]
    search.answered(contact(2), [true, false])
    assert search.ask() == []
    search.failed(false)
    assert search.ask() == [true]
    search.answered(true, [])
    assert search.done
    assert true in search.result()
    assert false not in search.result()


def test_a_place_that_is_named_after_the_first_has_failed_is_asked() -> None:
    false, true = contact(9, ("198.51.100.4", 9)), contact(9)
    search = lookup([contact(1), contact(2)])
    search.ask()
    search.answered(contact(1), [false])
    search.ask()
    search.failed(false)
    search.answered(contact(2), [false, true])
    assert search.ask() == [true]


def test_places_of_a_key_are_bounded() -> None:
    search = lookup([contact(1)])
    search.ask()
    search.answered(contact(1), [contact(9, ("198.51.100.4", port)) for port in range(1, 60)])
    tried = 0
    while asked := search.ask():
        tried += len(asked)
        search.failed(asked[0])
    assert tried == module.PLACES_MAX


def test_of_thousands_of_contacts_few_are_remembered() -> None:
    def flood(asked: Contact, target: int) -> list[Contact]:
        number = int.from_bytes(asked.key, "big")
        return [contact(number * 1000 + one) for one in range(1, 1000)]

    search = lookup([contact(1)])
    asked = run(search, flood, Random(1))
    assert len(asked) <= module.ASKED_MAX * K
    assert len(search._nodes) <= (module.ASKED_MAX + module.NODES_MAX) * K


def test_who_names_only_what_does_not_exist_is_passed_over() -> None:
    target = contact(1).id
    near = nearest((contact(number) for number in range(1000, 9000)), target, 64)
    search = lookup([contact(2), *network().contacts[:4]], target, alpha=1)
    false = {one.key for one in near}

    def answers(asked: Contact, target: int) -> list[Contact] | None:
        if asked.key in false:
            return None
        return near if asked == contact(2) else network().answer(asked, target)

    asked = run(search, answers, Random(1))
    assert sum(one.key in false for one in asked) == module.CREDIT
    assert contact(1) in search.result()


def test_contacts_of_a_liar_are_asked_when_others_name_them() -> None:
    liar, honest = contact(1), contact(2)
    search = lookup([liar, honest], alpha=2)
    search.ask()
    search.answered(liar, [contact(number) for number in range(10, 10 + K)])
    for _ in range(module.CREDIT):
        asked = search.ask()
        search.failed(asked[0])
        if len(asked) > 1:
            search.failed(asked[1])
    passed = [contact(number) for number in range(10, 10 + K)]
    search.answered(honest, passed)
    assert search.ask()


@pytest.mark.parametrize(("paths", "found"), [(1, False), (4, True)])
def test_a_liar_misleads_only_the_path_that_met_it(paths: int, found: bool) -> None:
    """One of eight start contacts names its accomplices only, who name each other. There are
    enough of them around the target for a single path to believe that it has arrived.
    """
    target = contact(77).id
    accomplices = nearest((contact(number) for number in range(1000, 3000)), target, 40)
    bad = {one.key for one in accomplices}
    honest = [one for one in network().contacts if one.key != key(77)]
    start = [*Random(5).sample(honest, 7), accomplices[0]]

    def answers(asked: Contact, target: int) -> list[Contact]:
        return accomplices if asked.key in bad else network().answer(asked, target)

    search = lookup(start, target, paths, alpha=1)
    asked = run(search, answers, Random(1))
    assert (contact(77) in asked) is found


def crowd_and_others(host: str) -> tuple[list[Contact], list[Contact]]:
    """The 40 closest of 200 contacts to 0, all put at one host, and the others."""
    ordered = nearest(map(contact, range(1, 201)), 0, 200)
    crowd = [Contact(one.key, (host, 1024 + number)) for number, one in enumerate(ordered[:40])]
    return crowd, ordered[40:]


@pytest.mark.parametrize(("host", "of_crowd"), [("203.0.113.7", 2), ("10.0.0.7", K)])
@pytest.mark.parametrize("paths", [1, 8])
def test_a_network_has_two_places_among_the_closest(host: str, of_crowd: int, paths: int) -> None:
    """Unless it is of this site. The crowd names only itself, and is the closest of all."""
    crowd, others = crowd_and_others(host)
    start = [*crowd[:K], *others[:48]]
    search = Lookup(0, start, own=OWN, paths=paths, limits=NetworkLimits(), random=Random(1))
    asked = run(search, lambda one, _: crowd if one in crowd else others, Random(2))
    crowded = [one for one in search.result() if one in crowd]
    assert search.done
    assert len(crowded) == of_crowd
    assert crowded == crowd[:of_crowd]
    assert len(search.result()) == K
    if of_crowd < K:
        assert search.result()[of_crowd:] == others[: K - of_crowd]
        assert len(asked) < 3 * K


@pytest.mark.parametrize("paths", [1, 8])
def test_few_are_sent_to_a_stranger(paths: int) -> None:
    """Liars in many networks who know each other, and otherwise name only a victim's places."""
    liars = [contact(number) for number in range(1, 400)]
    victims = [contact(number, ("203.0.113.4", 1 + number % 60000)) for number in range(4000, 6000)]
    random = Random(1)

    def answers(asked: Contact, _target: int) -> list[Contact] | None:
        if asked.place[0] == "203.0.113.4":
            return None
        return [*random.sample(liars, 8), *random.sample(victims, 8)]

    search = Lookup(
        0,
        liars[:16],
        own=OWN,
        paths=paths,
        limits=NetworkLimits(),
        random=Random(1),
    )
    asked = run(search, answers, Random(1))
    knocks = [one for one in asked if one.place[0] == "203.0.113.4"]
    assert 0 < len(knocks) <= paths * module.NETWORK_ASKED
