"""The suites of discovery v4 and v5 (CATALOGUE, "Discovery"), at the level of messages.

A row: the case's name, what is done to a node that has three contacts and has asked the first of
them for contacts, and what it does about it. What concerns packets, handshakes and addresses is
tested with the sessions; a row here says what is left of it above them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from discovery_world import contact_of
from dp2p.coordinator.discovery import messages
from dp2p.coordinator.discovery.actions import Action, Answered, LookedUp, RecordSeen
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    Answer,
    AskRecord,
    Find,
    Message,
    MessageError,
    Named,
    Nodes,
    Ping,
    Pong,
    Providers,
    RecordIs,
    at,
    named,
)
from dp2p.node_record import NodeRecord
from lone_discovery import Lone, only, sends

FRIENDS = [contact_of(one) for one in range(1, 4)]
ASKED, *_ = FRIENDS
STRANGER = contact_of(500)
UNKNOWN = contact_of(600)
NUMBER_MAX = (1 << 63) - 1


class Case:
    """The node, and the request that is under way."""

    def __init__(self) -> None:
        self.node = Lone()
        self.node.befriend(FRIENDS)
        self.node.wait(30.0)  # until what it does by itself has come to nothing
        self.node.befriend(FRIENDS)
        actions = self.node.discovery.ask("find", ASKED, Find(0, bytes(32)), self.node.now)
        self.find = only(actions, Find)

    def state(self) -> tuple[object, ...]:
        """What must not change when nothing is to change."""
        discovery = self.node.discovery
        return (set(self.node.known()), discovery.sizes(), len(discovery.adverts))


Deed = Callable[[Case], list[Action]]
SILENCE: list[type[Message]] = []


@dataclass(frozen=True, slots=True)
class Row:
    """One case."""

    name: str
    deed: Deed
    answers: list[type[Message]]
    "What goes back to who sent, by kind."
    changes: bool = False
    "Whether table, requests or adverts change."


def says(message: Message, who: Contact = STRANGER) -> Deed:
    """A contact says something in its session."""
    return lambda case: case.node.hear(who, message)


def answers(change: Callable[[Find], Answer], who: Contact = ASKED) -> Deed:
    """An answer to the request that is under way."""
    return lambda case: case.node.hear(who, change(case.find))


def brings(*contacts: Named) -> Callable[[Find], Answer]:
    """NODES with these contacts."""
    return lambda find: Nodes(find.id, 0, 1, list(contacts))


OTHER_PLACE = Contact(ASKED.key, ("198.51.100.77", 4617))

ROWS = [
    # --- v4 ---
    Row("BasicPing", says(Ping(1, 0)), [Pong]),
    Row("BasicFindnode", says(Find(1, bytes(32))), [Nodes]),
    Row("ENRRequest", says(AskRecord(1)), [RecordIs]),
    Row("UnsolicitedNeighbors", says(Nodes(1, 0, 1, [named(UNKNOWN)])), SILENCE),
    Row("UnsolicitedPong", says(Pong(1, 0, at(STRANGER.place))), SILENCE),
    Row("UnsolicitedRecord", says(RecordIs(1, b"signed")), SILENCE),
    Row("UnsolicitedProviders", says(Providers(1, 0, 1, [named(UNKNOWN)], [])), SILENCE),
    Row("NeighborsOfAnother", answers(brings(named(UNKNOWN)), STRANGER), SILENCE),
    Row("NeighborsFromAnotherPlace", answers(brings(named(UNKNOWN)), OTHER_PLACE), SILENCE),
    Row("FindnodeAmplificationInvalidPongHash", says(Pong(5, 0, at(UNKNOWN.place))), SILENCE),
    Row("WrongPacketType", answers(lambda find: Pong(find.id, 0, at(ASKED.place))), SILENCE),
    # A ping says neither from where nor to where it goes, and when it was made: the session knows.
    Row("PingWrongFrom", says(Ping(1, 0), STRANGER), [Pong]),
    Row("BondThenPingWithWrongFrom", says(Ping(1, 0), OTHER_PLACE), [Pong]),
    # Only sessions let requests through, so nobody without one is bonded: sent unasked, it waits.
    Row("UnsolicitedContact", lambda case: case.node.meet(UNKNOWN), SILENCE),
    # --- v5 ---
    Row("PingLargestRequestID", says(Ping(NUMBER_MAX, 0)), [Pong]),
    Row("ZeroRequestID", says(Ping(0, 0)), [Pong]),
    Row("FindnodeZeroDistance", says(Find(1, Lone().contact.id.to_bytes(32, "big"))), [Nodes]),
    Row(
        "FindnodeOwnID",
        says(Find(1, STRANGER.id.to_bytes(32, "big"))),
        [Nodes],
    ),
    Row("FindnodeResults", answers(brings(named(UNKNOWN))), SILENCE, changes=True),
    Row("FindnodeNoResults", answers(brings()), SILENCE, changes=True),
    Row("PartOutOfRange", answers(lambda find: Nodes(find.id, 2, 2, [])), SILENCE),
    Row("HalfAnAnswer", answers(lambda find: Nodes(find.id, 1, 2, [named(UNKNOWN)])), SILENCE),
    Row("SelfAsContact", answers(brings(named(Lone().contact))), SILENCE, changes=True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_case(row: Row) -> None:
    case = Case()
    before = case.state()
    sent = sends(row.deed(case))
    assert [type(one.message) for one in sent] == row.answers
    assert all(one.contact not in (UNKNOWN, case.node.contact) for one in sent)
    assert UNKNOWN not in case.node.known()
    assert (case.state() != before) == row.changes


WRONG_CONTACTS = {
    "a private address from a public contact": named(contact_of(601, "10.0.0.7")),
    "a loopback address from a public contact": named(contact_of(602, "127.0.0.1")),
    "a link-local address": named(contact_of(603, "169.254.0.7")),
    "a family of addresses that this node has no socket for": named(contact_of(607, "2001:db8::7")),
    "a multicast address": named(contact_of(604, "224.0.0.7")),
    "no address": named(contact_of(605, "0.0.0.0")),
    "IPv4 in IPv6": named(contact_of(606, "::ffff:192.0.2.7")),
    "an address of 5 bytes": Named(UNKNOWN.key, b"12345", 7),
    "this node's key elsewhere": named(Contact(Lone().contact.key, UNKNOWN.place)),
    "another key at this node's place": named(Contact(UNKNOWN.key, Lone().contact.place)),
    "who answers, at another place": named(OTHER_PLACE),
}


@pytest.mark.parametrize("what", WRONG_CONTACTS)
def test_a_contact_that_is_no_use_is_counted_and_the_rest_stands(what: str) -> None:
    case = Case()
    actions = answers(brings(WRONG_CONTACTS[what], named(UNKNOWN)))(case)
    assert only(actions, Answered).answer == (UNKNOWN,)
    assert case.node.discovery.counters.refused_contacts == 1


def test_contacts_of_one_request_are_capped_over_all_parts() -> None:
    case = Case()
    actions: list[Action] = []
    for part in range(4):
        crowd = [named(contact_of(1000 + 100 * part + one)) for one in range(16)]
        actions += case.node.hear(ASKED, Nodes(case.find.id, part, 4, crowd))
    answer = only(actions, Answered).answer
    assert isinstance(answer, tuple)
    assert len(answer) == 16
    assert case.node.discovery.counters.refused_contacts == 48


def test_a_key_that_an_answer_names_twice_counts_once() -> None:
    case = Case()
    twice = [named(UNKNOWN), named(Contact(UNKNOWN.key, ("198.51.100.8", 1)))]
    actions = answers(brings(*twice))(case)
    assert only(actions, Answered).answer == (UNKNOWN,)


def test_an_answer_after_the_request_was_given_up_changes_nothing() -> None:
    case = Case()
    assert only(case.node.wait(30.0), Answered).answer is None
    before = case.state()
    assert answers(brings(named(UNKNOWN)))(case) == []
    assert case.state() == before


def test_same_request_id() -> None:
    """Two requests with one number are two requests, and each is answered."""
    case = Case()
    for _ in range(2):
        assert [type(one) for one in case.node.asked(STRANGER, Find(7, bytes(32)))] == [Nodes]


def test_simultaneous_requests() -> None:
    """Answers in another order than the requests."""
    node = Lone()
    node.befriend(FRIENDS)
    asked = {
        one: only(node.discovery.ask(one, one, AskRecord(0), node.now), AskRecord)
        for one in FRIENDS
    }
    for one in reversed(FRIENDS):
        done = only(node.hear(one, RecordIs(asked[one].id, one.key)), Answered)
        assert (done.token, done.answer) == (one, one.key)


def test_sessions_lost_on_the_other_side_are_made_anew() -> None:
    """HandshakeResend, above the sessions: one doubt, one attempt more, and then it failed."""
    case = Case()
    kinds = [type(one).__name__ for one in case.node.wait(20.0)]
    assert kinds.count("Doubt") >= 1
    assert case.node.discovery.counters.retries >= 1


@pytest.mark.parametrize(
    ("case", "body"),
    [
        ("PingLargeRequestID", [1, b"\x01" * 9, 0]),
        ("PingRequestIDBeyond63Bits", [1, 1 << 63, 0]),
        ("TalkRequest", [11, 1, b"proto", b"hello"]),
        ("FindnodePort0", [4, 1, 0, 1, [[bytes(32), bytes(4), 0]]]),
        ("RecordTooLarge", [6, 1, bytes(1025)]),
    ],
)
def test_no_message(case: str, body: list[object]) -> None:
    with pytest.raises(MessageError):
        messages.decode(msgspec.msgpack.encode(body))


def test_ping_extra_data() -> None:
    """PingExtraData, PingExtraDataWrongFrom: what a later version adds is ignored."""
    assert messages.decode(msgspec.msgpack.encode([1, 7, 3, "more", [1, 2]])) == Ping(7, 3)


def test_record_numbers_only_grow() -> None:
    case = Case()
    numbers = []
    for seq in (3, 2, 5, 4, 5):
        request = [
            one.message for one in sends(_pinged(case, seq)) if isinstance(one.message, AskRecord)
        ]
        numbers += [seq] * len(request)
    assert numbers == [3, 5]


def _pinged(case: Case, seq: int) -> list[Action]:
    ping = only(case.node.discovery.ask("p", ASKED, Ping(0, 0), case.node.now), Ping)
    return case.node.hear(ASKED, Pong(ping.id, seq, at(case.node.contact.place)))


def test_the_record_is_told_as_it_is_now() -> None:
    case = Case()
    record = NodeRecord(case.node.contact.key, 9, (), (), False, b"signed")
    case.node.discovery.own_record(record, case.node.now)
    assert case.node.asked(STRANGER, AskRecord(1)) == [RecordIs(1, b"signed")]


def test_a_record_in_an_answer_that_was_not_asked_for_is_no_record() -> None:
    case = Case()
    seen = case.node.hear(ASKED, RecordIs(case.find.id, b"signed"))
    assert not any(isinstance(one, RecordSeen) for one in seen)


def test_thousands_who_come_by_themselves_fill_nothing() -> None:
    """The address store is capped, and who came by is not told to anybody."""
    case = Case()
    for number in range(5000):
        case.node.meet(contact_of(1000 + number))
    assert set(case.node.known()) == set(FRIENDS)
    views = case.node.discovery.table.buckets()
    assert sum(view.replacements for view in views) <= 8 * len(views)
    (answer,) = case.node.asked(STRANGER, Find(1, bytes(32)))
    assert isinstance(answer, Nodes)
    assert {messages.contact(one) for one in answer.contacts} == set(FRIENDS)


def test_a_target_counts_as_found_when_it_answered_itself() -> None:
    case = Case()
    actions = case.node.discovery.lookup("look", UNKNOWN.id, case.node.now)
    for one in sends(actions):
        if isinstance(one.message, Find):
            actions += case.node.hear(one.contact, brings(named(UNKNOWN))(one.message))
    actions += case.node.discovery.unreachable(UNKNOWN, case.node.now)
    done = only(actions, LookedUp)
    assert UNKNOWN not in done.result.contacts
    assert set(done.result.contacts) == set(FRIENDS)
    assert done.result.failed == 1
