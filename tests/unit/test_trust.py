"""Trust: what each handshake is worth, and what is forgotten when one falls back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from dp2p import bus, ids
from dp2p.coordinator import trust
from dp2p.coordinator.known import Direction, KnownPeer, Ticket
from dp2p.coordinator.notices import Counters, Kind, Notice
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.tickets import Tickets
from dp2p.coordinator.trust import Judgement, Reliance, Trust

PEER, OTHER, LEFT, RIGHT = (bytes([n]) * 32 for n in range(1, 5))
PLACE = "tcp4://192.0.2.1:4617"


def report(key: bytes = PEER, **changes: Any) -> bus.LinkReport:
    fields: dict[str, Any] = {
        "link": 1,
        "key": ids.to_text(key),
        "direction": "out",
        "endpoint": PLACE,
        "instance": "0" * 16,
        "listen": [],
        "mode": "ik",
    }
    return bus.LinkReport(**{**fields, **changes})


NAME = bytes(16)


def relied(**changes: Any) -> Reliance:
    fields = {"key": PEER, "endpoint": PLACE, "pinned": False, "ticket": None}
    return Reliance(**{**fields, **changes})


def introduced_by(*introducers: tuple[bytes, str], wrong: bool = False) -> KnownPeer | None:
    with closing(PeerStore(None, max_peers=10)) as store:
        store.connected(PEER, None, 0.0)
        for introducer, network in introducers:
            store.introduced(PEER, introducer, network, 0.0)
        if wrong:
            store.doubt(PEER, PLACE, 0.0)
        return store.peer(PEER)


NOBODY = introduced_by()
ONE = introduced_by((LEFT, "192.0.2.0/24"))
TWO_OF_ONE_NETWORK = introduced_by((LEFT, "192.0.2.0/24"), (RIGHT, "192.0.2.0/24"))
TWO = introduced_by((LEFT, "192.0.2.0/24"), (RIGHT, "198.51.100.0/24"))
WRONG = introduced_by((LEFT, "192.0.2.0/24"), wrong=True)

ROWS: list[tuple[str, bus.LinkReport, KnownPeer | None, Reliance | None, Judgement]] = [
    ("first contact", report(mode="xx"), None, None, Judgement("none", 0)),
    ("first contact, inbound", report(mode="xx", direction="in"), None, None, Judgement("none", 0)),
    ("met before, never introduced", report(), NOBODY, relied(), Judgement("none", 0)),
    ("introduced", report(), ONE, relied(), Judgement("introduced", 1)),
    ("introduced by two", report(), TWO, relied(), Judgement("introduced", 2)),
    ("two of one network", report(), TWO_OF_ONE_NETWORK, relied(), Judgement("introduced", 1)),
    ("introduced wrongly", report(), WRONG, relied(), Judgement("none", 0)),
    ("XX meets an introduced key", report(mode="xx"), ONE, None, Judgement("introduced", 1)),
    ("inbound", report(mode="xx", direction="in"), ONE, None, Judgement("introduced", 1)),
    ("pinned", report(), None, relied(pinned=True), Judgement("introduced", 0)),
    ("pinned, other key", report(OTHER), None, relied(pinned=True), Judgement("none", 0)),
    ("resumed", report(mode="resume"), None, relied(ticket=NAME), Judgement("resumed", 0)),
    ("resumed, inbound", report(mode="resume", direction="in"), ONE, None, Judgement("resumed", 1)),
    ("fell back", report(fell_back=True), TWO, relied(), Judgement("none", 2)),
    ("pinned, fell back", report(fell_back=True), ONE, relied(pinned=True), Judgement("none", 1)),
    (
        "resumption fell back",
        report(mode="resume", fell_back=True),
        ONE,
        relied(ticket=NAME),
        Judgement("none", 1),
    ),
    ("responder", report(fell_back=True, direction="in"), ONE, None, Judgement("none", 1)),
]


@pytest.mark.parametrize(
    ("link", "known", "reliance", "judgement"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_what_a_link_is_worth(
    link: bus.LinkReport,
    known: KnownPeer | None,
    reliance: Reliance | None,
    judgement: Judgement,
) -> None:
    assert trust.judge(link, known, reliance) == judgement


def test_no_fallback_is_ever_trusted() -> None:
    modes: list[bus.Mode] = ["ik", "resume"]
    ways = itertools.product(
        modes, ("in", "out"), (None, ONE, TWO), (None, relied(pinned=True), relied(ticket=NAME))
    )
    for mode, direction, known, reliance in ways:
        link = report(mode=mode, direction=direction, fell_back=True)
        assert trust.judge(link, known, reliance).trust == "none"


DIALS: list[tuple[dict[str, Any], Reliance | None]] = [
    ({"host": "192.0.2.1", "port": 1}, None),
    (
        {"host": "192.0.2.1", "port": 1, "key": ids.to_text(PEER)},
        Reliance(PEER, "tcp4://192.0.2.1:1", pinned=False, ticket=None),
    ),
    (
        {"host": "::1", "port": 2, "key": ids.to_text(PEER), "pinned": True, "ticket": bytes(48)},
        Reliance(PEER, "tcp6://[::1]:2", pinned=True, ticket=NAME),
    ),
]


@pytest.mark.parametrize(("dial", "expected"), DIALS)
def test_what_a_dial_relies_on(dial: dict[str, Any], expected: Reliance | None) -> None:
    assert trust.reliance(bus.DialLink(dial=7, **dial)) == expected


class Side:
    """A node that knows ``PEER``: introduced, dialled once, with tickets of both directions."""

    def __init__(self, store: PeerStore) -> None:
        self.store, self.counters = store, Counters()
        self.trust = Trust(store, Tickets(store, self.counters, 100.0), self.counters)
        store.connected(PEER, PLACE, 0.0)
        store.introduced(PEER, LEFT, "192.0.2.0/24", 0.0)
        for n, direction in enumerate(Direction):
            store.put_ticket(Ticket(PEER, bytes([n]) * 48), direction, 100.0)

    def left(self) -> tuple[int, int]:
        """Introducers of the peer, and tickets of it, that are left."""
        known = self.store.peer(PEER)
        assert known is not None
        return known.introducers, known.dial_tickets + known.accept_tickets


@pytest.fixture
def side() -> Iterator[Side]:
    with closing(PeerStore(None, max_peers=10)) as store:
        yield Side(store)


def kinds(told: list[Notice]) -> list[str]:
    return [notice.kind for notice in told]


@pytest.mark.parametrize("mode", ["xx", "ik", "resume"])
def test_a_handshake_that_holds_loses_nothing(side: Side, mode: bus.Mode) -> None:
    judgement, told = side.trust.met(report(mode=mode), None, 1.0)
    assert (judgement.introducers, told, side.left()) == (1, [], (1, 2))
    assert getattr(side.counters, f"handshakes_{mode}") == 1
    assert side.counters.fallbacks == 0


@pytest.mark.parametrize("ticket", [False, True])
def test_the_same_key_after_a_fallback_costs_tickets_and_not_introductions(
    side: Side, ticket: bool
) -> None:
    how = relied(ticket=ticket)
    judgement, told = side.trust.met(report(mode=how.mode, fell_back=True), how, 1.0)
    assert judgement.trust == "none"
    assert kinds(told) == [Kind.FALLBACK]
    assert side.left() == (1, 0)
    assert [claim.key for claim in side.store.at_endpoint(PLACE)] == [PEER]


def test_another_key_after_a_fallback_makes_introductions_wrong(side: Side) -> None:
    judgement, told = side.trust.met(report(OTHER, fell_back=True), relied(), 1.0)
    assert judgement == Judgement("none", 0)
    assert kinds(told) == [Kind.FALLBACK, Kind.DOUBTED]
    assert told[0].fields == {
        "peer": ids.to_text(ids.node_id(OTHER)),
        "endpoint": PLACE,
        "direction": "out",
        "mode": "ik",
        "relied": ids.to_text(PEER),
        "answered": ids.to_text(OTHER),
    }
    assert told[1].fields == {"key": ids.to_text(PEER), "endpoint": PLACE}
    assert side.left() == (0, 0)
    assert side.store.at_endpoint(PLACE) == []
    assert (side.counters.fallbacks, side.counters.doubted, side.counters.handshakes_ik) == (
        1,
        1,
        0,
    )
    # What was introduced once is not trusted when it dials now, either.
    assert side.trust.met(report(mode="xx", direction="in"), None, 2.0)[0].trust == "none"


def test_a_responder_tells_of_a_fallback_and_forgets_nothing(side: Side) -> None:
    link = report(OTHER, mode="resume", direction="in", fell_back=True)
    _, told = side.trust.met(link, None, 1.0)
    assert kinds(told) == [Kind.FALLBACK]
    assert told[0].fields["relied"] is None
    assert side.left() == (1, 2)


def test_a_fallback_of_a_dial_that_nobody_remembers_forgets_nothing(side: Side) -> None:
    _, told = side.trust.met(report(OTHER, fell_back=True), None, 1.0)
    assert kinds(told) == [Kind.FALLBACK]
    assert side.left() == (1, 2)


FAILURES = [  # reason, who answered, a ticket was used -> notices; introducers and tickets left
    ("identity", OTHER, False, [Kind.IDENTITY_ERROR, Kind.DOUBTED], (0, 2)),
    ("identity", OTHER, True, [Kind.IDENTITY_ERROR, Kind.DOUBTED], (0, 0)),
    ("identity", None, True, [Kind.IDENTITY_ERROR], (1, 0)),
    ("identity", PEER, False, [Kind.IDENTITY_ERROR], (1, 2)),
    ("timeout", None, True, [], (1, 2)),
    ("auth", None, False, [], (1, 2)),
]


@pytest.mark.parametrize("row", FAILURES)
def test_a_dial_that_failed(
    side: Side, row: tuple[str, bytes | None, bool, list[Kind], tuple[int, int]]
) -> None:
    reason, key, ticket, said, left = row
    answered = ids.to_text(key) if key else None
    failure = bus.DialFailed(dial=1, reason=reason, answered=answered)
    told = side.trust.failed(failure, relied(pinned=True, ticket=NAME if ticket else None), 1.0)
    assert kinds(told) == said
    assert side.left() == left
    assert side.counters.identity_errors == (Kind.IDENTITY_ERROR in said)
    if said:
        assert told[0].fields == {
            "endpoint": PLACE,
            "mode": "resume" if ticket else "ik",
            "asked": ids.to_text(PEER),
            "answered": answered,
        }


def test_an_open_dial_has_no_identity_to_lose(side: Side) -> None:
    failure = bus.DialFailed(dial=1, reason="identity", answered=ids.to_text(OTHER))
    assert side.trust.failed(failure, None, 1.0) == []
    assert side.counters == Counters()
