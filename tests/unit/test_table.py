"""The table: who enters, who stays, who is replaced, who is handed out, who is checked when."""

from __future__ import annotations

from random import Random

import pytest

from contacts import OWN, at_distance, contact, key
from dp2p.coordinator.discovery.contact import Contact, log_distance
from dp2p.coordinator.discovery.table import (
    CHECK_MAX_S,
    CHECK_MIN_S,
    DEAD_S,
    REFRESH_S,
    UNLIMITED,
    BucketView,
    K,
    NetworkLimits,
    Table,
)

NOW = 1000.0
FAR = 256


def table(limits: NetworkLimits | None = None, k: int = K) -> Table:
    return Table(OWN, k=k, limits=limits or NetworkLimits(), random=Random(1))


def view(of: Table, log: int = FAR) -> BucketView:
    return next(one for one in of.buckets() if one.log_distance == log)


def settle(of: Table, contacts: list[Contact], now: float = NOW) -> None:
    for one in contacts:
        of.answered(one, now)


def test_who_answers_enters_and_is_handed_out() -> None:
    nodes = table()
    one = contact(1)
    nodes.answered(one, NOW)
    assert nodes.contacts() == nodes.closest(0, 5) == [one]
    assert len(nodes) == 1


def test_who_comes_is_not_handed_out_until_it_answers() -> None:
    nodes = table()
    one = contact(1)
    nodes.seen(one, NOW)
    assert nodes.contacts() == []
    assert [bucket.replacements for bucket in nodes.buckets()] == [1]
    assert nodes.due(nodes.next_deadline()) == one
    nodes.answered(one, NOW + 20)
    assert nodes.contacts() == [one]


def test_this_node_itself_never_enters() -> None:
    nodes = table()
    own = contact(0)
    assert own.id == OWN
    nodes.seen(own, NOW)
    nodes.answered(own, NOW)
    nodes.failed(own, NOW)
    assert nodes.buckets() == []


def test_a_full_bucket_keeps_what_it_has() -> None:
    nodes = table()
    old, new = at_distance(FAR, K), at_distance(FAR, 2 * K)[K:]
    settle(nodes, old)
    settle(nodes, new, NOW + 1)
    assert {one.key for one in nodes.contacts()} == {one.key for one in old}
    assert view(nodes).replacements == K


def test_three_failures_make_room_for_a_replacement_that_answered() -> None:
    nodes = table()
    *old, new = at_distance(FAR, K + 1)
    for now in (NOW, NOW + 100, NOW + 200):
        settle(nodes, old, now)
    nodes.answered(new, NOW + 200)
    for failures in range(1, 4):
        assert new not in nodes.contacts()
        nodes.failed(old[0], NOW + 200 + failures)
        assert view(nodes).entries[0].failures == failures or failures == 3
    assert old[0] not in nodes.contacts()
    assert new in nodes.contacts()
    assert nodes.counters.dead == 1


def test_two_are_enough_for_one_that_answered_once() -> None:
    nodes = table()
    *old, new = at_distance(FAR, K + 1)
    settle(nodes, [*old, new])
    nodes.failed(old[0], NOW + 1)
    assert old[0] in nodes.contacts()
    nodes.failed(old[0], NOW + 2)
    assert new in nodes.contacts()


def test_a_replacement_that_fails_yields_to_one_that_answers_and_others_do_not() -> None:
    nodes = table()
    old = at_distance(FAR, 2 * K)
    settle(nodes, old)
    late, later = at_distance(FAR, 2 * K + 2)[2 * K :]
    nodes.answered(late, NOW + 1)
    for _ in range(2):
        nodes.remove(old.pop(0).key)
    assert late not in nodes.contacts()
    settle(nodes, at_distance(FAR, 2 * K + 20)[2 * K + 2 :][:2], NOW + 2)
    assert view(nodes).replacements == K
    nodes.failed(old[K + 3], NOW + 3)
    nodes.seen(later, NOW + 4)
    assert view(nodes).replacements == K
    nodes.answered(late, NOW + 5)
    for one in old[:K]:
        nodes.remove(one.key)
    assert late in nodes.contacts()
    assert later not in nodes.contacts()
    assert old[K + 3] not in nodes.contacts()


def test_without_a_replacement_the_dead_stay_for_a_while() -> None:
    nodes = table()
    dead, other = at_distance(FAR, 2)
    settle(nodes, [dead, other])
    now = NOW
    while now < NOW + DEAD_S - 20:
        now += 20
        nodes.failed(dead, now)
        nodes.answered(other, now)
        assert dead in nodes.contacts()
    nodes.failed(dead, NOW + 20 + DEAD_S)
    assert dead not in nodes.contacts()


def test_a_replacement_that_only_came_replaces_nobody() -> None:
    nodes = table()
    *old, new = at_distance(FAR, K + 1)
    settle(nodes, old)
    nodes.seen(new, NOW)
    for second in range(3):
        nodes.failed(old[0], NOW + second)
    assert old[0] in nodes.contacts()
    assert nodes.due(NOW + 3) == new  # but it is checked at once


def test_a_node_that_is_cut_off_keeps_its_table() -> None:
    nodes = table()
    old, spares = at_distance(FAR, K), at_distance(FAR, 2 * K)[K:]
    settle(nodes, old + spares)
    for minute in range(1, 600):
        for one in old + spares:
            nodes.failed(one, NOW + 60.0 * minute)
    assert len(nodes) == K
    assert view(nodes).replacements == K
    assert len(nodes.closest(0, K)) == K
    nodes.answered(spares[0], NOW + 36000)
    nodes.failed(old[0], NOW + 36001)
    assert old[0] not in nodes.contacts()
    assert spares[0] in nodes.contacts()


def test_failing_contacts_are_handed_out_last() -> None:
    nodes = table()
    contacts = at_distance(FAR, 4) + at_distance(255, 4)
    settle(nodes, contacts)
    nearest = min(contacts, key=lambda one: one.id)
    nodes.failed(nearest, NOW)
    assert nearest not in nodes.closest(0, 7)
    assert nodes.closest(0, 8)[0] == nearest
    nodes.answered(nearest, NOW + 1)
    assert nodes.closest(0, 1) == [nearest]


def test_removed_contacts_make_room() -> None:
    nodes = table()
    *old, new = at_distance(FAR, K + 1)
    settle(nodes, [*old, new])
    nodes.remove(old[3].key)
    nodes.remove(b"nobody")
    assert new in nodes.contacts()
    assert old[3] not in nodes.contacts()
    assert view(nodes).replacements == 0


# --- places ---


def test_a_key_appears_once_and_moves_when_its_old_place_is_silent() -> None:
    nodes = table()
    old, new = contact(1), contact(1, ("198.51.100.4", 9))
    nodes.answered(old, NOW)
    nodes.seen(new, NOW + 60)
    assert nodes.contacts() == [old]
    nodes.answered(new, NOW + 60)
    assert nodes.contacts() == [old]
    assert nodes.due(NOW + 60) == old  # asked before it is believed to have gone
    nodes.failed(old, NOW + 61)
    assert nodes.contacts() == [new]
    assert nodes.counters.moved == 1


def test_a_key_that_still_answers_where_it_was_stays_there() -> None:
    nodes = table()
    old, relayed = contact(1), contact(1, ("198.51.100.4", 9))
    nodes.answered(old, NOW)
    nodes.answered(relayed, NOW + 60)
    nodes.failed(relayed, NOW + 61)
    nodes.failed(old, NOW + 62)
    assert nodes.contacts() == [old]


def test_a_failure_elsewhere_is_not_held_against_a_contact() -> None:
    nodes = table()
    nodes.answered(contact(1), NOW)
    nodes.failed(contact(1, ("198.51.100.4", 9)), NOW)
    assert view(nodes, log_distance(OWN, contact(1).id)).entries[0].failures == 0


# --- networks ---


def test_a_network_has_two_in_a_bucket_and_two_replacements() -> None:
    nodes = table()
    settle(nodes, at_distance(FAR, 20, host="198.51.100.4"))
    assert len(nodes) == 2
    assert view(nodes).replacements == 2
    assert nodes.counters.crowded == 16


def test_a_network_has_ten_in_the_table() -> None:
    nodes = table()
    for log in range(FAR, FAR - 8, -1):
        settle(nodes, at_distance(log, 3, host="198.51.100.4"))
    assert len(nodes) == 10
    assert sum(one.replacements for one in nodes.buckets()) <= 10


@pytest.mark.parametrize(("local", "most"), [(False, K), (True, 2)])
def test_this_site_is_limited_when_that_is_wanted(local: bool, most: int) -> None:
    nodes = table(NetworkLimits(local=local))
    settle(nodes, at_distance(FAR, 20, host="192.168.1.9"))
    assert len(nodes) == most


def test_a_place_that_was_left_is_free_for_the_network() -> None:
    nodes = table()
    crowd = at_distance(FAR, 4, host="198.51.100.4")
    settle(nodes, crowd)
    nodes.remove(crowd[0].key)
    assert {one.key for one in nodes.contacts()} == {crowd[1].key, crowd[2].key}


def test_nobody_moves_into_a_crowded_network() -> None:
    nodes = table()
    first, second, mover = at_distance(FAR, 3)
    settle(nodes, [Contact(one.key, ("198.51.100.4", 7)) for one in (first, second)])
    nodes.answered(mover, NOW)
    nodes.failed(mover, NOW + 1)
    nodes.answered(Contact(mover.key, ("198.51.100.9", 7)), NOW + 2)
    assert mover in nodes.contacts()


# --- who comes by itself: CATALOGUE, "Eclipse/Sybil" ---


def check_all(nodes: Table, until: float, alive: set[bytes]) -> None:
    """Carries out every check up to a time."""
    while (now := nodes.next_deadline()) <= until:
        one = nodes.due(now)
        assert one is not None
        (nodes.answered if one.key in alive else nodes.failed)(one, now)


@pytest.mark.parametrize("limits", [NetworkLimits(), UNLIMITED])
def test_pings_at_boot_take_at_most_half_of_a_bucket(limits: NetworkLimits) -> None:
    nodes = table(limits)
    attackers = at_distance(FAR, 200)
    for one in attackers:
        nodes.seen(one, NOW)
    check_all(nodes, NOW + 3600, {one.key for one in attackers})
    assert len(nodes) == K // 2
    honest = at_distance(FAR, 300)[200:]
    settle(nodes, honest, NOW + 3600)
    found = {one.key for one in honest}
    assert sum(one.key in found for one in nodes.contacts()) == K // 2


CROWDS = [("198.51.100.4", "203.0.113.5"), tuple(f"198.51.{n % 2}.{n}" for n in range(200))]


@pytest.mark.parametrize("hosts", CROWDS, ids=["two hosts", "two /24s"])
@pytest.mark.parametrize(
    ("limits", "most"), [(NetworkLimits(), 20), (UNLIMITED, 10 * K)], ids=["on", "off"]
)
def test_many_identities_in_two_networks(
    hosts: tuple[str, ...], limits: NetworkLimits, most: int
) -> None:
    """Marcus 2018 and the false friends of 2019: so many identities, and all of them were found."""
    nodes = table(limits)
    for log in range(FAR, FAR - 10, -1):
        for number, one in enumerate(at_distance(log, 2 * K)):
            nodes.answered(Contact(one.key, (hosts[number % len(hosts)], 4617)), NOW)
    assert len(nodes) == most


@pytest.mark.parametrize(
    ("limits", "networks", "most"),
    [(NetworkLimits(), 2, 12), (UNLIMITED, 2, 24), (NetworkLimits(), 272, 24)],
    ids=["on", "off", "a network for each"],
)
def test_a_day_of_pings(limits: NetworkLimits, networks: int, most: int) -> None:
    """Shi 2026: 272 attackers that come again and again and answer every check, while honest nodes
    live for hours and are found by lookups. Of each of three buckets half is for those found.
    """
    nodes, random = table(limits), Random(5)
    pool = [one for log in (FAR, 255, 254) for one in at_distance(log, 160)]
    attackers = [
        Contact(one.key, (f"198.{51 + n % networks // 256}.{n % networks % 256}.{n % 250}", 4617))
        for n, one in enumerate(one for at, one in enumerate(pool) if at % 160 < 91)
    ]
    honest = [one for at, one in enumerate(pool) if at % 160 >= 91]
    alive = {one.key for one in attackers}
    for minute in range(24 * 60):
        now = NOW + 60.0 * minute
        for one in random.sample(attackers, 10):
            nodes.seen(one, now)
        if minute % 60 == 0:
            alive = {one.key for one in attackers}
            alive |= {one.key for one in random.sample(honest, len(honest) // 2)}
        for one in random.sample(honest, 2):
            (nodes.answered if one.key in alive else nodes.failed)(one, now)
        check_all(nodes, now + 59, alive)
    bad = {one.key for one in attackers}
    held = sum(one.key in bad for one in nodes.contacts())
    assert held <= most
    assert len(nodes) - held >= 3 * K // 2 - 3


def test_what_comes_never_replaces_who_was_found() -> None:
    nodes = table(UNLIMITED)
    honest = at_distance(FAR, 2 * K)
    settle(nodes, honest)
    for one in at_distance(FAR, 300)[2 * K :]:
        nodes.seen(one, NOW + 1)
    assert {one.key for one in nodes.contacts()} == {one.key for one in honest[:K]}
    for one in honest[:K]:
        nodes.remove(one.key)
    assert {one.key for one in nodes.contacts()} == {one.key for one in honest[K:]}


def test_eight_identities_around_a_key_do_not_hide_others() -> None:
    nodes = table()
    near = [log for log in range(246, FAR + 1) for _ in range(2)]
    honest = [one for log in sorted(set(near)) for one in at_distance(log, 2)]
    settle(nodes, honest)
    sybils = at_distance(246, 10, first=5000, host="198.51.100.4")[:8]
    settle(nodes, sybils)
    assert sum(one in sybils for one in nodes.closest(OWN, K)) == 2


# --- checks ---


def test_pauses_between_checks_grow_with_how_long_it_has_been_there() -> None:
    nodes = table()
    one = contact(1)
    nodes.answered(one, NOW)
    now, pauses = NOW, []
    for _ in range(16):
        pauses.append(nodes.next_deadline() - now)
        now = nodes.next_deadline()
        assert nodes.due(now - 0.01) is None
        assert nodes.due(now) == one
        nodes.answered(one, now)
    assert 0.75 * CHECK_MIN_S <= pauses[0] <= 1.25 * CHECK_MIN_S
    assert 0.75 * CHECK_MAX_S <= pauses[-1] <= 1.25 * CHECK_MAX_S
    assert pauses[8] > 3 * pauses[2]


def test_an_answer_to_anything_puts_a_check_off() -> None:
    nodes = table()
    nodes.answered(contact(1), NOW)
    nodes.answered(contact(1), NOW + 20)
    assert nodes.due(NOW + 40) is None


def test_a_check_that_nobody_reports_on_is_asked_for_again() -> None:
    nodes = table()
    nodes.answered(contact(1), NOW)
    assert nodes.due(NOW + 40) == contact(1)
    assert nodes.due(NOW + 41) is None
    assert nodes.due(NOW + 60) == contact(1)


def test_entries_are_checked_before_replacements() -> None:
    nodes = table()
    old = at_distance(FAR, 40)
    settle(nodes, old[:1])
    for one in old[1:]:
        nodes.seen(one, NOW)
    assert nodes.due(NOW + 100) == old[0]
    assert nodes.due(NOW + 100) in old[1:]


def test_nobody_is_due_in_an_empty_table() -> None:
    nodes = table()
    assert nodes.due(NOW) is None
    assert nodes.next_deadline() == float("inf")
    assert nodes.stale(NOW) == []
    assert nodes.closest(0, 3) == []


def test_buckets_out_to_the_farthest_are_refreshed() -> None:
    nodes = table()
    settle(nodes, at_distance(252, 1))
    assert nodes.stale(NOW) == [256, 255, 254, 253, 252]
    nodes.refreshed(255, NOW)
    assert nodes.stale(NOW + 1) == [256, 254, 253, 252]
    assert 255 in nodes.stale(NOW + REFRESH_S)


def test_views_say_what_is_there() -> None:
    nodes = table()
    nodes.answered(contact(1), NOW)
    nodes.answered(contact(1), NOW + 5)
    (bucket,) = nodes.buckets()
    (entry,) = bucket.entries
    assert (entry.contact.key, entry.since, entry.alive) == (key(1), NOW, NOW + 5)
    assert (entry.checks, entry.failures, entry.checked) == (2, 0, True)
