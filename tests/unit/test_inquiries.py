"""What applications ask of discovery, and dials for which it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk_world import (
    BOB,
    PLACE,
    SEEDS,
    WALL,
    World,
    key_text,
    node_text,
    refusal,
)
from dp2p import control, ids, node_record
from dp2p.addresses import PeerAddress, PeerOnly
from dp2p.coordinator import desk
from dp2p.coordinator.discovering import Located
from dp2p.coordinator.discovery.contact import Contact
from dp2p.errors import RequestError


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_peer_without_a_place_is_looked_for(world: World) -> None:
    asked = world.discover()
    world.desk.dial(node_text(BOB), 3.0, world.answered.append)
    ((node_id, timeout_s, done),) = asked.located
    assert (node_id, timeout_s) == (ids.node_id(BOB), 3.0)
    world.now += 1.0
    record = node_record.sign(SEEDS[1], seq=1, endpoints=[PLACE], protocols=[])
    done(Located(Contact(BOB, ("192.0.2.7", 4617)), record, 5))
    _, target, left = world.carrier.dials[-1]
    assert (target, left) == (PeerOnly(key_text(BOB)), 2.0)


def test_without_a_record_a_peer_is_dialled_where_it_answered(world: World) -> None:
    asked = world.discover()
    world.desk.dial(f"dp2p://{key_text(BOB)}", 3.0, world.answered.append)
    world.now += 60.0
    asked.located[0][2](Located(Contact(BOB, ("192.0.2.7", 4617)), None, 5))
    _, target, left = world.carrier.dials[-1]
    assert target == PeerAddress(key_text(BOB), "192.0.2.7", 4617)
    assert left == desk.LEAST_S


@pytest.mark.parametrize(
    ("address", "code"),
    [(node_text(BOB), "unknown_peer"), (f"dp2p://{key_text(BOB)}", "dial_failed")],
)
def test_who_is_not_found_is_not_dialled(world: World, address: str, code: str) -> None:
    asked = world.discover()
    world.desk.dial(address, 3.0, world.answered.append)
    asked.located[0][2](Located(asked=7))
    (error,) = world.answered
    assert isinstance(error, RequestError)
    assert (error.code, error.peer) == (code, node_text(BOB))
    assert "discovery asked 7 others" in error.message
    assert not world.carrier.dials


def test_a_known_place_is_dialled_at_once(world: World) -> None:
    asked = world.discover()
    world.store.add_record(node_record.sign(SEEDS[1], seq=1, endpoints=[PLACE], protocols=[]), WALL)
    assert world.dial(f"dp2p://{key_text(BOB)}") == PeerOnly(key_text(BOB))
    assert not asked.located


def test_discovery_that_is_busy_refuses_the_dial(world: World) -> None:
    world.discover().busy = True
    refused = refusal(world.desk.dial, node_text(BOB), 3.0, world.answered.append)
    assert refused.code == "busy"


def test_a_node_without_discovery_refuses_its_questions(world: World) -> None:
    request = control.AskContact(id=1, key=key_text(BOB), endpoint="udp4://192.0.2.7:1")
    for question in (
        world.desk.table,
        lambda: world.desk.lookup(
            control.Lookup(id=1, target=node_text(BOB)), world.answered.append
        ),
        lambda: world.desk.ask_contact(request, world.answered.append),
    ):
        assert refusal(question).code == "no_discovery"
