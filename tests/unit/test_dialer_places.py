"""The dialer: where a peer is tried, and in which order."""

from __future__ import annotations

import pytest

from dialer_world import (
    KEY,
    NAMED,
    OTHER_KEY,
    PEER,
    PLACELESS,
    World,
    all_dialled,
    dialled,
    failure,
    link,
    pause_after,
    told,
)
from dp2p.coordinator.dialer import PLACES_MAX
from dp2p.coordinator.targets import Connected, Failed, Resolve


@pytest.fixture
def world() -> World:
    return World()


# --- host names ---


def resolve(world: World) -> Resolve:
    (action,) = world.dialer.request(1, NAMED, 30.0, 0.0)
    assert isinstance(action, Resolve)
    return action


def test_each_address_of_a_name_is_tried_in_turn(world: World) -> None:
    wanted = resolve(world)
    assert (wanted.host, wanted.port, wanted.family) == ("node.example", 4617, 4)
    places = [("192.0.2.1", 4617), ("192.0.2.2", 4617), ("192.0.2.1", 4617)]
    first = dialled(world.dialer.resolved(wanted.target, places, 1.0))
    second = dialled(world.dialer.dial_failed(first.dial, "io", 2.0))
    assert (first.host, second.host) == ("192.0.2.1", "192.0.2.2")
    assert failure(world.dialer.dial_failed(second.dial, "timeout", 3.0)) == (1, "timeout")


def test_a_wrong_key_says_more_than_what_comes_after(world: World) -> None:
    wanted = resolve(world)
    places = [("192.0.2.1", 4617), ("192.0.2.2", 4617)]
    first = dialled(world.dialer.resolved(wanted.target, places, 1.0))
    second = dialled(world.dialer.dial_failed(first.dial, "identity", 2.0))
    assert failure(world.dialer.dial_failed(second.dial, "io", 3.0)) == (1, "identity_mismatch")


def test_a_name_without_address(world: World) -> None:
    wanted = resolve(world)
    assert failure(world.dialer.resolve_failed(wanted.target, "unknown", 1.0))[1] == "dial_failed"
    assert world.dialer.resolved(wanted.target, [("192.0.2.1", 1)], 2.0) == []


def test_a_name_that_is_never_resolved(world: World) -> None:
    resolve(world)
    due = world.dialer.next_deadline()
    assert due is not None
    assert failure(world.dialer.run(due)) == (1, "timeout")


# --- a peer without a place ---


def test_a_peer_is_tried_wherever_it_may_be(world: World) -> None:
    world.known_places[KEY] = [("192.0.2.1", 1), ("2001:db8::1", 2)]
    first = dialled(world.dialer.request(1, PLACELESS, 10.0, 0.0))
    second = dialled(world.dialer.dial_failed(first.dial, "identity", 1.0, OTHER_KEY))
    assert [(one.host, one.port, one.key, one.pinned) for one in (first, second)] == [
        ("192.0.2.1", 1, KEY, True),
        ("2001:db8::1", 2, KEY, True),
    ]
    world.ready(second.dial, 2.0)
    made = link()
    assert world.up(made, 2.0) == [Connected(1, made)]


def test_names_among_its_places_are_looked_up_when_their_turn_comes(world: World) -> None:
    world.known_places[KEY] = [("192.0.2.1", 1), ("node.example", 2), ("192.0.2.3", 3)]
    first = dialled(world.dialer.request(1, PLACELESS, 10.0, 0.0))
    (wanted,) = told(world.dialer.dial_failed(first.dial, "io", 1.0))
    assert isinstance(wanted, Resolve)
    assert (wanted.host, wanted.port, wanted.family) == ("node.example", 2, None)
    second = dialled(world.dialer.resolved(wanted.target, [("192.0.2.2", 2)], 2.0))
    third = dialled(world.dialer.dial_failed(second.dial, "io", 3.0))
    assert (second.host, third.host) == ("192.0.2.2", "192.0.2.3")


def test_a_name_without_address_is_passed_over(world: World) -> None:
    world.known_places[KEY] = [("node.example", 2), ("192.0.2.3", 3)]
    (wanted,) = world.dialer.request(1, PLACELESS, 10.0, 0.0)
    assert isinstance(wanted, Resolve)
    assert dialled(world.dialer.resolved(wanted.target, [], 1.0)).host == "192.0.2.3"


def test_a_peer_of_which_no_place_is_known(world: World) -> None:
    (failed,) = world.dialer.request(1, PLACELESS, 10.0, 0.0)
    assert isinstance(failed, Failed)
    assert (failed.code, "no place" in failed.message) == ("dial_failed", True)
    world.dialer.keep([PLACELESS], 100.0)
    assert pause_after(world, "io", 100.0) == 1.0
    assert pause_after(world, "io", 101.0) == 2.0


def test_a_round_has_so_many_places(world: World) -> None:
    world.known_places[KEY] = [(f"192.0.{n}.1", 1) for n in range(PLACES_MAX + 3)]
    actions, hosts = world.dialer.request(1, PLACELESS, 10.0, 0.0), []
    while messages := all_dialled(actions):
        hosts.append(messages[0].host)
        actions = world.dialer.dial_failed(messages[0].dial, "io", 0.0)
    assert hosts == [f"192.0.{n}.1" for n in range(PLACES_MAX)]
    assert failure(actions) == (1, "dial_failed")


def test_where_it_worked_last_comes_first_then_where_it_failed_least(world: World) -> None:
    hosts = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    world.known_places[KEY] = [(host, 1) for host in hosts]
    first = dialled(world.dialer.request(1, PLACELESS, 10.0, 0.0))
    second = dialled(world.dialer.dial_failed(first.dial, "io", 1.0))
    third = dialled(world.dialer.dial_failed(second.dial, "io", 1.0))
    world.ready(third.dial, 2.0)
    world.up(link(), 2.0)
    del world.open[PEER]
    actions, order = world.dialer.request(2, PLACELESS, 10.0, 3.0), []
    while messages := all_dialled(actions):
        order.append(messages[0].host)
        reason = "io" if messages[0].host != hosts[0] else "identity"
        actions = world.dialer.dial_failed(messages[0].dial, reason, 3.0)
    assert order == [hosts[2], hosts[0], hosts[1]]
    again = world.dialer.request(3, PLACELESS, 10.0, 4.0)
    for host in (hosts[2], hosts[0], hosts[1]):
        (message,) = all_dialled(again)
        assert message.host == host
        again = world.dialer.dial_failed(message.dial, "io", 4.0)
