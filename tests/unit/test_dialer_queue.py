"""The dialer: how many dials are under way at a time, and whose turn it is."""

from __future__ import annotations

import pytest

from dialer_world import BARE, KEY, OTHER_KEY, PLACELESS, World, all_dialled, link
from dp2p import bus
from dp2p.addresses import parse
from dp2p.coordinator.dialer import OPEN_S
from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.pending import NETWORK_MAX
from dp2p.coordinator.targets import Action, Connect, Failed, Wanted


@pytest.fixture
def world() -> World:
    return World()


def places(networks: int, each: int = 1) -> list[Wanted]:
    return [
        parse(f"tcp4://198.51.{network}.{host + 1}:1")
        for host in range(each)
        for network in range(networks)
    ]


def ask(world: World, wanted: list[Wanted], first: int = 1) -> list[bus.DialLink]:
    actions: list[Action] = []
    for token, address in enumerate(wanted, first):
        actions += world.dialer.request(token, address, 100.0, 0.0)
    return all_dialled(actions)


def test_so_many_dials_are_under_way_in_all() -> None:
    world = World(max_dials=3)
    begun = ask(world, places(5))
    assert [one.host for one in begun] == ["198.51.0.1", "198.51.1.1", "198.51.2.1"]
    (_, failed, following) = world.dialer.dial_failed(begun[0].dial, "io", 1.0)
    assert isinstance(failed, Failed)
    assert isinstance(following, Connect)
    assert following.message.host == "198.51.3.1"


def test_so_many_dials_are_under_way_to_one_network(world: World) -> None:
    begun = ask(world, [*places(1, NETWORK_MAX + 2), parse("tcp4://198.51.9.1:1")])
    assert len(begun) == NETWORK_MAX + 1
    assert begun[-1].host == "198.51.9.1"
    actions = world.dialer.dial_failed(begun[-1].dial, "io", 1.0)
    assert all_dialled(actions) == []
    actions = world.dialer.dial_failed(begun[0].dial, "io", 1.0)
    assert [one.host for one in all_dialled(actions)] == [f"198.51.0.{NETWORK_MAX + 1}"]


def test_a_dial_is_under_way_until_its_link_is_open() -> None:
    world = World(max_dials=1)
    (first,) = ask(world, [BARE, *places(3)])
    assert all_dialled(world.ready(first.dial, 1.0)) == []
    (second,) = all_dialled(world.up(link(), 2.0))
    world.ready(second.dial, 3.0, number=2, key=OTHER_KEY)
    (third,) = all_dialled(world.dialer.link_down(LinkId(0, 2), "full", 4.0))
    (fourth,) = all_dialled(world.dialer.shard_down(0, 5.0))
    (again,) = all_dialled(world.dialer.dial_failed(fourth.dial, "io", 6.0))
    assert [one.host for one in (second, third, fourth, again)] == [
        "198.51.0.1",
        "198.51.1.1",
        "198.51.2.1",
        "198.51.1.1",
    ]


def test_a_dial_that_nobody_waits_for_any_more_still_counts() -> None:
    world = World(max_dials=1)
    (first,) = all_dialled(world.dialer.request(1, BARE, 1.0, 0.0))
    world.dialer.request(2, places(1)[0], 100.0, 0.0)
    assert all_dialled(world.dialer.run(1.0)) == []
    assert len(all_dialled(world.dialer.dial_failed(first.dial, "io", 2.0))) == 1


def test_a_link_that_stays_half_open_makes_room_in_time() -> None:
    world = World(max_dials=1)
    (first, *_) = ask(world, [BARE])
    world.dialer.request(2, places(1)[0], 100.0, 0.0)
    world.ready(first.dial, 0.0)
    assert len(all_dialled(world.dialer.run(OPEN_S))) == 1


def test_dials_of_applications_come_first_in_their_order() -> None:
    world = World(max_dials=1)
    automatic, *asked = places(4)
    (begun,) = ask(world, [BARE])
    world.dialer.keep([automatic], 0.0)
    world.dialer.run(0.0)
    assert ask(world, asked, first=2) == []
    order = []
    while messages := all_dialled(world.dialer.dial_failed(begun.dial, "io", 0.0)):
        begun = messages[0]
        order.append(begun.host)
    assert order == [f"198.51.{n}.1" for n in (1, 2, 3, 0)]


def test_the_next_place_of_one_target_queues_behind_the_others() -> None:
    world = World(max_dials=1, known_places={KEY: [("192.0.2.1", 1), ("192.0.2.2", 1)]})
    (first,) = ask(world, [PLACELESS, *places(1)])
    (second,) = all_dialled(world.dialer.dial_failed(first.dial, "io", 0.0))
    (third,) = all_dialled(world.dialer.dial_failed(second.dial, "io", 0.0))
    assert [first.host, second.host, third.host] == ["192.0.2.1", "198.51.0.1", "192.0.2.2"]


def test_who_waits_in_the_queue_is_told_at_its_deadline() -> None:
    world = World(max_dials=1)
    ask(world, [BARE])
    world.dialer.request(2, places(1)[0], 3.0, 0.0)
    (failed,) = world.dialer.run(3.0)
    assert isinstance(failed, Failed)
    assert (failed.token, failed.code, "queued" in failed.message) == (2, "timeout", True)
