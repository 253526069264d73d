"""How long to leave alone what has failed: pauses that grow, by name, with jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FIRST_S = 0.5
NAMES_MAX = 4096


@dataclass(slots=True)
class _Record:
    failures: int = 0
    "Since the last success."
    allowed_at: float = float("-inf")
    success: int = 0
    "Its place in the order of all successes; 0 when there was none."


class Backoff:
    """What is known of each name: an endpoint's text, or a key. The oldest are forgotten first."""

    def __init__(
        self, random: Callable[[], float], longest_s: float, names_max: int = NAMES_MAX
    ) -> None:
        """``random`` is uniform in [0, 1). ``longest_s`` bounds a pause before its jitter, which
        is half of it either way.
        """
        self._random = random
        self._longest_s = longest_s
        self._names_max = names_max
        self._successes = 0
        self._records: dict[str, _Record] = {}
        "Those touched last come last."

    def __len__(self) -> int:
        return len(self._records)

    def failed(self, name: str, now: float) -> None:
        """Leave it alone, twice as long as after the failure before."""
        record = self._touch(name)
        pause = min(self._longest_s, FIRST_S * 2.0 ** min(record.failures, 30))
        record.failures += 1
        record.allowed_at = now + pause * (0.5 + self._random())

    def succeeded(self, name: str) -> None:
        """It may be tried again at once."""
        self._successes += 1
        record = self._touch(name)
        record.failures, record.allowed_at = 0, float("-inf")
        record.success = self._successes

    def forget(self, name: str) -> None:
        """Nothing is held against it any more."""
        self._records.pop(name, None)

    def allowed_at(self, name: str) -> float:
        """When it may be tried again (s, monotonic)."""
        record = self._records.get(name)
        return record.allowed_at if record else float("-inf")

    def preference(self, name: str) -> tuple[int, int]:
        """Sorts names: latest success first, then fewest failures."""
        record = self._records.get(name)
        return (-record.success, record.failures) if record else (0, 0)

    def _touch(self, name: str) -> _Record:
        record = self._records[name] = self._records.pop(name, _Record())
        if len(self._records) > self._names_max:
            del self._records[next(iter(self._records))]
        return record
