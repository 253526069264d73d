"""When to do what next: keys with times, the earliest first. Pure."""

from __future__ import annotations

import heapq

_SLACK = 64  # outdated places in the queue that are put up with


class Schedule:
    """Each key has one time. Moving it later costs nothing until the earlier time has come."""

    __slots__ = ("_at", "_queue", "_queued")

    def __init__(self) -> None:
        self._at: dict[bytes, float] = {}
        self._queued: dict[bytes, float] = {}
        "The time under which a key stands in the queue: never after its own."
        self._queue: list[tuple[float, bytes]] = []
        "A heap. A place whose time is not the key's in ``_queued`` is outdated."

    def __len__(self) -> int:
        return len(self._at)

    def at(self, key: bytes) -> float:
        """The time of a key; infinity for one that has none."""
        return self._at.get(key, float("inf"))

    def set(self, key: bytes, at: float) -> None:
        """Gives a key this time instead of the one it had."""
        self._at[key] = at
        queued = self._queued.get(key)
        if queued is None or at < queued:
            self._queued[key] = at
            heapq.heappush(self._queue, (at, key))
            if len(self._queue) > 2 * len(self._at) + _SLACK:
                self._rebuild()

    def remove(self, key: bytes) -> None:
        """Forgets a key, if it is there."""
        self._at.pop(key, None)
        self._queued.pop(key, None)

    def next(self) -> float:
        """The earliest time; infinity without keys."""
        first = self._first()
        return first[0] if first else float("inf")

    def due(self, now: float) -> bytes | None:
        """The earliest key whose time has come; it stays until it is set or removed."""
        first = self._first()
        return first[1] if first and first[0] <= now else None

    def _first(self) -> tuple[float, bytes] | None:
        """The head of the queue, once outdated places before it are out of the way."""
        queue = self._queue
        while queue:
            at, key = queue[0]
            if self._queued.get(key) != at:
                heapq.heappop(queue)
            elif (later := self._at[key]) > at:
                self._queued[key] = later
                heapq.heapreplace(queue, (later, key))
            else:
                return queue[0]
        return None

    def _rebuild(self) -> None:
        self._queued = dict(self._at)
        self._queue = [(at, key) for key, at in self._at.items()]
        heapq.heapify(self._queue)
