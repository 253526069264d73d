"""Joining and staying: candidates, lookups of oneself, refreshes, seeding, loss, restarts."""

from __future__ import annotations

import pytest

from discovery_world import Node, World, contact_of
from dp2p.coordinator.discovery.actions import DiscoveryBusy, LookedUp, Settings
from dp2p.coordinator.discovery.messages import Find, Nodes, Ping, named
from dp2p.coordinator.discovery.service import QUESTIONS_MAX
from dp2p.coordinator.discovery.tending import (
    CANDIDATES_MAX,
    CANDIDATES_OF_NETWORK,
    CHECKS_AT_ONCE,
    LIVENESS_AT_ONCE,
    SEED_S,
    SEED_YOUNG_S,
    WALKS_AT_ONCE,
    YOUNG_S,
)
from dp2p.coordinator.discovery.walks import QUEUE_MAX, RUNNING_MAX
from lone_discovery import Lone, only, pong, sends


def others(world: World, node: Node, target: int) -> list[bytes]:
    """The keys of the 16 closest to a target, apart from a node."""
    closest = [one.key for one in world.closest(target, 17)]
    return [one for one in closest if one != node.contact.key][:16]


def found(world: World, node: Node, target: int) -> bool:
    """Whether a lookup finds all of the closest."""
    result = world.lookup(node, target)
    return [one.key for one in result.contacts] == others(world, node, target)


def test_a_network_forms_through_one_and_each_finds_each() -> None:
    world = World(seed=1)
    nodes = world.network(24)
    for number, node in enumerate(nodes):
        assert found(world, node, nodes[number - 7].contact.id)
    assert all(len(node.discovery.table) == 23 for node in nodes)


@pytest.mark.parametrize(("loss", "bar"), [(0.05, 0.9), (0.2, 0.5)])
def test_it_forms_when_packets_are_lost(loss: float, bar: float) -> None:
    world = World(seed=2, loss=loss)
    nodes = world.network(16, settle_s=200.0)
    hits = 0
    for number, node in enumerate(nodes):
        sought = nodes[number - 7].contact
        hits += sought in world.lookup(node, sought.id).contacts
    assert hits >= bar * len(nodes)


def test_a_small_network_is_complete_in_seconds() -> None:
    """Whoever comes to a node that knows few is checked at once."""
    for seed in range(3):
        world = World(seed=seed)
        nodes = world.network(5, settle_s=15.0)
        assert all(len(node.discovery.table) == 4 for node in nodes)


def test_candidates_of_one_network_leave_room_for_others() -> None:
    lone = Lone()
    crowd = [contact_of(one, f"198.51.100.{one}") for one in range(1, 200)]
    lone.discovery.candidates(crowd, lone.now)
    assert lone.discovery.counters.candidates_dropped == len(crowd) - CANDIDATES_OF_NETWORK
    lone.discovery.candidates([contact_of(201, "203.0.113.1")], lone.now)
    assert lone.discovery.counters.candidates_dropped == len(crowd) - CANDIDATES_OF_NETWORK


def test_two_nodes_are_a_network() -> None:
    world = World()
    one, other = world.network(2)
    assert one.discovery.table.contacts() == [other.contact]
    assert found(world, other, one.contact.id)


def test_the_dead_are_not_found_and_are_forgotten() -> None:
    world = World(seed=3)
    nodes = world.network(18)
    for node in nodes[12:]:
        node.up = False
    world.run(2400.0)
    for number, node in enumerate(nodes[:12]):
        assert found(world, node, nodes[number + 5].contact.id)
        assert {one.key for one in node.discovery.table.contacts()} <= {
            one.contact.key for one in nodes[:12]
        }


def test_who_is_started_again_is_back_through_what_it_remembers() -> None:
    world = World(seed=4)
    nodes = world.network(20)
    lost = nodes[9]
    remembered = lost.discovery.table.contacts()[:3]
    lost.restart()
    lost.do(lost.discovery.candidates(remembered, world.now))
    world.run(30.0)
    assert found(world, lost, nodes[15].contact.id)
    assert found(world, nodes[15], lost.contact.id)


def test_when_all_are_started_again_at_once_each_finds_each_through_what_it_remembers() -> None:
    world = World(seed=5)
    nodes = world.network(40)
    tables = [node.discovery.table.contacts() for node in nodes]
    for node in nodes:
        node.restart()
    for node, table in zip(nodes, tables, strict=True):
        node.do(node.discovery.candidates(world.random.sample(table, 6), world.now))
    world.run(30.0)
    for number, node in enumerate(nodes[::4]):
        assert found(world, node, nodes[(7 * number + 3) % 40].contact.id)


def test_who_was_cut_off_keeps_its_table() -> None:
    world = World(seed=5)
    nodes = world.network(12)
    before = len(nodes[3].discovery.table)
    world.loss = 1.0
    world.run(1800.0)
    assert len(nodes[3].discovery.table) == before
    world.loss = 0.0
    world.run(1800.0)
    assert found(world, nodes[3], nodes[10].contact.id)


def test_candidates_are_pinged_a_few_at_a_time_and_count_when_they_answer() -> None:
    lone = Lone()
    crowd = [contact_of(one) for one in range(1, CANDIDATES_MAX + 20)]
    actions = lone.discovery.candidates([*crowd, *crowd], lone.now)
    assert [one.message.__class__ for one in sends(actions)] == [Ping] * CHECKS_AT_ONCE
    assert lone.discovery.counters.candidates_dropped > 0
    assert lone.known() == []
    lone.meet(crowd[0], came=False)
    answered = lone.hear(crowd[0], pong(only(actions[:1], Ping)))
    assert lone.known() == [crowd[0]]
    assert any(isinstance(one.message, Find) for one in sends(answered))  # of itself
    assert any(one.contact == crowd[CHECKS_AT_ONCE] for one in sends(answered))


def test_neither_itself_nor_its_own_place_is_a_candidate() -> None:
    lone = Lone()
    own_key = contact_of(0, "192.0.2.99")
    own_place = contact_of(7, lone.contact.place[0])
    assert lone.discovery.candidates([lone.contact, own_key, own_place], lone.now) == []


def test_names_in_answers_are_asked_but_do_not_enter_before_they_answer() -> None:
    lone = Lone()
    friend, named_one = contact_of(1), contact_of(2)
    lone.befriend([friend])
    find = only(lone.discovery.lookup("x", 0, lone.now), Find)
    actions = lone.hear(friend, Nodes(find.id, 0, 1, [named(named_one)]))
    asked = next(one for one in sends(actions) if one.contact == named_one)
    assert lone.known() == [friend]
    lone.meet(named_one, came=False)
    done = only(lone.hear(named_one, Nodes(asked.message.id, 0, 1, [])), LookedUp)
    assert set(done.result.contacts) == {friend, named_one}
    assert set(lone.known()) == {friend, named_one}


def test_a_lookup_with_nobody_to_ask_ends_at_once() -> None:
    lone = Lone()
    done = only(lone.discovery.lookup("x", 5, lone.now), LookedUp)
    assert (done.token, done.result.contacts, done.result.asked) == ("x", (), 0)


def test_lookups_wait_for_their_turn_and_too_many_are_refused() -> None:
    lone = Lone()
    lone.befriend([contact_of(1)])
    began = 0
    for _ in range(RUNNING_MAX + QUEUE_MAX):
        began += bool(sends(lone.discovery.lookup("x", 5, lone.now)))
    assert began == RUNNING_MAX
    with pytest.raises(DiscoveryBusy, match="32 are under way and 256 wait"):
        lone.discovery.lookup("x", 5, lone.now)
    ended = [one for one in lone.wait(600.0) if isinstance(one, LookedUp)]
    assert len(ended) == RUNNING_MAX + QUEUE_MAX
    assert all(one.result.contacts == () for one in ended)


def test_questions_are_bounded() -> None:
    lone = Lone()
    for number in range(QUESTIONS_MAX):
        lone.discovery.ask("x", contact_of(number + 1), Ping(0, 0), lone.now)
    with pytest.raises(DiscoveryBusy, match="question: 512"):
        lone.discovery.ask("x", contact_of(1), Ping(0, 0), lone.now)


def test_seeding_never_stops_and_slows_down() -> None:
    world = World(seed=6)
    nodes = world.network(5)
    before = nodes[0].discovery.counters.lookups
    world.run(YOUNG_S)
    young = nodes[0].discovery.counters.lookups - before
    world.run(5 * 3600.0)
    before = nodes[0].discovery.counters.lookups
    world.run(3600.0)
    old = nodes[0].discovery.counters.lookups - before
    assert young >= (YOUNG_S - 120) / SEED_YOUNG_S / 1.5
    assert 3600 / SEED_S / 1.5 <= old <= 2 * 3600 / SEED_S + 30


def test_what_a_node_does_by_itself_is_bounded() -> None:
    lone = Lone()
    lone.befriend(contact_of(one) for one in range(1, 16))
    most = CHECKS_AT_ONCE + LIVENESS_AT_ONCE + WALKS_AT_ONCE * 8
    for _ in range(200):
        lone.wait(30.0)
        assert lone.discovery.sizes()["requests"] <= most


def test_a_node_that_does_not_serve_enters_no_table_and_finds_others() -> None:
    world = World(seed=7)
    nodes = world.network(20)
    guest = world.add(contact_of(900), Settings(serve="never"), nat="10.0.0.5")
    guest.do(guest.discovery.candidates([nodes[0].contact], world.now))
    world.run(120.0)
    assert found(world, guest, nodes[7].contact.id) or guest.discovery.joined
    result = world.lookup(guest, nodes[7].contact.id)
    assert result.contacts[0] == nodes[7].contact
    assert all(guest.contact not in node.discovery.table.contacts() for node in nodes)


def test_a_contact_that_stops_serving_leaves_the_table() -> None:
    lone = Lone()
    friend = contact_of(1)
    lone.befriend([friend])
    lone.meet(friend, serves=False)
    assert lone.known() == []
