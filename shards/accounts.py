"""What each peer and protocol have exchanged over a shard since it began: the books.

Pure. Bounded: of those that have no flow now, the ones that were idle for longest are put together
as *others*, first those of each protocol, then all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dp2p import bus
from dp2p.bus import Total

ACCOUNTS_MAX = 4096  # without flows; those that have some are kept
OTHERS_MAX = 256  # protocols whose others are kept apart
OTHERS = ""

Key = tuple[str, str]
"Peer and protocol."
Moved = tuple[int, int, int, int]
"Datagrams and bytes up, datagrams and bytes down."


@dataclass(slots=True)
class _Account:
    moved: Moved = (0, 0, 0, 0)
    flows: int = 0


class Accounts:
    """By peer (node-ID) and protocol."""

    def __init__(self, most: int = ACCOUNTS_MAX, others_most: int = OTHERS_MAX) -> None:
        self._most = most
        self._others_most = others_most
        self._with_flows: dict[Key, _Account] = {}
        self._idle: dict[Key, _Account] = {}
        "Those that became idle last come last."
        self._others: dict[Key, _Account] = {}
        self._changed: set[Key] = set()
        self._folded: list[Key] = []

    def __len__(self) -> int:
        return len(self._with_flows) + len(self._idle) + len(self._others)

    def opened(self, key: Key) -> None:
        """There is a flow, or one more."""
        account = self._with_flows.get(key) or self._idle.pop(key, None) or _Account()
        account.flows += 1
        self._with_flows[key] = account

    def closed(self, key: Key) -> None:
        """A flow has ended."""
        account = self._with_flows[key]
        account.flows -= 1
        if account.flows:
            return
        del self._with_flows[key]
        if any(account.moved):
            self._idle[key] = account
            self._fold()

    def add(self, key: Key, moved: Moved) -> None:
        """So much more has moved in a flow that is there."""
        if any(moved):
            account = self._with_flows[key]
            account.moved = _sum(account.moved, moved)
            self._changed.add(key)

    def _fold(self) -> None:
        while len(self._idle) > self._most:
            key = next(iter(self._idle))
            self._put_away(key, self._idle.pop(key), (OTHERS, key[1]))
        while len(self._others) > self._others_most:
            key = next(one for one in self._others if one != (OTHERS, OTHERS))
            self._put_away(key, self._others.pop(key), (OTHERS, OTHERS))

    def _put_away(self, key: Key, account: _Account, into: Key) -> None:
        before = self._others.pop(into, None) or _Account()
        self._others[into] = _Account(_sum(before.moved, account.moved))
        self._changed.discard(key)
        self._changed.add(into)
        self._folded.append(key)

    def changed(self) -> bus.Totals | None:
        """What is not as it was said last; None when all is."""
        if not self._changed and not self._folded:
            return None
        said = bus.Totals(totals=self._totals(self._changed), folded=self._folded)
        self._changed, self._folded = set(), []
        return said

    def everything(self) -> bus.Totals:
        """All of it, for a coordinator that knows nothing."""
        self._changed, self._folded = set(), []
        return bus.Totals(totals=self._totals([*self._with_flows, *self._idle, *self._others]))

    def _totals(self, keys: Iterable[Key]) -> list[Total]:
        books = (self._with_flows, self._idle, self._others)
        return [
            Total(*key, *book[key].moved)
            for key in keys
            for book in books
            if key in book and any(book[key].moved)
        ]


def _sum(one: Moved, other: Moved) -> Moved:
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])
