"""How much of something peers may have: token buckets. Pure; ``now`` is monotonic (s)."""

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


class Shares:
    """The same allowance for each of many names, and one for all of them together."""

    def __init__(
        self, each: tuple[int, float], everybody: tuple[int, float], names_max: int = 4096
    ) -> None:
        """``each`` and ``everybody``: as ``Allowance`` has them. Of more than ``names_max`` names
        those that took nothing for longest are forgotten.
        """
        self._each = each
        self._everybody = Allowance(*everybody)
        self._names_max = names_max
        self._by_name: dict[str, Allowance] = {}
        "Those that took last come last."

    def __len__(self) -> int:
        return len(self._by_name)

    def left(self, now: float) -> bool:
        """Whether there is anything for anybody."""
        return self._everybody.next_at() <= now

    def left_for(self, name: str | None, now: float) -> bool:
        """Whether ``name`` would get one; takes nothing."""
        own = self._by_name.get(name) if name is not None else None
        return self.left(now) and (own is None or own.next_at() <= now)

    def take(self, name: str | None, now: float) -> bool:
        """One for ``name``; None is somebody who shares in what is for all, and has no bound."""
        if not self.left(now) or (name is not None and not self._own(name, now)):
            return False
        return self._everybody.take(now)

    def _own(self, name: str, now: float) -> bool:
        allowance = self._by_name.pop(name) if name in self._by_name else Allowance(*self._each)
        self._by_name[name] = allowance
        if len(self._by_name) > self._names_max:
            del self._by_name[next(iter(self._by_name))]
        return allowance.take(now)
