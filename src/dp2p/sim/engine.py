"""Virtual time: calls are made in the order of their times, as fast as they can be."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

Call = Callable[..., None]


class Engine:
    """A queue of calls. Those for the same time are made in the order in which they were asked."""

    __slots__ = ("_order", "_queue", "calls", "now")

    def __init__(self) -> None:
        self.now = 0.0
        "Virtual time (s)."
        self.calls = 0
        "How many were made."
        self._order = count()
        self._queue: list[tuple[float, int, Call, tuple[Any, ...]]] = []

    def __len__(self) -> int:
        return len(self._queue)

    def at(self, when: float, call: Call, *arguments: Any) -> None:
        """Make a call at a time; at once, after what waits already, when that time has passed."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), call, arguments))

    def after(self, delay_s: float, call: Call, *arguments: Any) -> None:
        """Make a call after a while."""
        heapq.heappush(self._queue, (self.now + delay_s, next(self._order), call, arguments))

    def run(self, until: float, enough: Callable[[], bool] | None = None) -> None:
        """Make all calls up to a time, which it is then; earlier when ``enough`` says so."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until:
            self.now, _, call, arguments = pop(queue)
            self.calls += 1
            call(*arguments)
            if enough is not None and enough():
                return
        self.now = max(self.now, until)
