"""Whom a node turns to while it knows nobody, and how often."""

from __future__ import annotations

from dp2p import ids
from dp2p.addresses import Endpoint, PeerAddress
from dp2p.coordinator.bootstrap import (
    ANSWER_S,
    FIRST_S,
    LONGEST_S,
    Bootstrap,
    Contact,
    Dial,
    Recall,
)

KEYED = PeerAddress(ids.to_text(bytes(32)), "node.example", 4617)
BARE = Endpoint("tcp4", "192.0.2.7", 4617)


def made(*addresses: PeerAddress | Endpoint) -> Bootstrap:
    return Bootstrap(addresses, lambda: 0.5, now=0.0)


def test_an_address_with_a_key_is_a_contact_first_and_dialled_later() -> None:
    bootstrap = made(KEYED)
    assert bootstrap.run(0, 0.0) == [Recall(), Contact(KEYED)]
    assert bootstrap.next_deadline() == ANSWER_S
    assert bootstrap.run(0, ANSWER_S - 0.01) == []
    assert bootstrap.run(0, ANSWER_S) == [Dial(KEYED)]
    assert bootstrap.run(0, ANSWER_S + 0.01) == []


def test_an_endpoint_can_only_be_dialled() -> None:
    bootstrap = made(BARE)
    assert bootstrap.run(0, 0.0) == [Recall(), Dial(BARE)]
    assert bootstrap.run(0, ANSWER_S) == []


def test_nothing_is_done_while_somebody_is_known() -> None:
    bootstrap = made(KEYED, BARE)
    assert bootstrap.run(1, 0.0) == []
    assert bootstrap.next_deadline() == FIRST_S
    bootstrap.run(0, FIRST_S)
    assert bootstrap.run(1, FIRST_S + ANSWER_S) == []  # an answer has come: no dial
    assert bootstrap.run(1, 1000.0) == []


def test_rounds_come_less_and_less_often() -> None:
    bootstrap, now, gaps = made(BARE), 0.0, []
    for _ in range(12):
        assert Recall() in bootstrap.run(0, now)
        gaps.append(bootstrap.next_deadline() - now)
        now = bootstrap.next_deadline()
    assert gaps[0] == FIRST_S + ANSWER_S
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_S + ANSWER_S
    bootstrap.run(1, now)  # known again, and lost again: soon
    assert bootstrap.run(0, now + FIRST_S)
    assert bootstrap.next_deadline() == now + 2 * FIRST_S + ANSWER_S


def test_without_addresses_the_store_is_asked() -> None:
    assert made().run(0, 0.0) == [Recall()]


def test_a_failure_is_news_once() -> None:
    bootstrap = made(KEYED)
    assert bootstrap.failed(KEYED, "another key answered")
    assert not bootstrap.failed(KEYED, "another key answered")
    assert bootstrap.describe() == [{"address": str(KEYED), "error": "another key answered"}]
    bootstrap.succeeded(KEYED)
    assert bootstrap.describe()[0]["error"] is None
    assert not bootstrap.failed(BARE, "is none of these")
