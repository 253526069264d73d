"""Whether a node says that it serves; where it is; whose records are fetched."""

from __future__ import annotations

from discovery_world import World, contact_of
from dp2p.coordinator.discovery.actions import Action, PlaceAgreed, RecordSeen, Serves, Settings
from dp2p.coordinator.discovery.contact import Contact, Place, Serving
from dp2p.coordinator.discovery.messages import (
    Advertise,
    Advertised,
    AskRecord,
    Ping,
    Pong,
    RecordIs,
    at,
    topic,
)
from dp2p.coordinator.discovery.reachability import (
    CONTACTS_ENOUGH,
    HOSTS_MAX,
    TRIAL_S,
    Reachability,
)
from lone_discovery import Lone, only, pong, sends

TOPIC = topic("chat")
INSIDE: Place = ("10.0.0.5", 4617)
OUTSIDE: Place = ("198.51.100.9", 4617)
HALF_MINUTES = int(TRIAL_S // 30) + 2


ENOUGH = [contact_of(number) for number in range(CONTACTS_ENOUGH)]
ENOUGH_V6 = [contact_of(number, f"2001:db8:{number + 1:x}::1") for number in range(CONTACTS_ENOUGH)]
INSIDE_V6: Place = ("2001:db8::7", 4617)


def tried(rule: Reachability, contacts: list[Contact] = ENOUGH, now: float = 0.0) -> bool:
    """Whether the trial's end changed anything."""
    return any(rule.look(contacts, now + 30.0 * turn) for turn in range(HALF_MINUTES))


def test_behind_a_nat_where_nobody_comes_it_does_not_serve() -> None:
    rule = Reachability("auto", (INSIDE,))
    rule.agreed(OUTSIDE)
    assert tried(rule)
    assert not rule.serves
    assert rule.next_deadline() == float("inf")


def test_not_before_the_trial_is_over_nor_with_few_contacts() -> None:
    rule = Reachability("auto", (INSIDE,))
    assert not any(rule.look(ENOUGH, now) for now in (0.0, TRIAL_S - 1.0))
    assert not tried(Reachability("auto", (INSIDE,)), ENOUGH[1:])


def test_somebody_who_comes_unasked_shows_that_it_can_be_reached() -> None:
    rule = Reachability("auto", (INSIDE,))
    assert tried(rule)
    rule.sent(contact_of(1))
    assert not rule.came(contact_of(1))
    assert rule.came(contact_of(2))
    assert rule.serves
    assert not rule.came(contact_of(3))


def test_who_comes_from_this_side_of_the_nat_shows_nothing() -> None:
    rule = Reachability("auto", (INSIDE,))
    assert tried(rule)
    assert rule.agreed(OUTSIDE)
    assert tried(rule, now=10_000.0)
    assert not rule.came(contact_of(1, "10.0.0.9"))
    assert rule.came(contact_of(2))
    site = Reachability("auto", (INSIDE,))
    site.agreed(("10.9.9.9", 4617))
    assert tried(site)
    assert site.came(contact_of(1, "10.0.0.9"))


def test_it_serves_where_it_is_seen_at_an_address_of_its_own() -> None:
    rule = Reachability("auto", (INSIDE,))
    rule.agreed((INSIDE[0], 999))
    assert not tried(rule)


def test_another_place_is_another_trial() -> None:
    rule = Reachability("auto", (INSIDE,))
    rule.agreed(OUTSIDE)
    assert tried(rule)
    assert rule.agreed(("203.0.113.1", 4617))
    assert rule.serves
    assert tried(rule, now=10_000.0)


def test_a_nat_of_one_family_is_none_of_the_other() -> None:
    rule = Reachability("auto", (INSIDE, INSIDE_V6))
    assert rule.serves == Serving(v4=True, v6=True)
    rule.agreed(INSIDE_V6)
    rule.agreed(OUTSIDE)
    assert not tried(rule, ENOUGH_V6)
    assert tried(rule, [*ENOUGH, *ENOUGH_V6], 10_000.0)
    assert rule.serves == Serving(v6=True)
    assert not rule.came(contact_of(1, "2001:db8:1::1"))
    assert rule.came(contact_of(1))
    assert rule.serves == Serving(v4=True, v6=True)


def test_a_family_without_a_socket_is_not_served() -> None:
    rule = Reachability("always", (INSIDE,))
    assert rule.serves == Serving(v4=True)
    assert not rule.agreed(INSIDE_V6)


def test_who_does_not_serve_by_one_family_stays_by_the_other() -> None:
    """A contact that has a NAT for IPv4 alone; it is known by its IPv6."""
    lone = Lone(places=(INSIDE, INSIDE_V6))
    by_v6, by_v4 = contact_of(1, "2001:db8:1::1"), contact_of(1, "198.51.100.1")
    lone.befriend([by_v6])
    lone.meet(by_v4, serves=False)
    assert lone.known() == [by_v6]
    assert lone.asked(by_v4, Advertise(1, [TOPIC])) == [Advertised(1, [0])]
    assert lone.asked(by_v6, Advertise(2, [TOPIC])) != [Advertised(2, [0])]
    lone.meet(by_v6, serves=False)
    assert lone.known() == []


def test_a_contact_is_not_moved_to_where_it_does_not_serve() -> None:
    lone = Lone(places=(INSIDE, INSIDE_V6))
    by_v6, by_v4 = contact_of(1, "2001:db8:1::1"), contact_of(1, "198.51.100.1")
    lone.befriend([by_v6])
    table = lone.discovery.table
    table.answered(by_v4, lone.now)
    lone.meet(by_v4, serves=False)
    table.failed(by_v6, lone.now)
    assert [one.place for one in lone.known()] == [by_v6.place]


def test_the_operator_decides_otherwise() -> None:
    always, never = (Reachability(serve, (INSIDE,)) for serve in ("always", "never"))
    for rule in (always, never):
        assert not tried(rule)
        assert not rule.came(contact_of(1))
        assert not rule.agreed(OUTSIDE)
    assert (always.serves, never.serves) == (Serving(v4=True), Serving())


def test_what_it_sent_to_is_bounded() -> None:
    rule = Reachability("auto", (INSIDE,))
    for number in range(HOSTS_MAX + 10):
        rule.sent(contact_of(number))
    assert len(rule._sent_to) == HOSTS_MAX


def test_in_a_network_those_behind_a_nat_leave_the_tables() -> None:
    world = World(seed=21)
    nodes = world.network(16)
    guests = [world.add(contact_of(900 + one), nat=f"10.0.0.{one + 1}") for one in range(3)]
    for guest in guests:
        guest.do(guest.discovery.candidates([nodes[0].contact], world.now))
    world.run(TRIAL_S + 300.0)
    assert [Serves(Serving())] * 3 == [
        one for guest in guests for one in guest.seen if isinstance(one, Serves)
    ]
    assert not any(isinstance(one, Serves) for node in nodes for one in node.seen)
    world.run(1500.0)  # until each guest has pinged its contacts, by which they hear of it
    for node in nodes:
        assert not {one.contact for one in guests} & set(node.discovery.table.contacts())
    for guest in guests:
        assert PlaceAgreed(guest.contact.place) in guest.seen
        assert nodes[3].contact in world.lookup(guest, nodes[3].contact.id).contacts


# --- the own place ---


def votes(lone: Lone, voters: list[Contact], seen: Place) -> list[Action]:
    """Contacts that this node asked say where they see it; what is agreed by that."""
    actions = [act for one in voters for act in lone.meet(one, came=False, seen=seen)]
    return [one for one in actions if isinstance(one, PlaceAgreed)]


def test_a_place_is_agreed_by_independent_contacts_and_once() -> None:
    lone = Lone()
    crowd = [contact_of(one, f"203.0.113.{one}") for one in range(1, 50)]
    assert votes(lone, crowd, OUTSIDE) == []
    assert votes(lone, [contact_of(one) for one in range(50, 60)], OUTSIDE) == [
        PlaceAgreed(OUTSIDE)
    ]


def test_nobody_can_be_seen_where_no_node_is() -> None:
    lone = Lone()
    voters = [contact_of(one) for one in range(1, 20)]
    assert votes(lone, voters, ("224.0.0.1", 4617)) == []
    assert votes(lone, voters, ("::ffff:192.0.2.1", 4617)) == []


def test_who_comes_by_itself_has_no_vote() -> None:
    lone = Lone()
    for one in range(1, 20):
        lone.meet(contact_of(one), came=True)
        lone.hear(contact_of(one), Pong(7, 0, at(OUTSIDE)))
    assert lone.discovery.own_place.agreed4 is None


def test_pongs_vote_too() -> None:
    lone = Lone()
    actions: list[Action] = []
    for one in range(1, 8):
        contact = contact_of(one)
        sent = lone.discovery.candidates([contact], lone.now)
        lone.meet(contact, came=False)
        actions += lone.hear(contact, pong(only(sent, Ping), seen=OUTSIDE))
    assert only(actions, PlaceAgreed).place == OUTSIDE


def test_the_agreed_place_is_no_contact_s() -> None:
    lone = Lone()
    votes(lone, [contact_of(one) for one in range(50, 60)], OUTSIDE)
    thief = contact_of(7, OUTSIDE[0])
    assert lone.discovery.candidates([thief], lone.now) == []


# --- records ---


def checked(lone: Lone, contact: Contact, seq: int) -> list[Action]:
    """A contact answers a ping, with the number of its record."""
    actions = lone.discovery.ask("ping", contact, Ping(0, 0), lone.now)
    lone.meet(contact, came=False)
    return lone.hear(contact, pong(only(actions, Ping), seq))


def test_a_newer_record_is_fetched_once() -> None:
    lone = Lone()
    friend = contact_of(1)
    request = only(checked(lone, friend, 3), AskRecord)
    assert lone.hear(friend, RecordIs(request.id, b"signed")) == [RecordSeen(friend, b"signed")]
    for older in (3, 2, 0):
        assert not fetched(checked(lone, friend, older))
    assert fetched(checked(lone, friend, 4))


def test_hellos_and_pings_bring_news_of_who_is_known() -> None:
    lone = Lone()
    friend, stranger = contact_of(1), contact_of(2)
    assert not fetched(lone.meet(stranger, seq=5))
    assert not fetched(lone.hear(stranger, Ping(1, 6)))
    checked(lone, friend, 3)
    assert fetched(lone.meet(friend, seq=4))
    assert fetched(lone.hear(friend, Ping(1, 5)))


def test_a_record_that_did_not_come_is_asked_for_again() -> None:
    lone = Lone()
    friend = contact_of(1)
    assert fetched(checked(lone, friend, 3))
    lone.discovery.unreachable(friend, lone.now)
    assert fetched(checked(lone, friend, 3))


def test_the_empty_record_is_none() -> None:
    lone = Lone()
    friend = contact_of(1)
    request = only(checked(lone, friend, 3), AskRecord)
    assert lone.hear(friend, RecordIs(request.id, b"")) == []


def test_records_are_fetched_at_a_bounded_rate() -> None:
    lone = Lone()
    crowd = [contact_of(one, f"203.0.113.{one}") for one in range(1, 50)]
    assert sum(bool(fetched(checked(lone, one, 1))) for one in crowd) == 4
    many = [contact_of(one) for one in range(50, 150)]
    assert sum(bool(fetched(checked(lone, one, 1))) for one in many) == 28
    assert lone.discovery.counters.records_limited == 45 + 72


def fetched(actions: list[Action]) -> list[AskRecord]:
    return [one.message for one in sends(actions) if isinstance(one.message, AskRecord)]


def test_a_node_that_does_not_serve_answers_all_the_same() -> None:
    lone = Lone(Settings(serve="never"))
    assert not lone.discovery.serves
    assert [type(one) for one in lone.asked(contact_of(1), Ping(2, 0))] == [Pong]
