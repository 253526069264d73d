"""What a node answers, to whom, and how much of it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery_world import contact_of
from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import Settings
from dp2p.coordinator.discovery.answering import ALL, EACH, NETWORK
from dp2p.coordinator.discovery.bucket import NetworkLimits
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    Advertise,
    Advertised,
    AskRecord,
    Find,
    FindProtocol,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
)
from dp2p.coordinator.discovery.scopes import Scope, reaches, scope
from dp2p.node_record import NodeRecord
from lone_discovery import Lone

ASKER = contact_of(500)
TOPIC = messages.topic("chat")


def target(contact: Contact) -> bytes:
    """A contact's node-ID."""
    return contact.id.to_bytes(32, "big")


def told(answers: list[messages.Message]) -> list[Contact | None]:
    """The contacts in NODES or PROVIDERS."""
    lists = [one.contacts for one in answers if isinstance(one, Nodes | Providers)]
    return [messages.contact(one) for some in lists for one in some]


def test_a_ping_is_answered_with_where_it_came_from() -> None:
    lone = Lone()
    assert lone.asked(ASKER, Ping(7, 0)) == [Pong(7, 0, messages.at(ASKER.place))]


def test_the_record_and_its_number() -> None:
    lone = Lone()
    assert lone.asked(ASKER, AskRecord(7)) == [RecordIs(7, b"")]
    record = NodeRecord(lone.contact.key, 3, (), (), False, b"signed")
    lone.discovery.own_record(record, lone.now)
    assert lone.asked(ASKER, AskRecord(8)) == [RecordIs(8, b"signed")]
    assert lone.asked(ASKER, Ping(9, 0)) == [Pong(9, 3, messages.at(ASKER.place))]
    lone.discovery.own_record(None, lone.now)
    assert lone.asked(ASKER, AskRecord(9)) == [RecordIs(9, b"")]


@given(st.integers(0, 60), st.integers(0, 2**256 - 1))
def test_a_find_brings_the_closest_that_have_answered(count: int, number: int) -> None:
    lone = Lone()
    friends = [contact_of(one) for one in range(1, count + 1)]
    lone.befriend(friends[:20])
    for one in friends[20:]:
        lone.meet(one)  # these have only come by
    asker = friends[0] if friends else ASKER
    answers = lone.asked(asker, Find(1, number.to_bytes(32, "big")))
    known = [one for one in lone.known() if one != asker]
    assert told(answers) == sorted(known, key=lambda one: one.id ^ number)[:16]


def test_a_find_of_this_node_itself_brings_its_neighbours() -> None:
    lone = Lone()
    lone.befriend(contact_of(one) for one in range(1, 5))
    assert len(told(lone.asked(ASKER, Find(1, target(lone.contact))))) == 4


def test_an_empty_table_is_an_answer_too() -> None:
    assert Lone().asked(ASKER, Find(1, bytes(32))) == [Nodes(1, 0, 1, [])]


SCOPES = {
    "127.0.0.1": Scope.MACHINE,
    "::1": Scope.MACHINE,
    "169.254.7.7": Scope.LINK,
    "fe80::7": Scope.LINK,
    "10.1.2.3": Scope.SITE,
    "172.16.0.9": Scope.SITE,
    "192.168.1.7": Scope.SITE,
    "fd00::7": Scope.SITE,
    "192.0.2.7": Scope.WORLD,
    "2001:db8::7": Scope.WORLD,
    "172.32.0.1": Scope.WORLD,
    "0.0.0.0": None,
    "::": None,
    "224.0.0.1": None,
    "ff02::1": None,
    "255.255.255.255": None,
    "::ffff:192.0.2.7": None,
    "::ffff:10.0.0.1": None,
}


@pytest.mark.parametrize(("host", "expected"), SCOPES.items())
def test_scopes(host: str, expected: Scope | None) -> None:
    assert scope(host) is expected


@pytest.mark.parametrize("told_host", SCOPES)
@pytest.mark.parametrize("other", SCOPES)
def test_addresses_never_go_where_they_mean_something_else(told_host: str, other: str) -> None:
    one, its = SCOPES[told_host], SCOPES[other]
    assert reaches(told_host, its) == (one is not None and its is not None and one >= its)


@pytest.mark.parametrize(
    ("asker", "expected"),
    [
        ("198.51.100.1", {"192.0.2.7"}),
        ("10.9.9.9", {"192.0.2.7", "10.1.2.3"}),
        ("127.0.0.9", {"192.0.2.7", "10.1.2.3", "127.0.0.1"}),
    ],
)
def test_private_contacts_are_told_to_private_askers(asker: str, expected: set[str]) -> None:
    lone = Lone()
    hosts = ("192.0.2.7", "10.1.2.3", "127.0.0.1")
    lone.befriend([contact_of(one, host) for one, host in enumerate(hosts, 1)])
    for number in (1, 2):  # as providers as well
        lone.asked(contact_of(number, hosts[number - 1]), Advertise(1, [TOPIC]))
    who = contact_of(500, asker)
    assert {one.place[0] for one in told(lone.asked(who, Find(1, bytes(32)))) if one} == expected
    (answer,) = lone.asked(who, FindProtocol(1, TOPIC))
    assert isinstance(answer, Providers)
    providers = [messages.place(one) for one in answer.providers]
    assert {place[0] for place in providers if place} == expected & set(hosts[:2])


def test_private_contacts_do_not_crowd_out_those_that_may_be_told() -> None:
    lone = Lone()
    lone.befriend([contact_of(one, f"10.0.{one}.7") for one in range(1, 17)])
    public = [contact_of(one) for one in range(20, 30)]
    lone.befriend(public)
    known = [one for one in lone.known() if one in public]
    assert set(told(lone.asked(ASKER, Find(1, bytes(32))))) == set(known)


def test_providers_and_contacts_in_two_parts_when_one_is_too_small() -> None:
    lone = Lone(host="2001:db8:ffff::1")
    hosts = [f"2001:db8:{one:x}::7" for one in range(1, 60)]
    contacts = [contact_of(one, host) for one, host in enumerate(hosts, 1)]
    lone.befriend(contacts[:30])
    for one in contacts:
        lone.asked(one, Advertise(1, [TOPIC]))
    answers = lone.asked(ASKER, FindProtocol(7, TOPIC))
    assert [type(one) for one in answers] == [Providers, Providers]
    parts = [one for one in answers if isinstance(one, Providers)]
    assert [(one.part, one.parts) for one in parts] == [(0, 2), (1, 2)]
    assert sum(len(one.providers) for one in parts) == 16
    assert sum(len(one.contacts) for one in parts) == 16
    assert all(len(messages.encode(one)) <= messages.BODY_MAX for one in parts)


def test_adverts_of_a_node_that_does_not_serve_are_refused() -> None:
    lone = Lone()
    lone.meet(ASKER, serves=False)
    assert lone.asked(ASKER, Advertise(1, [TOPIC])) == [Advertised(1, [0])]
    lone.meet(ASKER, serves=True)
    (answer,) = lone.asked(ASKER, Advertise(1, [TOPIC, messages.topic("other")]))
    assert isinstance(answer, Advertised)
    assert all(one > 0 for one in answer.seconds)
    assert len(answer.seconds) == 2


def served(lone: Lone, askers: list[Contact], times: int) -> int:
    """How many of so many requests of each are answered, at one time."""
    return sum(bool(lone.asked(one, Ping(1, 0))) for _ in range(times) for one in askers)


def test_a_contact_has_so_many_requests_and_then_silence() -> None:
    lone = Lone()
    assert served(lone, [ASKER], EACH[0] + 50) == EACH[0]
    assert lone.discovery.counters.limited_contact == 50
    assert served(lone, [contact_of(501)], 1) == 1
    lone.now += EACH[1] + 0.001
    assert served(lone, [ASKER], 2) == 1


def test_a_network_has_so_many_requests_unless_it_is_of_this_site() -> None:
    crowd = [contact_of(one, f"198.51.100.{one}") for one in range(1, 101)]
    lone = Lone()
    assert served(lone, crowd, 5) == NETWORK[0]
    assert lone.discovery.counters.limited_network == 500 - NETWORK[0]
    assert served(lone, [ASKER], 1) == 1
    site = [contact_of(one, f"10.0.0.{one}") for one in range(1, 101)]
    assert served(Lone(), site, 5) == 500
    limited = Settings(limits=NetworkLimits(local=True))
    assert served(Lone(limited), site, 5) == NETWORK[0]


def test_all_together_have_so_many_requests() -> None:
    lone = Lone()
    crowd = [contact_of(one) for one in range(1000, 1000 + ALL[0] + 100)]
    assert served(lone, crowd, 1) == ALL[0]
    assert lone.discovery.counters.limited_all == 100


def test_a_flood_of_strangers_leaves_answers_for_those_in_the_table() -> None:
    lone = Lone()
    friend, elsewhere = contact_of(1), contact_of(1, "198.51.100.4")
    lone.befriend([friend])
    assert served(lone, [contact_of(one) for one in range(1000, 1000 + ALL[0])], 1) == ALL[0]
    assert served(lone, [contact_of(2), elsewhere], 1) == 0
    assert served(lone, [friend], EACH[0] + 1) == EACH[0]


@given(st.lists(st.integers(1, 2**32 - 1), max_size=40, unique=True))
def test_an_answer_is_never_beyond_its_bounds(addresses: list[int]) -> None:
    lone = Lone()
    for number, address in enumerate(addresses, 1):
        contact = contact_of(number, str(ipaddress.IPv4Address(address)))
        lone.meet(contact)
        lone.asked(contact, Advertise(1, [TOPIC]))
    for request in (Find(1, bytes(32)), FindProtocol(2, TOPIC)):
        for answer in lone.asked(ASKER, request):
            body = messages.encode(answer)
            assert len(body) <= messages.BODY_MAX
            assert messages.decode(body) == answer
