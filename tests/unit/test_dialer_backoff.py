"""The dialer: what is left alone after a failure, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer_world import (
    BARE,
    KEY,
    KEYED,
    NAMED,
    PLACELESS,
    World,
    all_dialled,
    dialled,
    failure,
    link,
    pause_after,
    told,
)
from dp2p.addresses import parse
from dp2p.coordinator.backoff import FIRST_S
from dp2p.coordinator.dialer import NO_SHARD_S, PEER_BACKOFF_MAX_S, PLACE_BACKOFF_MAX_S, REDIALS
from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.targets import Resolve, Wanted


@pytest.fixture
def world() -> World:
    return World()


def test_a_static_peer_is_dialled_with_growing_pauses(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        message = dialled(world.dialer.run(now))
        assert told(world.dialer.dial_failed(message.dial, "io", now)) == []
        due = world.dialer.next_deadline()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == PLACE_BACKOFF_MAX_S


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 100))
def test_jitter_stays_within_half(jitter: float, failures: int) -> None:
    world = World(jitter=jitter)
    world.dialer.keep([KEYED], 0.0)
    now, pause = 0.0, 0.0
    for _ in range(min(failures, 12) + 1):
        message = dialled(world.dialer.run(now))
        world.dialer.dial_failed(message.dial, "io", now)
        due = world.dialer.next_deadline()
        assert due is not None
        pause, now = due - now, due
    assert 0.5 * 0.5 * 0.99 <= pause <= 1.5 * PLACE_BACKOFF_MAX_S


def test_a_request_does_not_wait_for_the_backoff(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    message = dialled(world.dialer.run(0.0))
    world.dialer.dial_failed(message.dial, "io", 0.0)
    message = dialled(world.dialer.request(1, KEYED, 5.0, 0.1))
    assert failure(world.dialer.dial_failed(message.dial, "io", 0.2)) == (1, "dial_failed")
    assert world.dialer.next_deadline() is not None


def test_a_dead_place_holds_nothing_against_the_peer(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    now = 0.0
    for _ in range(20):
        now += pause_after(world, "io", now)
    elsewhere = parse(f"dp2p://{KEY}@192.0.2.77:1")
    world.dialer.keep([elsewhere], now)
    assert "192.0.2.77" in [one.host for one in all_dialled(world.dialer.run(now))]


def test_a_wrong_key_is_held_against_the_peer_and_not_against_the_place(world: World) -> None:
    world.dialer.keep([KEYED], 0.0)
    now, pauses = 0.0, []
    for _ in range(14):
        pauses.append(pause_after(world, "identity", now))
        now += pauses[-1]
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert pauses[-1] == PEER_BACKOFF_MAX_S
    now -= pauses[-1]  # just after the failure
    world.dialer.keep([BARE, parse(f"dp2p://{KEY}@192.0.2.77:1")], now)
    assert [(one.host, one.key) for one in all_dialled(world.dialer.run(now))] == [
        ("192.0.2.1", None)
    ]
    asked = world.dialer.request(1, KEYED, 5.0, now)
    assert dialled(asked).key == KEY


@pytest.mark.parametrize("address", [KEYED, BARE])
def test_who_refuses_is_left_alone_ever_longer(world: World, address: Wanted) -> None:
    world.dialer.keep([address], 0.0)
    now, pauses = 0.0, []
    for number in range(4):
        message = dialled(world.dialer.run(now))
        world.ready(message.dial, now, number)
        assert world.dialer.link_down(LinkId(0, number), "full", now) == []
        due = world.dialer.next_deadline()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_a_place_that_has_failed_is_left_alone_by_all_that_nobody_waits_for(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 5.0, 0.0))
    world.dialer.dial_failed(message.dial, "io", 0.0)
    world.known_places[KEY] = [("192.0.2.1", 4617), ("192.0.2.2", 4617)]
    world.dialer.keep([PLACELESS], 0.0)
    other = dialled(world.dialer.run(0.1))
    assert other.host == "192.0.2.2"
    assert told(world.dialer.dial_failed(other.dial, "io", 0.1)) == []
    assert world.dialer.next_deadline() == 0.5
    assert dialled(world.dialer.run(0.5)).host == "192.0.2.1"


def test_a_place_left_alone_is_tried_after_all_when_somebody_begins_to_wait(world: World) -> None:
    message = dialled(world.dialer.request(1, BARE, 5.0, 0.0))
    world.dialer.dial_failed(message.dial, "io", 0.0)
    world.known_places[KEY] = [("192.0.2.1", 4617), ("192.0.2.2", 4617)]
    world.dialer.keep([PLACELESS], 0.0)
    other = dialled(world.dialer.run(0.1))
    assert world.dialer.request(2, PLACELESS, 5.0, 0.1) == []
    assert dialled(world.dialer.dial_failed(other.dial, "io", 0.1)).host == "192.0.2.1"


@pytest.mark.parametrize("reason", ["io", "identity"])
def test_success_clears_what_is_held_against_peer_and_place(world: World, reason: str) -> None:
    world.dialer.keep([KEYED], 0.0)
    now = 0.0
    for _ in range(6):
        now += pause_after(world, reason, now)
    world.ready(dialled(world.dialer.run(now)).dial, now)
    world.up(link(), now)
    world.lose(now)
    due = world.dialer.next_deadline()
    assert due is not None
    assert pause_after(world, reason, due) == 0.5


def test_a_name_whose_places_are_left_alone_is_not_looked_up_all_the_time(world: World) -> None:
    world.dialer.keep([NAMED], 0.0)
    now = pause = 0.0
    for _ in range(8):
        (wanted,) = world.dialer.run(now)
        assert isinstance(wanted, Resolve)
        message = dialled(world.dialer.resolved(wanted.target, [("192.0.2.1", 4617)], now))
        assert told(world.dialer.dial_failed(message.dial, "io", now)) == []
        due = world.dialer.next_deadline()
        assert due is not None
        pause, now = due - now, due
    assert pause == PLACE_BACKOFF_MAX_S


def test_without_a_shard_a_static_peer_waits_and_loses_no_try(world: World) -> None:
    world.dialer.lost([link()], 0.0)
    world.shards = []
    now = FIRST_S
    for _ in range(2 * REDIALS):
        assert world.dialer.run(now) == []
        assert world.dialer.next_deadline() == now + NO_SHARD_S
        now += NO_SHARD_S
    world.shards = [0]
    assert dialled(world.dialer.run(now)).host == "192.0.2.1"


def test_a_place_left_alone_costs_no_try(world: World) -> None:
    world.dialer.lost([link()], 0.0)
    due = world.dialer.next_deadline()
    assert due is not None
    for token in range(3 * REDIALS):  # somebody else finds nobody there, each time just before
        asked = dialled(world.dialer.request(token, BARE, 5.0, due))
        world.dialer.dial_failed(asked.dial, "io", due)
        assert world.dialer.run(due) == []
        later = world.dialer.next_deadline()
        assert later is not None
        due = later
    assert dialled(world.dialer.run(due)).host == "192.0.2.1"
