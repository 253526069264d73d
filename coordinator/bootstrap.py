"""Whom to turn to while discovery knows nobody: the addresses of ``discovery.bootstrap``.

An address with a key is tried as a contact of discovery, at the UDP port of the same number. When
that brings nothing, it is dialled once over TCP, for its record and for those it knows. An endpoint
without a key can only be dialled. As long as nobody is known, all of this is tried again, after
pauses that grow.

Pure: ``now`` is monotonic (s).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dp2p.addresses import Address, PeerAddress

ANSWER_S = 4.0  # for discovery to have an answer before an address is dialled
FIRST_S, LONGEST_S = 3.0, 300.0  # pauses between rounds, before their jitter of half either way


@dataclass(frozen=True, slots=True)
class Contact:
    """Look up the host, and give discovery the contact there."""

    address: PeerAddress


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect once, and say what has come of it with ``dialled``."""

    address: Address


@dataclass(frozen=True, slots=True)
class Recall:
    """Give discovery the nodes that the store remembers."""


Action = Contact | Dial | Recall


@dataclass(slots=True)
class _Entry:
    address: Address
    error: str | None = None
    "Why it could not be used, last time."


class Bootstrap:
    """All addresses. Told often how many contacts there are, it says what to do."""

    def __init__(
        self, addresses: Iterable[Address], random: Callable[[], float], *, now: float
    ) -> None:
        """``random`` is uniform in [0, 1)."""
        self._random = random
        self._entries = [_Entry(address) for address in addresses]
        self._pause_s = FIRST_S
        self._due = now
        self._dial_at: float | None = None
        self.rounds = 0
        "How often nobody was known."

    def next_deadline(self) -> float:
        """When to call ``run`` next."""
        return self._due if self._dial_at is None else min(self._due, self._dial_at)

    def run(self, contacts: int, now: float) -> list[Action]:
        """Do what is due, when so many contacts are known that have answered."""
        if contacts:
            self._pause_s, self._dial_at = FIRST_S, None
            self._due = now + FIRST_S
            return []
        actions: list[Action] = []
        if self._dial_at is not None and now >= self._dial_at:
            self._dial_at = None
            actions += [Dial(one.address) for one in self._entries if _has_key(one)]
        if now >= self._due:
            actions += self._round(now)
        return actions

    def _round(self, now: float) -> list[Action]:
        self.rounds += 1
        self._due = now + self._pause_s * (0.5 + self._random()) + ANSWER_S
        self._pause_s = min(LONGEST_S, 2 * self._pause_s)
        self._dial_at = now + ANSWER_S if any(map(_has_key, self._entries)) else None
        known: list[Action] = [
            Contact(one.address) for one in self._entries if isinstance(one.address, PeerAddress)
        ]
        dials = [Dial(one.address) for one in self._entries if not _has_key(one)]
        return [Recall(), *known, *dials]

    def failed(self, address: Address, why: str) -> bool:
        """It could not be used; whether that is news."""
        for one in self._entries:
            if one.address == address and one.error != why:
                one.error = why
                return True
        return False

    def succeeded(self, address: Address) -> None:
        """It was of use."""
        for one in self._entries:
            if one.address == address:
                one.error = None

    def describe(self) -> list[dict[str, str | None]]:
        """For ``status``."""
        return [{"address": str(one.address), "error": one.error} for one in self._entries]


def _has_key(entry: _Entry) -> bool:
    return isinstance(entry.address, PeerAddress)
