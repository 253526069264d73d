"""Adverts and searches by protocol: a rare one is found, many are spread, liars gain little."""

from __future__ import annotations

from collections import Counter

import pytest

from discovery_world import Node, World, contact_of
from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import DiscoveryBusy, Found, RecordSeen, Settings
from dp2p.coordinator.discovery.advertising import RENEW_S, TOPICS_MAX
from dp2p.coordinator.discovery.adverts import AdvertLimits
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    Advertise,
    Advertised,
    AskRecord,
    FindProtocol,
    Named,
    Providers,
    RecordIs,
    named,
)
from dp2p.coordinator.discovery.searches import (
    CHECKS_AT_ONCE,
    CHECKS_EACH,
    FOUND_OF_NETWORK,
    SEARCHES_MAX,
)
from lone_discovery import Lone, only, sends

GRANTED_S = AdvertLimits().lifetime_s


def search(world: World, node: Node, protocol: str, count: int = 8) -> tuple[Contact, ...]:
    """Search, and wait for it."""
    node.do(node.discovery.search("search", protocol, world.now, count))
    done = world.result(node, "search")
    assert isinstance(done, Found)
    return done.contacts


def serve(world: World, nodes: list[Node], protocols: list[str]) -> None:
    for node in nodes:
        node.do(node.discovery.serve(protocols, world.now))


def test_the_one_who_serves_a_rare_protocol_is_found_by_all() -> None:
    world = World(seed=11)
    nodes = world.network(24)
    serve(world, nodes[13:14], ["rare"])
    world.run(60.0)
    for node in nodes[:13] + nodes[14:]:
        assert search(world, node, "rare") == (nodes[13].contact,)
    assert search(world, nodes[0], "unknown") == ()


def test_two_nodes_find_each_other_s_protocols() -> None:
    world = World()
    one, other = world.network(2)
    serve(world, [one], ["chat"])
    world.run(60.0)
    assert search(world, other, "chat") == (one.contact,)
    assert search(world, one, "chat") == ()


def test_as_many_are_found_as_are_wanted() -> None:
    world = World(seed=12)
    nodes = world.network(24)
    serve(world, nodes[:16], ["chat"])
    world.run(60.0)
    servers = {node.contact for node in nodes[:16]}
    for count in (1, 5, 12):
        found = search(world, nodes[20], "chat", count)
        assert len(set(found)) == len(found) == count
        assert set(found) <= servers


def test_adverts_are_renewed_and_end_when_no_longer_served() -> None:
    world = World(seed=13)
    nodes = world.network(10)
    serve(world, nodes[3:4], ["chat"])
    world.run(2 * GRANTED_S)
    assert search(world, nodes[9], "chat") == (nodes[3].contact,)
    serve(world, nodes[3:4], [])
    world.run(GRANTED_S + 60.0)
    assert search(world, nodes[9], "chat") == ()
    assert all(len(node.discovery.adverts) == 0 for node in nodes)


def test_who_has_gone_is_not_found_though_advertised() -> None:
    world = World(seed=14)
    nodes = world.network(10)
    serve(world, nodes[3:5], ["chat"])
    world.run(60.0)
    nodes[3].up = False
    assert search(world, nodes[9], "chat") == (nodes[4].contact,)


def test_250_protocols_go_out_spread_and_together() -> None:
    world = World(seed=15)
    nodes = world.network(12, settle_s=700.0)
    names = [f"p{number}" for number in range(250)]
    sent: Counter[int] = Counter()
    send = nodes[5].send

    def counted(to: Contact, message: messages.Message) -> None:
        sent[int(world.now)] += 1
        sent[-isinstance(message, Advertise)] += 1
        send(to, message)

    nodes[5].send = counted  # type: ignore[method-assign]
    serve(world, nodes[5:6], names)
    world.run(RENEW_S)
    found = [search(world, nodes[number % 5], name) for number, name in enumerate(names[::25])]
    assert found == [(nodes[5].contact,)] * 10
    adverts = sent.pop(-1)
    assert adverts <= 2 * 250 * 11 / messages.PROTOCOLS_MAX + 500
    sent.pop(0)
    assert max(sent.values()) <= 120


def test_a_node_that_does_not_serve_does_not_advertise() -> None:
    world = World(seed=16)
    nodes = world.network(8)
    guest = world.add(contact_of(90), Settings(serve="never"))
    guest.do(guest.discovery.candidates([nodes[0].contact], world.now))
    serve(world, [guest], ["chat"])
    world.run(120.0)
    assert all(len(node.discovery.adverts) == 0 for node in nodes)


def test_there_are_bounds_to_own_topics() -> None:
    lone = Lone()
    lone.discovery.serve((str(number) for number in range(2 * TOPICS_MAX)), lone.now)
    assert len(lone.discovery._advertising._topics) == TOPICS_MAX


@pytest.mark.parametrize("seconds", [[], [1800] * 8, [0]])
def test_advertised_may_say_too_few_or_too_many(seconds: list[int]) -> None:
    lone = Lone()
    friend = contact_of(1)
    lone.befriend([friend])
    lone.wait(60.0)
    lone.befriend([friend])
    lone.discovery.serve(["a"], lone.now)
    actions = lone.wait(5.0)
    for one in sends(actions):
        if one.contact == friend and not isinstance(one.message, Advertise):
            answer = _empty(one.message)
            actions += lone.hear(friend, answer) if answer else []
    actions += lone.wait(5.0)
    adverts = [one.message for one in sends(actions) if isinstance(one.message, Advertise)]
    for advert in adverts[:1]:
        lone.hear(friend, Advertised(advert.id, seconds))
    assert adverts
    assert lone.discovery.counters.adverts_placed == min(1, sum(seconds[:1]))


def _empty(request: messages.Message) -> messages.Message | None:
    match request:
        case messages.Find():
            return messages.Nodes(request.id, 0, 1, [])
        case messages.Ping():
            return messages.Pong(request.id, 0, messages.at(("192.0.2.1", 4617)))
    return None


# --- providers that are lies ---


def begun(lone: Lone, friends: list[Contact], count: int = 2) -> dict[Contact, FindProtocol]:
    """A search has begun: what each friend is asked."""
    lone.befriend(friends)
    actions = lone.discovery.search("s", "chat", lone.now, count)
    return {
        one.contact: one.message for one in sends(actions) if isinstance(one.message, FindProtocol)
    }


def lies(number: int, first: int) -> list[Named]:
    return [named(contact_of(one)) for one in range(first, first + number)]


def test_a_provider_counts_when_it_has_answered_itself() -> None:
    lone = Lone()
    friend, provider = contact_of(1), contact_of(2)
    asked = begun(lone, [friend], 1)
    actions = lone.hear(friend, Providers(asked[friend].id, 0, 1, [named(provider)], []))
    question = only(actions, AskRecord)
    assert not any(isinstance(one, Found) for one in actions)
    lone.meet(provider, came=False)
    actions = lone.hear(provider, RecordIs(question.id, b"signed"))
    assert only(actions, RecordSeen) == RecordSeen(provider, b"signed")
    assert only(actions, Found) == Found("s", (provider,))


def test_who_names_many_does_not_crowd_out_who_names_one() -> None:
    lone = Lone()
    liar, honest, provider = contact_of(1), contact_of(2), contact_of(3)
    asked = begun(lone, [liar, honest])
    first = lone.hear(liar, Providers(asked[liar].id, 0, 1, lies(16, 100), []))
    assert len([one for one in sends(first) if isinstance(one.message, AskRecord)]) == (
        CHECKS_AT_ONCE
    )
    lone.hear(honest, Providers(asked[honest].id, 0, 1, [named(provider)], []))
    lied = [one.contact for one in sends(first) if isinstance(one.message, AskRecord)]
    following = [
        one.contact
        for contact in lied[:2]
        for one in sends(lone.discovery.unreachable(contact, lone.now))
    ]
    assert provider in following


def test_many_names_in_one_network_have_one_turn_together() -> None:
    lone = Lone()
    liars = [contact_of(one, f"198.51.100.{one}") for one in range(1, 3)]
    honest, provider = contact_of(3), contact_of(4)
    asked = begun(lone, [*liars, honest])
    told = [
        lone.hear(liar, Providers(asked[liar].id, 0, 1, lies(16, 100 * number), []))
        for number, liar in enumerate(liars, 1)
    ]
    lied = [one.contact for one in sends(told[0]) if isinstance(one.message, AskRecord)]
    lone.hear(honest, Providers(asked[honest].id, 0, 1, [named(provider)], []))
    following = [
        one.contact
        for contact in lied[:2]
        for one in sends(lone.discovery.unreachable(contact, lone.now))
    ]
    assert provider in following


def test_a_provider_named_at_a_false_place_first_is_found_at_the_true_one() -> None:
    lone = Lone()
    liar, honest, provider = contact_of(1), contact_of(2), contact_of(3)
    false = contact_of(3, "198.51.100.4")
    asked = begun(lone, [liar, honest], 1)
    lone.hear(liar, Providers(asked[liar].id, 0, 1, [named(false)], []))
    actions = lone.hear(honest, Providers(asked[honest].id, 0, 1, [named(provider)], []))
    question = next(one for one in sends(actions) if one.contact == provider)
    lone.meet(provider, came=False)
    done = only(lone.hear(provider, RecordIs(question.message.id, b"")), Found)
    assert done.contacts == (provider,)


def test_of_one_network_three_are_found() -> None:
    lone = Lone()
    friend = contact_of(1)
    crowd = [contact_of(one, f"198.51.100.{one}") for one in range(10, 16)]
    asked = begun(lone, [friend], 6)
    actions = lone.hear(friend, Providers(asked[friend].id, 0, 1, list(map(named, crowd)), []))
    while questions := [one for one in sends(actions) if isinstance(one.message, AskRecord)]:
        actions = []
        for one in questions:
            lone.meet(one.contact, came=False)
            actions += lone.hear(one.contact, RecordIs(one.message.id, b""))
    assert len(only(actions, Found).contacts) == FOUND_OF_NETWORK


def test_lies_are_checked_only_so_often() -> None:
    lone = Lone()
    friends = [contact_of(one) for one in range(1, 6)]
    asked = begun(lone, friends, 2)
    actions = []
    for number, (friend, request) in enumerate(asked.items()):
        named_ones = lies(16, 100 * (number + 1))
        actions += lone.hear(friend, Providers(request.id, 0, 1, named_ones, []))
    actions += lone.wait(200.0)
    checked = [one for one in sends(actions) if isinstance(one.message, AskRecord)]
    assert len(checked) == 2 * CHECKS_EACH
    assert only(actions, Found) == Found("s", ())


def test_searches_are_bounded() -> None:
    lone = Lone()
    lone.befriend([contact_of(1)])
    for _ in range(SEARCHES_MAX):
        lone.discovery.search("s", "chat", lone.now)
    with pytest.raises(DiscoveryBusy, match="64 are under way"):
        lone.discovery.search("s", "chat", lone.now)


def test_what_was_advertised_here_is_found_without_asking_others() -> None:
    lone = Lone()
    provider = contact_of(5)
    lone.meet(provider)
    lone.asked(provider, Advertise(1, [messages.topic("chat")]))
    actions = lone.discovery.search("s", "chat", lone.now, 1)
    question = only(actions, AskRecord)
    actions = lone.hear(provider, RecordIs(question.id, b""))
    assert only(actions, Found) == Found("s", (provider,))
