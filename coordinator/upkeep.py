"""When the store's writes are made safe, and when it is tidied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dp2p.coordinator.store import PeerStore

COMMIT_S = 0.05  # what the store was told is safe after this
CHECKPOINT_S = 10.0  # between moves of what is safe to where it stays


class Upkeep:
    """Of one store. ``now`` is monotonic (s)."""

    def __init__(self, store: PeerStore, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._due: float | None = None

    def next_deadline(self) -> float | None:
        """When to call ``run`` next."""
        return self._due

    def run(self, now: float) -> None:
        """Gather what the store is told for a moment, then make it safe."""
        if self._due is not None and now >= self._due:
            self._store.commit()
            self._due = None
        if self._store.dirty and self._due is None:
            self._due = now + COMMIT_S

    async def checkpoint(self, every_s: float = CHECKPOINT_S) -> None:
        """For ever: the one thing of the store that waits for a disk, beside the loop. It has a
        thread of its own: those of the loop's executor may all be waiting for a name server.
        """
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "dp2p checkpoint") as thread:
            while True:
                await asyncio.sleep(every_s)
                self._store.expire(self._wall())
                if self._store.checkpoint_due:
                    await loop.run_in_executor(thread, self._store.checkpoint)
