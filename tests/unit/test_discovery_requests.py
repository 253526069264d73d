"""Requests: when they are tried again, when they are given up, and what answers them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery_world import contact_of
from dp2p.coordinator.discovery.actions import Action, Counters, Doubt, Send
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import (
    Answer,
    Find,
    Nodes,
    Ping,
    Pong,
    Providers,
    at,
    named,
)
from dp2p.coordinator.discovery.requests import (
    HANDSHAKE_S,
    TIMEOUT_MAX_S,
    TIMEOUT_MIN_S,
    Make,
    Requests,
    RoundTrip,
)

ONE, OTHER = contact_of(1), contact_of(2)
SEEN = at(("192.0.2.1", 4617))


class Desk:
    """Requests, and what became of them."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.requests = Requests(self.counters, random.Random(1))
        self.ended: list[list[Answer]] = []

    def ask(self, contact: Contact = ONE, now: float = 0.0, make: Make | None = None) -> int:
        """Ask for contacts, or something else; the request's number."""
        make = make or (lambda number: Find(number, bytes(32)))
        (send,) = self.requests.ask(contact, make, self._then, now)
        assert isinstance(send, Send)
        return send.message.id

    def _then(self, _contact: Contact, answers: list[Answer], _now: float) -> list[Action]:
        self.ended.append(answers)
        return []


def nodes(number: int, part: int = 0, parts: int = 1) -> Nodes:
    """A part that can be told from the others."""
    return Nodes(number, part, parts, [named(contact_of(100 + part))])


def test_an_answer_ends_a_request_once() -> None:
    desk = Desk()
    number = desk.ask()
    for _ in range(2):
        desk.requests.take(ONE, nodes(number), 0.1)
    assert desk.ended == [[nodes(number)]]
    assert (desk.counters.answers, desk.counters.unasked) == (1, 1)
    assert len(desk.requests) == 0


@pytest.mark.parametrize(
    ("what", "contact", "change"),
    [
        ("of somebody else", OTHER, 0),
        ("from another place", Contact(ONE.key, OTHER.place), 0),
        ("with another number", ONE, 1),
    ],
)
def test_an_answer_that_was_not_asked_for_changes_nothing(
    what: str, contact: Contact, change: int
) -> None:
    desk = Desk()
    number = desk.ask()
    desk.requests.take(contact, nodes(number ^ change), 0.1)
    assert (desk.ended, len(desk.requests), desk.counters.unasked) == ([], 1, 1)


@pytest.mark.parametrize(
    "answer", [lambda n: Pong(n, 0, SEEN), lambda n: Providers(n, 0, 1, [], []),
               lambda n: nodes(n, 1, 1), lambda n: nodes(n, 3, 2)]
)  # fmt: skip
def test_an_answer_of_another_kind_or_odd_parts_changes_nothing(answer: Make) -> None:
    desk = Desk()
    number = desk.ask()
    desk.requests.take(ONE, answer(number), 0.1)  # type: ignore[arg-type]
    assert (desk.ended, len(desk.requests), desk.counters.odd) == ([], 1, 1)


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=6))
def test_parts_come_in_any_order_and_twice(order: list[int], again: list[int]) -> None:
    desk = Desk()
    number = desk.ask()
    for part in [order[0], *[one for one in again if one == order[0]], *order[1:]]:
        desk.requests.take(ONE, nodes(number, part, 4), 0.1)
    assert desk.ended == [[nodes(number, part, 4) for part in range(4)]]


def test_a_part_that_counts_otherwise_is_dropped() -> None:
    desk = Desk()
    number = desk.ask()
    desk.requests.take(ONE, nodes(number, 0, 2), 0.1)
    desk.requests.take(ONE, nodes(number, 1, 3), 0.1)
    assert (desk.ended, desk.counters.odd) == ([], 1)
    desk.requests.take(ONE, nodes(number, 1, 2), 0.1)
    assert len(desk.ended) == 1


def test_what_came_is_used_when_the_rest_never_comes() -> None:
    desk = Desk()
    desk.requests.established(ONE, 0.0)
    number = desk.ask()
    desk.requests.take(ONE, nodes(number, 1, 3), 0.1)
    assert desk.requests.run(TIMEOUT_MAX_S) == []
    assert desk.ended == [[nodes(number, 1, 3)]]
    assert (desk.counters.incomplete, desk.counters.retries) == (1, 0)


def test_a_request_is_sent_again_once_after_a_doubt() -> None:
    desk = Desk()
    desk.requests.established(ONE, 0.0)
    number = desk.ask()
    late = desk.requests.next_deadline()
    assert late <= TIMEOUT_MAX_S
    assert desk.requests.run(late - 0.01) == []
    assert desk.requests.run(late) == [Doubt(ONE), Send(ONE, Find(number, bytes(32)))]
    assert desk.requests.run(late + HANDSHAKE_S) == []
    assert desk.ended == [[]]
    assert (desk.counters.retries, desk.counters.failures) == (1, 1)


def test_requests_in_one_lost_session_are_all_sent_again_after_one_doubt() -> None:
    desk = Desk()
    desk.requests.established(ONE, 0.0)
    numbers = [desk.ask(), desk.ask()]
    actions = desk.requests.run(TIMEOUT_MAX_S)
    assert [one for one in actions if isinstance(one, Doubt)] == [Doubt(ONE)]
    assert [one.message.id for one in actions if isinstance(one, Send)] == numbers
    assert desk.ended == []


def test_the_answer_to_the_first_attempt_counts_after_the_second() -> None:
    desk = Desk()
    desk.requests.established(ONE, 0.0)
    number = desk.ask()
    late = desk.requests.next_deadline()
    desk.requests.run(late)
    desk.requests.take(ONE, nodes(number), late + 0.1)
    assert desk.ended == [[nodes(number)]]


def test_without_a_session_a_request_waits_for_it() -> None:
    desk = Desk()
    desk.ask()
    assert desk.requests.run(HANDSHAKE_S - 0.1) == []
    desk.requests.established(ONE, HANDSHAKE_S - 0.1)
    assert desk.requests.run(HANDSHAKE_S) == []
    assert desk.ended == []
    assert [type(one) for one in desk.requests.run(HANDSHAKE_S + TIMEOUT_MAX_S)] == [Doubt, Send]


def test_who_keeps_making_sessions_and_says_nothing_holds_no_request_up() -> None:
    desk = Desk()
    desk.ask()
    now = 0.0
    while not desk.ended and now < 60.0:
        desk.requests.established(ONE, now)
        now += TIMEOUT_MIN_S / 2
        desk.requests.run(now)
    assert desk.ended == [[]]
    assert now <= 2 * (HANDSHAKE_S + TIMEOUT_MAX_S)


def test_who_cannot_be_reached_fails_at_once_and_no_other() -> None:
    desk = Desk()
    for contact in (ONE, OTHER, ONE):
        desk.ask(contact)
    desk.requests.unreachable(ONE, 1.0)
    assert (desk.ended, len(desk.requests)) == ([[], []], 1)


@given(st.floats(0.0, 10.0), st.integers(1, 200))
def test_the_timeout_follows_the_round_trip_within_bounds(took: float, times: int) -> None:
    trip = RoundTrip()
    for _ in range(times):
        trip.took(took)
        assert TIMEOUT_MIN_S <= trip.timeout_s <= TIMEOUT_MAX_S
    if times == 200:
        assert trip.timeout_s >= min(took, TIMEOUT_MAX_S)


@given(st.lists(st.sampled_from("aeu"), max_size=40), st.integers(0, 2**32))
def test_every_request_ends_once_whatever_happens(events: list[str], seed: int) -> None:
    desk, now = Desk(), 0.0
    order = random.Random(seed)
    numbers: list[int] = []
    for event in events:
        now += order.random()
        contact = order.choice((ONE, OTHER))
        match event:
            case "a":
                numbers.append(desk.ask(contact, now, lambda number: Ping(number, 0)))
            case "e":
                desk.requests.established(contact, now)
            case "u":
                desk.requests.unreachable(contact, now)
        if numbers and order.random() < 0.3:
            desk.requests.take(contact, Pong(order.choice(numbers), 0, SEEN), now)
        desk.requests.run(now)
    desk.requests.run(now + HANDSHAKE_S)
    desk.requests.run(now + 3 * HANDSHAKE_S)
    assert len(desk.requests) == 0
    assert len(desk.ended) == len(numbers)
    assert desk.requests.next_deadline() == float("inf")
