"""What receivers that do not read have not been sent yet. Pure.

A receiver that reads as it should is behind for moments only. One that does not read is given up
before what waits for it costs too much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

EACH_BYTES = 64 << 20  # for one receiver: some 100,000 events
ALL_BYTES = 256 << 20  # for all together
FRAME_COST = 128  # of a frame beside its bytes: the objects around it


@dataclass(slots=True)
class _Waiting:
    frames: deque[bytes] = field(default_factory=deque)
    cost: int = 0


class Backlogs:
    """Frames by receiver, in order."""

    def __init__(self, each_bytes: int = EACH_BYTES, all_bytes: int = ALL_BYTES) -> None:
        self._each_bytes = each_bytes
        self._all_bytes = all_bytes
        self._waiting: dict[bytes, _Waiting] = {}
        self._cost = 0

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._waiting

    @property
    def receivers(self) -> Iterable[bytes]:
        """Those that are behind, as they are now."""
        return list(self._waiting)

    def add(self, identity: bytes, frame: bytes) -> bytes | None:
        """Keep a frame. Returns who is to be given up for it, whose frames are forgotten: who has
        too much waiting, or the most when all have too much together.
        """
        one = self._waiting.setdefault(identity, _Waiting())
        one.frames.append(frame)
        one.cost += len(frame) + FRAME_COST
        self._cost += len(frame) + FRAME_COST
        if one.cost > self._each_bytes:
            over = identity
        elif self._cost > self._all_bytes:
            over = max(self._waiting, key=lambda name: self._waiting[name].cost)
        else:
            return None
        self.forget(over)
        return over

    def drain(self, identity: bytes, send: Callable[[bytes], bool]) -> int:
        """Send what waits for a receiver until ``send`` refuses; how many frames it took."""
        one, count = self._waiting[identity], 0
        while one.frames and send(one.frames[0]):
            cost = len(one.frames.popleft()) + FRAME_COST
            one.cost -= cost
            self._cost -= cost
            count += 1
        if not one.frames:
            del self._waiting[identity]
        return count

    def forget(self, identity: bytes) -> int:
        """Throw away what waits for a receiver; how many frames that were."""
        one = self._waiting.pop(identity)
        self._cost -= one.cost
        return len(one.frames)
