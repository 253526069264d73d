"""Tickets: what lets two nodes that have met go on where they were.

Source: docs/spec/wire.md, "Tickets". Every handshake leaves two: one for this node's next dial to
the peer, one for the peer's next dial to this node. Each side keeps both, and each is used once.
"""

from __future__ import annotations

from collections.abc import Iterable

from dp2p import bus, ids
from dp2p.coordinator.known import TICKET_NAME_BYTES, Direction, Store, Ticket
from dp2p.coordinator.notices import Counters
from dp2p.coordinator.peers import LinkId

UNPROVEN_MAX = 1024  # tickets whose other half the peer has not shown to have
LENT_MAX = 1024  # more than there are dials under way


class Tickets:
    """All tickets of the node; the store keeps them."""

    def __init__(self, store: Store, counters: Counters, lifetime_s: float) -> None:
        self._store = store
        self._counters = counters
        self._lifetime_s = lifetime_s
        self._unproven: dict[LinkId, Ticket] = {}
        "Those of links that are not open yet, oldest first."
        self._lent: dict[bytes, Ticket] = {}
        "Those of dials under way, by name, oldest first."

    def for_dial(self, key: bytes, wall: float) -> Ticket | None:
        """The ticket for a dial to the peer that begins now, if there is one; it is used up, unless
        ``unused`` is told.
        """
        ticket = self._store.take_dial_ticket(key, wall)
        if ticket is not None:
            self._counters.tickets_dialled += 1
            if len(self._lent) >= LENT_MAX:
                del self._lent[next(iter(self._lent))]
            self._lent[ticket.name] = ticket
        return ticket

    def used(self, name: bytes) -> None:
        """A dial has ended that may have shown its ticket."""
        self._lent.pop(name, None)

    def unused(self, name: bytes) -> None:
        """A dial has ended before anything of it left: its ticket is there for the next one, unless
        those of the peer were dropped meanwhile.
        """
        ticket = self._lent.pop(name, None)
        if ticket is not None:
            self._counters.tickets_unused += 1
            self._store.put_ticket(ticket, Direction.DIAL, ticket.expires)

    def drop(self, key: bytes) -> None:
        """Forget all of a peer that trust was lost in, those of dials under way among them."""
        self._store.drop_tickets(key)
        self._lent = {name: one for name, one in self._lent.items() if one.key != key}

    def asked(self, question: bus.TicketAsked, wall: float) -> bus.Ticket:
        """What an inbound handshake names. Of two that name the same ticket one gets it."""
        ticket = None
        if len(question.name) == TICKET_NAME_BYTES:
            ticket = self._store.take_accept_ticket(question.name, wall)
        if ticket is None:
            self._counters.tickets_missing += 1
            return bus.Ticket(link=question.link)
        self._counters.tickets_accepted += 1
        return bus.Ticket(link=question.link, psk=ticket.psk, key=ids.to_text(ticket.key))

    def made(self, link: LinkId, ready: bus.LinkReady, wall: float) -> None:
        """A handshake has left its tickets. To be told of every one, admitted or not.

        After an outbound handshake nothing proves yet that its last message arrived. A dial that
        relied on a ticket which the peer never made would fall back and cost its trust, so that
        ticket waits for ``proven``.
        """
        key, expires = ids.from_text(ready.report.key), wall + self._lifetime_s
        if ready.accept_ticket is not None:
            self._keep(Ticket(key, ready.accept_ticket), Direction.ACCEPT, expires)
        if ready.dial_ticket is None:
            return
        if ready.report.direction == "out":
            self._wait(link, Ticket(key, ready.dial_ticket))
        else:
            self._keep(Ticket(key, ready.dial_ticket), Direction.DIAL, expires)

    def proven(self, link: LinkId, wall: float) -> None:
        """The peer has said something on the link, so its side of the handshake is done, too."""
        ticket = self._unproven.pop(link, None)
        if ticket is not None:
            self._keep(ticket, Direction.DIAL, wall + self._lifetime_s)

    def down(self, link: LinkId, remote: bool, wall: float) -> None:
        """The link is gone; ``remote``: the peer said so, which is a proof as well."""
        if remote:
            self.proven(link, wall)
        elif self._unproven.pop(link, None) is not None:
            self._counters.tickets_unproven += 1

    @property
    def links(self) -> Iterable[LinkId]:
        """Those with a ticket that is not proven."""
        return self._unproven.keys()

    def _wait(self, link: LinkId, ticket: Ticket) -> None:
        if len(self._unproven) >= UNPROVEN_MAX:
            del self._unproven[next(iter(self._unproven))]
            self._counters.tickets_unproven += 1
        self._unproven[link] = ticket

    def _keep(self, ticket: Ticket, direction: Direction, expires: float) -> None:
        self._counters.tickets_made += 1
        self._store.put_ticket(ticket, direction, expires)
