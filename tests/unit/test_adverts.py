"""Adverts: how long they live, whom they leave room for, what a search is told."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from contacts import contact, key
from dp2p.coordinator.discovery.adverts import AdvertLimits, Adverts
from dp2p.coordinator.discovery.contact import Contact

NOW = 1000.0
LIFE = 1800
TOPIC = key(1)


def found(adverts: Adverts, topic: bytes = TOPIC, count: int = 16, now: float = NOW) -> set[bytes]:
    return {one.key for one in adverts.find(topic, count, now, Random(1))}


def crowd(amount: int, first: int = 1, host: str = "198.51.100.4") -> list[Contact]:
    return [contact(number, (host, 1000 + number)) for number in range(first, first + amount)]


def test_what_is_put_is_found_until_it_ends() -> None:
    adverts = Adverts()
    assert adverts.put(TOPIC, contact(1), NOW) == LIFE
    assert found(adverts) == {key(1)}
    assert found(adverts, key(2)) == set()
    assert found(adverts, now=NOW + LIFE - 1) == {key(1)}
    assert found(adverts, now=NOW + LIFE) == set()
    assert adverts.next_deadline() == NOW + LIFE
    adverts.expire(NOW + LIFE)
    assert len(adverts) == 0
    assert adverts.next_deadline() == float("inf")


def test_renewing_makes_it_last_and_does_not_count_twice() -> None:
    adverts = Adverts(AdvertLimits(topic=1))
    adverts.put(TOPIC, contact(1), NOW)
    assert adverts.put(TOPIC, contact(1), NOW + 900) >= 900
    assert len(adverts) == 1
    adverts.expire(NOW + LIFE - 1)
    assert found(adverts, now=NOW + LIFE - 1) == {key(1)}


def test_who_moved_is_found_where_it_is_now() -> None:
    adverts = Adverts()
    adverts.put(TOPIC, contact(1), NOW)
    moved = contact(1, ("198.51.100.4", 9))
    adverts.put(TOPIC, moved, NOW)
    assert adverts.find(TOPIC, 5, NOW, Random(1)) == [moved]


def test_with_less_room_adverts_live_shorter_and_then_none_is_taken() -> None:
    adverts = Adverts(AdvertLimits(topic=10))
    granted = [adverts.put(TOPIC, contact(number), NOW) for number in range(1, 12)]
    assert granted == [LIFE] * 6 + [1500, 1200, 900, 600, 0]
    assert adverts.refused == 1
    assert found(adverts) == {key(number) for number in range(1, 11)}


def test_there_is_a_bound_for_all_topics() -> None:
    adverts = Adverts(AdvertLimits(all=5))
    granted = [adverts.put(key(number), contact(number), NOW) for number in range(1, 8)]
    assert [bool(one) for one in granted] == [True] * 5 + [False] * 2


def test_a_network_has_three_of_a_topic() -> None:
    adverts = Adverts()
    granted = [adverts.put(TOPIC, one, NOW) for one in crowd(5)]
    assert [bool(one) for one in granted] == [True] * 3 + [False] * 2
    assert adverts.put(TOPIC, contact(99), NOW)


def test_a_network_and_a_contact_have_so_many_in_all() -> None:
    adverts = Adverts(AdvertLimits(network=4, contact=2))
    one, other, third = crowd(3)
    granted = [adverts.put(key(topic), one, NOW) for topic in range(3)]
    granted += [adverts.put(key(topic), other, NOW) for topic in range(2)]
    granted += [adverts.put(key(0), third, NOW)]
    assert [bool(one) for one in granted] == [True, True, False, True, True, False]


def test_eight_networks_that_take_all_they_can_leave_room_for_others() -> None:
    adverts, limits = Adverts(), AdvertLimits()
    flood = [contact(number, (f"198.51.{number // 2}.4", number + 1)) for number in range(16)]
    for number in range(limits.contact):
        for one in flood:
            adverts.put(key(1000 + 16 * number + int.from_bytes(one.key, "big")), one, NOW)
    assert len(adverts) < 3 * limits.all / 4
    assert adverts.put(TOPIC, contact(500), NOW) >= 1000
    many = [adverts.put(key(number), contact(501), NOW) for number in range(250)]
    assert all(many)
    later = [adverts.put(key(number), contact(501), NOW + 60) for number in range(250)]
    assert all(later)


def test_what_a_network_has_can_be_renewed_when_there_would_be_no_more_for_it() -> None:
    adverts = Adverts(AdvertLimits(all=100))
    mine = crowd(22)
    granted = [adverts.put(key(number), one, NOW) for number, one in enumerate(mine)]
    assert [bool(one) for one in granted] == [True] * 21 + [False]
    for number in range(100, 170):
        adverts.put(key(number), contact(number), NOW)
    assert all(adverts.put(key(number), one, NOW) for number, one in enumerate(mine[:21]))
    assert not adverts.put(key(21), mine[21], NOW)


def test_networks_of_this_site_are_limited_when_that_is_wanted() -> None:
    for local, most in ((False, 10), (True, 3)):
        adverts = Adverts(AdvertLimits(local=local))
        for one in crowd(10, host="192.168.1.9"):
            adverts.put(TOPIC, one, NOW)
        assert len(adverts) == most


def test_a_search_is_told_of_as_many_networks_as_there_are() -> None:
    adverts = Adverts(AdvertLimits(network_topic=50))
    for one in crowd(40):
        adverts.put(TOPIC, one, NOW)
    for number in range(100, 107):
        adverts.put(TOPIC, contact(number), NOW)
    sample = adverts.find(TOPIC, 8, NOW, Random(1))
    assert len({one.network for one in sample}) == len(sample) == 8


def test_samples_differ() -> None:
    adverts = Adverts()
    for number in range(1, 60):
        adverts.put(TOPIC, contact(number), NOW)
    random = Random(1)
    samples = [adverts.find(TOPIC, 4, NOW, random) for _ in range(60)]
    assert len({one.key for sample in samples for one in sample}) > 40


LIMITS = AdvertLimits(all=12, topic=5, contact=3, network=6, network_topic=2)
PUTS = st.tuples(st.integers(0, 5), st.integers(0, 15), st.integers(0, 5), st.floats(0, 900))


@given(st.lists(PUTS, max_size=120))
def test_bounds_hold_and_what_was_granted_is_kept(puts: list[tuple[int, int, int, float]]) -> None:
    """Against a list of what was granted to whom at which place until when."""
    adverts, now = Adverts(LIMITS), NOW
    granted: dict[tuple[bytes, bytes], tuple[Contact, float]] = {}
    for topic, number, network, pause in puts:
        now += pause
        one = contact(number, (f"11.0.{network}.{number}", 4617))
        seconds = adverts.put(key(topic), one, now)
        granted.pop((key(topic), one.key), None)
        if seconds:
            granted[key(topic), one.key] = one, now + seconds
        granted = {name: held for name, held in granted.items() if held[1] > now}
        held = [(topic, who) for (topic, _), (who, _) in granted.items()]
        for (topic_key, name), (who, _) in granted.items():
            assert who in adverts.find(topic_key, 99, now, Random(1))
            assert sum(at == topic_key for at, _ in held) <= LIMITS.topic
            assert sum(other.key == name for _, other in held) <= LIMITS.contact
            near = [at for at, other in held if other.network == who.network]
            assert len(near) <= LIMITS.network
            assert near.count(topic_key) <= LIMITS.network_topic
        assert len(held) <= len(adverts) <= LIMITS.all
