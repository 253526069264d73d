"""How much of something a peer may have: a token bucket. Pure; ``now`` is monotonic (s)."""

from __future__ import annotations

_ROUNDING = 1e-6  # of sums of times, in units of what is allowed; far below one


class Allowance:
    """So many at once, and one more each ``every_s``: a token bucket."""

    __slots__ = ("_ahead_s", "_every_s", "_spent_until")

    def __init__(self, at_once: int, every_s: float) -> None:
        self._every_s = every_s
        self._ahead_s = (at_once - 1 + _ROUNDING) * every_s
        self._spent_until = float("-inf")

    def take(self, now: float) -> bool:
        """One, if there is one left."""
        if self.next_at() > now:
            return False
        self._spent_until = max(self._spent_until, now) + self._every_s
        return True

    def next_at(self) -> float:
        """From when there is one."""
        return self._spent_until - self._ahead_s
