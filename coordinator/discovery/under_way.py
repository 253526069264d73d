"""The handshakes that a node has begun, by when something is due and by place. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from dp2p.coordinator.discovery.contact import Place
from dp2p.coordinator.discovery.handshakes import Pending


class UnderWay:
    """Each is sent so many times, and then given up."""

    def __init__(self, resend_s: Sequence[float]) -> None:
        """``resend_s``: how long each message 1 waits for its answer."""
        self._resend_s = resend_s
        self._by_place: dict[Place, list[Pending]] = {}
        self._due: list[tuple[float, int, Pending]] = []
        "Those that are over, or were sent since, are skipped."
        self._numbers: set[int] = set()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, pending: Pending) -> None:
        """It begins; ``sent`` says when."""
        self._numbers.add(pending.number)
        self._by_place.setdefault(pending.contact.place, []).append(pending)

    def sent(self, pending: Pending, now: float) -> None:
        """Its message 1 was sent."""
        pending.next_at = now + self._resend_s[pending.sends]
        pending.sends += 1
        heapq.heappush(self._due, (pending.next_at, pending.number, pending))

    def is_spent(self, pending: Pending) -> bool:
        """Whether it was sent as often as it may be."""
        return pending.sends >= len(self._resend_s)

    def remove(self, pending: Pending) -> None:
        """It is over."""
        self._numbers.remove(pending.number)
        others = self._by_place[pending.contact.place]
        others.remove(pending)
        if not others:
            del self._by_place[pending.contact.place]

    def with_place(self, place: Place) -> Sequence[Pending]:
        """Those with contacts at ``place``, in the order in which they began."""
        return self._by_place.get(place, ())

    def next(self) -> Pending | None:
        """The one that something is to be done about first, at its ``next_at``."""
        while self._due:
            at, number, pending = self._due[0]
            if number in self._numbers and pending.next_at == at:
                return pending
            heapq.heappop(self._due)
        return None
