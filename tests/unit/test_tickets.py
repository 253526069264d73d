"""Tickets: each is used once, and a dial has only those of which the peer has the other half."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from dp2p import bus, ids
from dp2p.coordinator import tickets
from dp2p.coordinator.known import Ticket
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import LinkId
from dp2p.coordinator.store import PeerStore
from dp2p.coordinator.tickets import Tickets

PEER = bytes([1]) * 32
DIAL, ACCEPT = bytes([2]) * 48, bytes([3]) * 48
LINK = LinkId(0, 5)
LIFETIME_S = 100.0


class Side:
    """One node's tickets."""

    def __init__(self, store: PeerStore) -> None:
        self.store, self.counters = store, Counters()
        self.tickets = Tickets(store, self.counters, LIFETIME_S)

    def made(
        self,
        direction: str,
        dial: bytes | None = DIAL,
        accept: bytes | None = ACCEPT,
        link: LinkId = LINK,
    ) -> None:
        report = bus.LinkReport(
            link=LINK.link,
            key=ids.to_text(PEER),
            direction=direction,
            endpoint="tcp4://192.0.2.1:4617",
            instance="0" * 16,
            listen=[],
            mode="xx",
        )
        ready = bus.LinkReady(report=report, dial_ticket=dial, accept_ticket=accept)
        self.tickets.made(link, ready, 0.0)

    def asked(self, name: bytes, wall: float = 1.0) -> bus.Ticket:
        return self.tickets.asked(bus.TicketAsked(link=9, name=name), wall)

    def kept(self) -> tuple[int, int]:
        """Tickets for dials of this node, and of the peer."""
        known = self.store.peer(PEER)
        return (known.dial_tickets, known.accept_tickets) if known else (0, 0)


@pytest.fixture
def side() -> Iterator[Side]:
    with closing(PeerStore(None, max_peers=10)) as store:
        yield Side(store)


def test_a_dial_takes_a_ticket_once(side: Side) -> None:
    side.made("in")
    assert side.tickets.for_dial(PEER, 1.0) == Ticket(PEER, DIAL)
    assert side.tickets.for_dial(PEER, 1.0) is None
    assert (side.counters.tickets_made, side.counters.tickets_dialled) == (2, 1)


def test_a_ticket_that_was_shown_to_nobody_is_there_for_the_next_dial(side: Side) -> None:
    """It comes first, and lasts no longer than before."""
    side.made("in")
    side.tickets.for_dial(PEER, 1.0)
    for _ in range(2):
        side.tickets.unused(DIAL[:16])
        assert side.kept() == (1, 1)
    assert side.tickets.for_dial(PEER, LIFETIME_S - 1) == Ticket(PEER, DIAL)
    side.tickets.unused(DIAL[:16])
    assert side.tickets.for_dial(PEER, LIFETIME_S) is None
    assert (side.counters.tickets_dialled, side.counters.tickets_unused) == (2, 2)


def test_a_ticket_that_may_have_been_shown_does_not_come_back(side: Side) -> None:
    side.made("in")
    side.tickets.for_dial(PEER, 1.0)
    side.tickets.used(DIAL[:16])
    side.tickets.unused(DIAL[:16])
    assert side.kept() == (0, 1)


def test_trust_that_is_lost_meanwhile_takes_tickets_of_dials_with_it(side: Side) -> None:
    side.made("in")
    side.tickets.for_dial(PEER, 1.0)
    side.tickets.drop(PEER)
    side.tickets.unused(DIAL[:16])
    assert side.kept() == (0, 0)


def test_of_dials_under_way_so_many_tickets_are_known(side: Side) -> None:
    names = []
    for number in range(tickets.LENT_MAX + 1):
        secret = number.to_bytes(48, "big")
        side.made("in", dial=bytes(reversed(secret)))
        taken = side.tickets.for_dial(PEER, 1.0)
        assert taken is not None
        names.append(taken.name)
    side.tickets.unused(names[0])
    assert side.kept()[0] == 0
    side.tickets.unused(names[-1])
    assert side.kept()[0] == 1


def test_of_two_handshakes_that_name_one_ticket_the_first_gets_it(side: Side) -> None:
    side.made("in")
    first, second = side.asked(ACCEPT[:16]), side.asked(ACCEPT[:16])
    assert first == bus.Ticket(link=9, psk=ACCEPT[16:], key=ids.to_text(PEER))
    assert second == bus.Ticket(link=9)
    assert (side.counters.tickets_accepted, side.counters.tickets_missing) == (1, 1)


def test_a_ticket_for_one_direction_is_none_for_the_other(side: Side) -> None:
    side.made("in")
    assert side.asked(DIAL[:16]).psk is None
    assert side.tickets.for_dial(PEER, 1.0) == Ticket(PEER, DIAL)


@pytest.mark.parametrize("name", [b"", ACCEPT[:15], ACCEPT[:17], bytes(16)])
def test_a_name_that_is_none(side: Side, name: bytes) -> None:
    side.made("in")
    assert side.asked(name) == bus.Ticket(link=9)
    assert side.kept() == (1, 1)


def test_tickets_expire(side: Side) -> None:
    side.made("in")
    assert side.asked(ACCEPT[:16], LIFETIME_S).psk is None
    assert side.tickets.for_dial(PEER, LIFETIME_S) is None


def test_an_outbound_link_keeps_its_dial_ticket_when_the_peer_has_spoken(side: Side) -> None:
    side.made("out")
    assert side.kept() == (0, 1)
    side.tickets.proven(LINK, 7.0)
    assert side.kept() == (1, 1)
    assert side.tickets.for_dial(PEER, LIFETIME_S + 6.9) == Ticket(PEER, DIAL)
    side.tickets.proven(LINK, 8.0)
    assert side.kept() == (0, 1)


@pytest.mark.parametrize(("remote", "kept"), [(True, 1), (False, 0)])
def test_an_outbound_link_that_ends_early(side: Side, remote: bool, kept: int) -> None:
    side.made("out")
    side.tickets.down(LINK, remote, 1.0)
    side.tickets.proven(LINK, 1.0)
    assert side.kept() == (kept, 1)
    assert side.counters.tickets_unproven == 1 - kept


def test_an_inbound_link_that_ends_keeps_all(side: Side) -> None:
    side.made("in")
    side.tickets.down(LINK, False, 1.0)
    assert side.kept() == (1, 1)
    assert side.counters.tickets_unproven == 0


def test_a_link_that_is_said_again_has_no_tickets(side: Side) -> None:
    side.made("in", None, None)
    side.made("out", None, None)
    side.tickets.proven(LINK, 1.0)
    assert side.kept() == (0, 0)


def test_what_waits_for_a_proof_is_bounded(side: Side) -> None:
    for number in range(tickets.UNPROVEN_MAX + 1):
        side.made("out", accept=None, link=LinkId(0, number))
    assert side.counters.tickets_unproven == 1
    side.tickets.proven(LinkId(0, 0), 1.0)
    assert side.kept() == (0, 0)
    side.tickets.proven(LinkId(0, 1), 1.0)
    assert side.kept() == (1, 0)


def test_secrets_are_not_shown() -> None:
    assert "2, 2" not in repr(Ticket(PEER, DIAL))
    assert repr(DIAL)[2:-1] not in repr(Ticket(PEER, DIAL))
