"""Lookups under way: each asks, hears, asks closer ones, and ends.

Source: docs/spec/discovery.md, "Lookups". Those that others wait for are bounded and queue; those
of discovery itself run beside them, a few at a time, so that neither starves the other. Each has
so much time: who answers late, or names the dead, keeps nobody's turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dp2p.coordinator.discovery.actions import Action, DiscoveryBusy, Result
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.contact import ID_BITS, Contact
from dp2p.coordinator.discovery.lookup import Lookup
from dp2p.coordinator.discovery.messages import Answer, Find, FindProtocol
from dp2p.coordinator.discovery.requests import Make

RUNNING_MAX = 32
QUEUE_MAX = 256
WANTED = 16  # contacts, in a result; k
STARTS = 64  # more than the table takes of two networks, so that they cannot be all
LASTS_S = 60.0  # a lookup, at most; then it ends with what it has

Ended = Callable[[Result, float], list[Action]]
Heard = Callable[[Contact, list[Answer], float], list[Action]]


@dataclass(slots=True, eq=False)
class Walk:
    """One lookup, and what comes of it."""

    lookup: Lookup
    make: Make
    heard: Heard | None
    "Hears the answers as they come."
    ended: Ended
    asked_at: float
    "When it was wished for; it may have waited."
    ends_at: float
    foreground: bool
    stopped: bool = False
    "Enough was found, or it has ended."


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be looked up."""

    target: int
    paths: int
    ended: Ended
    protocol: bool = False
    "The target is a protocol's identifier, and contacts are asked who serves it."
    heard: Heard | None = None


class Walks:
    """All of them."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._queue: deque[tuple[Wish, float]] = deque()
        self._foreground = 0
        self._running: dict[Walk, None] = {}
        "Of both kinds; which began first is to end first."

    def __len__(self) -> int:
        return self._foreground + len(self._queue)

    def run(self, now: float) -> list[Action]:
        """End those that have had their time."""
        actions: list[Action] = []
        while self._running and (walk := next(iter(self._running))).ends_at <= now:
            self._asking.counters.lookups_cut += 1
            actions += self.stop(walk, now)
        return actions

    def next_deadline(self) -> float:
        """When ``run`` has something to do; infinity when no lookup is under way."""
        return next((walk.ends_at for walk in self._running), float("inf"))

    def begin(self, wish: Wish, now: float) -> tuple[Walk, list[Action]]:
        """A lookup of discovery's own, at once."""
        walk = self._walk(wish, now, now, foreground=False)
        return walk, self.go_on(walk, now)

    def request(self, wish: Wish, now: float) -> list[Action]:
        """A lookup that somebody waits for, at once or in its turn.  Raises: DiscoveryBusy."""
        self.check_room()
        self._queue.append((wish, now))
        return self._from_queue(now)

    def check_room(self) -> None:
        """Raises: DiscoveryBusy when no more lookups can wait."""
        if len(self._queue) >= QUEUE_MAX:
            self._asking.counters.busy += 1
            raise DiscoveryBusy(
                f"lookup: {self._foreground} are under way and {QUEUE_MAX} wait, which is the most"
            )

    def go_on(self, walk: Walk, now: float) -> list[Action]:
        """Ask whom the lookup wants asked; end it when it is done, or was stopped."""
        if walk.stopped:
            return []
        if walk.lookup.done:
            return self.stop(walk, now)
        return [
            act
            for contact in walk.lookup.ask()
            for act in self._asking.ask(
                contact, walk.make, lambda *heard: self._heard(walk, *heard), now
            )
        ]

    def stop(self, walk: Walk, now: float) -> list[Action]:
        """End a lookup with what it has; answers that still come go to the table alone."""
        if walk.stopped:
            return []
        walk.stopped = True
        self._running.pop(walk, None)
        lookup = walk.lookup
        result = Result(
            contacts=tuple(lookup.result()),
            hops=lookup.hops,
            asked=lookup.asked,
            failed=lookup.failures,
            seconds=now - walk.asked_at,
        )
        actions = walk.ended(result, now)
        if walk.foreground:
            self._foreground -= 1
            actions += self._from_queue(now)
        return actions

    def _from_queue(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._queue and self._foreground < RUNNING_MAX:
            wish, asked_at = self._queue.popleft()
            self._foreground += 1
            actions += self.go_on(self._walk(wish, asked_at, now, foreground=True), now)
        return actions

    def _walk(self, wish: Wish, asked_at: float, now: float, *, foreground: bool) -> Walk:
        asking, target = self._asking, wish.target.to_bytes(ID_BITS // 8, "big")
        asking.counters.lookups += 1
        lookup = Lookup(
            wish.target,
            asking.table.closest(wish.target, STARTS),
            own=asking.own.id,
            k=WANTED,
            paths=wish.paths,
            limits=asking.settings.limits,
            random=asking.random,
        )
        walk = Walk(
            lookup,
            (lambda number: FindProtocol(number, target))
            if wish.protocol
            else (lambda number: Find(number, target)),
            wish.heard,
            wish.ended,
            asked_at,
            now + LASTS_S,
            foreground,
        )
        self._running[walk] = None
        return walk

    def _heard(
        self, walk: Walk, contact: Contact, answers: list[Answer], now: float
    ) -> list[Action]:
        if walk.stopped:
            return []
        if answers:
            walk.lookup.answered(contact, self._asking.contacts_in(contact, answers))
        else:
            walk.lookup.failed(contact)
        actions = walk.heard(contact, answers, now) if walk.heard and answers else []
        return actions + self.go_on(walk, now)
