"""Tickets in the peer store: each is given out once.

A ticket that was given out is gone, even when the batch that forgot it is rolled back: the next
batch begins by forgetting it again. Only a kill, or a loss of power, brings back what was given out
since the last commit; the peer has used it up by then, and its node falls back. One that was not
used may be put again.
"""

from __future__ import annotations

from dp2p.coordinator.known import TICKET_BYTES, Direction, Ticket
from dp2p.coordinator.store_bounds import Limits
from dp2p.coordinator.store_file import Database


class Tickets:
    """The table of tickets; ``peer`` is a row's number. All but the hooks run within the guard."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._db = database
        self._most = {
            Direction.DIAL: limits.dial_tickets,
            Direction.ACCEPT: limits.accept_tickets,
        }
        self._expiring = limits.expiring
        self._gone: set[bytes] = set()  # names; forgotten in a batch that is not committed

    # --- the database's hooks ---

    def begun(self) -> None:
        """Forget again what an earlier batch failed to forget."""
        for name in self._gone:
            self._db.execute("DELETE FROM tickets WHERE name = ?", name)

    def committed(self) -> None:
        """What was forgotten is so for good."""
        self._gone.clear()

    # --- within a batch ---

    def put(self, peer: int, ticket: Ticket, direction: Direction, expires: float) -> None:
        """Keep a ticket, and of all those only the newest few."""
        self._db.execute("DELETE FROM tickets WHERE name = ?", ticket.name)
        self._gone.discard(ticket.name)
        self._db.execute(
            "INSERT INTO tickets (peer, direction, name, psk, expires) VALUES (?, ?, ?, ?, ?)",
            peer,
            direction,
            ticket.name,
            ticket.psk,
            expires,
        )
        older = self._db.rows(
            "SELECT name FROM tickets WHERE peer = ? AND direction = ?"
            " ORDER BY id DESC LIMIT -1 OFFSET ?",
            peer,
            direction,
            self._most[direction],
        )
        self._forget([name for (name,) in older])

    def take_dial(self, key: bytes, now: float) -> Ticket | None:
        """The newest that is valid."""
        found = self._db.row(
            "SELECT t.name, t.psk, t.expires FROM tickets t JOIN peers p ON p.id = t.peer"
            " WHERE p.key = ? AND t.direction = 'dial' AND t.expires > ?"
            " ORDER BY t.id DESC LIMIT 1",
            key,
            now,
        )
        if found is None:
            return None
        self._forget([found[0]])
        return Ticket(key, found[0] + found[1], found[2])

    def take_accept(self, name: bytes, now: float) -> Ticket | None:
        """The one of that name, when it is valid."""
        found = self._db.row(
            "SELECT p.key, t.psk FROM tickets t JOIN peers p ON p.id = t.peer"
            " WHERE t.name = ? AND t.direction = 'accept' AND t.expires > ?",
            name,
            now,
        )
        if found is None:
            return None
        self._forget([name])
        return Ticket(found[0], name + found[1])

    def drop(self, key: bytes) -> None:
        """Forget all of a peer."""
        names = self._db.rows(
            "SELECT t.name FROM tickets t JOIN peers p ON p.id = t.peer WHERE p.key = ?", key
        )
        self._forget([name for (name,) in names])

    def expire(self, now: float) -> int:
        """Forget some that are no longer valid; how many."""
        names = self._db.rows(
            "SELECT name FROM tickets WHERE expires <= ? LIMIT ?", now, self._expiring
        )
        for (name,) in names:
            self._db.execute("DELETE FROM tickets WHERE name = ?", name)
        return len(names)

    def _forget(self, names: list[bytes]) -> None:
        for name in names:
            self._db.execute("DELETE FROM tickets WHERE name = ?", name)
            self._gone.add(name)


def check_ticket(ticket: Ticket) -> None:
    """Raises: ValueError, which tells nothing of the ticket but its length."""
    if len(ticket.secret) != TICKET_BYTES:
        raise ValueError(f"a ticket has {TICKET_BYTES} bytes, not {len(ticket.secret)}")
