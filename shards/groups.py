"""Groups of flows: which number stands for a protocol in the engine's caps and accounts.

All flows of one protocol name are in one group, whichever application serves them.
"""

from __future__ import annotations

from dp2p.transport import GROUP_COUNT

OTHERS = GROUP_COUNT - 1
"Shared by all names that came when the numbers were used up; caps by name cannot hold for these."


class Groups:
    """Numbers by protocol name. A name keeps its number for as long as the shard lives, so that the
    engine's totals stay those of one protocol; a node has at most 250 on the air at a time.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The group of a protocol: its own, or ``OTHERS`` when there is none left."""
        if name not in self._numbers and len(self._numbers) < OTHERS:
            self._numbers[name] = len(self._numbers)
        return self._numbers.get(name, OTHERS)

    def names(self) -> dict[str, int]:
        """All that have a number of their own."""
        return dict(self._numbers)
