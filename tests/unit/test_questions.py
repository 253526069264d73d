"""Tickets that shards ask the coordinator for."""

from __future__ import annotations

from dp2p import bus
from dp2p.shards.questions import ASKED_MAX, Questions

NAME = bytes(16)


def asked(sent: list[bus.TicketAsked]) -> list[int]:
    """The links of all questions so far; forgets them."""
    links = [one.link for one in sent]
    sent.clear()
    return links


def test_questions_wait_for_their_turn() -> None:
    sent: list[bus.TicketAsked] = []
    questions = Questions(sent.append)
    for link in range(ASKED_MAX + 3):
        questions.ask(link, NAME)
    assert asked(sent) == list(range(ASKED_MAX))
    questions.over(5)
    assert asked(sent) == [ASKED_MAX]
    questions.over(ASKED_MAX + 1)  # ended before it was asked for: it never is
    questions.over(6)
    assert asked(sent) == [ASKED_MAX + 2]
    for link in range(ASKED_MAX + 3):
        questions.over(link)
    questions.ask(1000, NAME)
    assert asked(sent) == [1000]


def test_a_new_coordinator_is_asked_again() -> None:
    sent: list[bus.TicketAsked] = []
    questions = Questions(sent.append)
    for link in range(ASKED_MAX + 1):
        questions.ask(link, bytes([link]) * 16)
    questions.over(0)
    assert len(asked(sent)) == ASKED_MAX + 1
    questions.ask_again()
    assert {(one.link, one.name) for one in sent} == {
        (link, bytes([link]) * 16) for link in range(1, ASKED_MAX + 1)
    }
    sent.clear()
    questions.over(999)  # nobody knows of it
    assert sent == []
