"""What the table consists of: entries, buckets, and how many contacts a network may have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dp2p.coordinator.discovery.contact import Contact
from dp2p.networks import is_local

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """How many contacts of one IP network (a /24 or a /48) are taken."""

    bucket: int = 2
    table: int = 10
    local: bool = False
    "Whether addresses of this machine and site are limited as well."


UNLIMITED = NetworkLimits(bucket=1 << 30, table=1 << 30)


@dataclass(slots=True, eq=False)
class Entry:
    """A contact, and what this node has seen of it. Times are monotonic (s)."""

    contact: Contact
    since: float
    "When it was first heard of."
    came: bool
    "It came by itself; False for one that this node found."
    alive: float = NEVER
    "When it last answered."
    checks: int = 0
    "How often it has answered."
    failures: int = 0
    "Since it last answered."
    failing_since: float = NEVER
    "About when the first of these was asked."
    checking: bool = False
    "The table has asked for a check of it."
    elsewhere: Contact | None = None
    "It answered from this other place too."

    @property
    def checked(self) -> bool:
        """It has answered a request of this node."""
        return self.checks > 0


class Crowds:
    """How many of each network there are, over all buckets, and whether one more may come."""

    __slots__ = ("_limits", "_totals")

    def __init__(self, limits: NetworkLimits) -> None:
        self._limits = limits
        self._totals: dict[str, int] = {}

    def admits(
        self, group: Iterable[Entry], contact: Contact, leaving: Entry | None = None
    ) -> bool:
        """Whether ``contact`` may join ``group``, when ``leaving`` goes from it."""
        network = contact.network
        gone = int(leaving is not None and leaving.contact.network == network)
        beside = sum(entry.contact.network == network for entry in group) - gone
        total = self._totals.get(network, 0) - gone
        if beside < self._limits.bucket and total < self._limits.table:
            return True
        return not self._limits.local and is_local(contact.place[0])

    def add(self, contact: Contact) -> None:
        """One more."""
        self._totals[contact.network] = self._totals.get(contact.network, 0) + 1

    def remove(self, contact: Contact) -> None:
        """One less."""
        left = self._totals[contact.network] - 1
        if left:
            self._totals[contact.network] = left
        else:
            del self._totals[contact.network]


@dataclass(slots=True, eq=False)
class Bucket:
    """All contacts at one logarithmic distance. The table keeps its bounds."""

    log_distance: int
    entries: dict[bytes, Entry] = field(default_factory=dict)
    "All have answered. By key, in the order in which they entered."
    spares: dict[bytes, Entry] = field(default_factory=dict)
    "Replacements, by key, the most recently seen last."
    _healthy: list[Contact] | None = None

    def healthy(self) -> list[Contact]:
        """The contacts of entries that answered when they were last asked."""
        if self._healthy is None:
            self._healthy = [one.contact for one in self.entries.values() if not one.failures]
        return self._healthy

    def changed(self) -> None:
        """Entries were added, removed, moved, or began or ended to fail."""
        self._healthy = None

    def get(self, key: bytes) -> Entry | None:
        """The entry or replacement with this key."""
        return self.entries.get(key) or self.spares.get(key)

    def rivals(self, newcomer: Entry, k: int, came_max: int) -> list[Entry]:
        """The replacements of which one has to leave when ``newcomer`` becomes one: none while
        there is room, else all, or those that came by themselves when these are too many.
        """
        spares = list(self.spares.values())
        if newcomer.came and came_count(spares) >= came_max:
            return [one for one in spares if one.came]
        return spares if len(spares) >= k else []

    def best_spares(self) -> list[Entry]:
        """Replacements that answered when last asked, best first: those that this node found
        before those that came, and then who answered last.
        """
        ready = [one for one in self.spares.values() if one.checked and not one.failures]
        return sorted(ready, key=lambda one: (one.came, -one.alive))


@dataclass(slots=True)
class Counters:
    """What has happened to contacts, since the start."""

    entered: int = 0
    moved: int = 0
    "Now answer at another place."
    dead: int = 0
    "Entries and replacements that stopped answering."
    crowded: int = 0
    "Refused: their network has its share."
    refused: int = 0
    "Replacements refused or replaced for lack of room."


@dataclass(frozen=True, slots=True)
class BucketView:
    """A bucket, to look at."""

    log_distance: int
    entries: list[Entry]
    replacements: int


def came_count(entries: Iterable[Entry]) -> int:
    """How many came by themselves."""
    return sum(entry.came for entry in entries)


def worth(entry: Entry) -> tuple[int, bool]:
    """What a replacement is kept for: that it answers, or did, and that this node found it."""
    return entry.checked + (entry.checked and not entry.failures), not entry.came
