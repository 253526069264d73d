"""Randomness as it is handed in: what discovery uses of ``random.Random``."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any, Protocol


class Random(Protocol):
    """A ``random.Random`` or a ``random.SystemRandom``; tests and the simulator seed theirs."""

    def random(self) -> float:
        """Uniform in [0, 1)."""

    def getrandbits(self, k: int, /) -> int:
        """Uniform among the numbers of ``k`` bits."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Puts ``x`` in random order, in place."""


def about(value: float, random: Random, spread: float = 0.25) -> float:
    """``value``, up to ``spread`` of it more or less: so that what began together drifts apart."""
    return value * (1.0 + spread * (2.0 * random.random() - 1.0))
