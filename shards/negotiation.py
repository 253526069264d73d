"""Which protocols a link carries: both sides' lists, joined by name. Pure logic.

A protocol that this side withdraws leaves its number behind: what the peer sent before it knew is
dropped, and the name is not joined again until the peer has acknowledged. So a flow always
starts at position zero on both sides (docs/spec/wire.md, "Protocol lists").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from dp2p.bus import ProtocolEntry
from dp2p.control import Lift
from dp2p.hello import Offer, Protocols, offer
from dp2p.records import DATAGRAM_COST

PRESSURE_MAX = 28  # halves the largest window to nothing


@dataclass(frozen=True, slots=True)
class Join:
    """One protocol that both sides speak, as a flow needs it."""

    name: str
    session: str
    "The application that serves it."
    number: int
    peer_number: int
    version: int
    max_datagram: int
    types: int
    window: int
    peer_window: int
    priority: str
    weight: int
    lifts: tuple[Lift, ...] = ()
    application: str | None = None
    "The life of the peer's application, if the peer says."


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to a link's flows, in this order."""

    tombstone: list[int] = field(default_factory=list)
    "Withdrawn numbers, joined or not: what still comes under them is dropped."
    close: list[tuple[Join, bool]] = field(default_factory=list)
    "Flows to close; True when this side withdrew."
    open: list[Join] = field(default_factory=list)


def choose(entries: Iterable[ProtocolEntry], peer: bytes) -> dict[str, ProtocolEntry]:
    """For each name, the entry that serves ``peer``: where applications share a protocol, peers
    are spread over them by rendezvous hashing, the same on every shard.
    """
    best: dict[str, tuple[bytes, ProtocolEntry]] = {}
    for entry in entries:
        score = hashlib.blake2b(peer + entry.session.encode(), digest_size=8).digest()
        name = entry.spec.name
        if name not in best or score > best[name][0]:
            best[name] = (score, entry)
    return {name: entry for name, (_, entry) in best.items()}


def halved(entry: ProtocolEntry, shift: int) -> ProtocolEntry:
    """``entry`` with its window halved ``shift`` times; it still holds a largest datagram."""
    spec = entry.spec
    window = max(spec.window >> shift, spec.max_datagram + DATAGRAM_COST)
    if window >= spec.window:
        return entry
    spec = msgspec.structs.replace(spec, window=window)
    return msgspec.structs.replace(entry, spec=spec)


def pressure(used: int, room: int) -> int:
    """How many times windows of a new link are halved when ``used`` of ``room`` bytes are taken:
    not below a half, once below three quarters, twice below seven eighths and so on.
    """
    shift = 0
    while shift < PRESSURE_MAX and room - used <= room >> (shift + 1):
        shift += 1
    return shift


def join(entry: ProtocolEntry, theirs: Offer) -> Join | None:
    """Same name, highest common version; None when the sides do not fit."""
    common = set(entry.spec.versions) & set(theirs.versions)
    largest = min(entry.spec.max_datagram, theirs.max_datagram)
    if not common or theirs.window < largest + DATAGRAM_COST:
        return None
    return Join(
        name=theirs.name,
        session=entry.session,
        number=entry.number,
        peer_number=theirs.number,
        version=max(common),
        max_datagram=largest,
        types=min(entry.spec.types, theirs.types),
        window=entry.spec.window,
        peer_window=theirs.window,
        priority=entry.spec.priority,
        weight=entry.spec.weight,
        lifts=tuple(entry.spec.lifts),
        application=theirs.application,
    )


class Negotiation:
    """One link's protocol lists and what follows from them."""

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.shift = 0
        "Windows are offered so many times halved. An offer never changes: set it before the first."
        self.joined: dict[str, Join] = {}
        self._ours: dict[str, ProtocolEntry] = {}
        self._theirs: Mapping[str, Offer] = {}
        self._generation = self._acknowledged = 0
        self._changed = False
        "``_ours`` is not what the peer was told last."
        self._waiting: dict[str, tuple[int, set[int]]] = {}
        "Withdrawn names: the generation whose acknowledgement frees them, and their numbers."
        self._withdrawn: list[int] = []

    def set_ours(self, entries: Iterable[ProtocolEntry]) -> Protocols | None:
        """Take this node's protocols. Returns the list to send to the peer, or None when nothing
        changed for it or it has not acknowledged the one before; ``settle`` must follow. Call it
        again after an acknowledgement, which may free what was held back.
        """
        chosen = choose(entries, self.peer)
        ours = self._offerable({name: halved(one, self.shift) for name, one in chosen.items()})
        told = self._acknowledged == self._generation
        if not told:  # what goes, goes at once; what comes must be in a list first
            ours = {name: entry for name, entry in self._ours.items() if ours.get(name) == entry}
        first = self._generation == 0
        self._changed |= first or ours != self._ours
        before, self._ours = self._ours, ours
        for name, old in before.items():
            if name not in ours or ours[name].number != old.number:
                self._withdraw(name, old.number)
        if not (told and self._changed):
            return None
        self._changed = False
        self._generation += 1
        return Protocols(
            generation=self._generation,
            protocols=[offer(entry.number, entry.spec, entry.instance) for entry in ours.values()],
        )

    def _offerable(self, entries: dict[str, ProtocolEntry]) -> dict[str, ProtocolEntry]:
        """Without entries whose number the peer may still know for something else."""
        taken = {number for _, numbers in self._waiting.values() for number in numbers}
        return {
            name: entry
            for name, entry in entries.items()
            if entry.number not in taken and self._unchanged(name, entry)
        }

    def _unchanged(self, name: str, entry: ProtocolEntry) -> bool:
        """Whether a number that stays also stands for the same."""
        old = self._ours.get(name)
        return old is None or old.number != entry.number or old == entry

    def _withdraw(self, name: str, number: int) -> None:
        """The peer may send to ``number`` until it acknowledges, joined or not."""
        _, numbers = self._waiting.get(name, (0, set()))
        self._waiting[name] = (self._generation + 1, numbers | {number})
        self._withdrawn.append(number)

    def set_theirs(self, protocols: Protocols) -> None:
        """Take the peer's list; ``settle`` must follow."""
        self._theirs = {each.name: each for each in protocols.protocols}

    def acknowledged(self, generation: int) -> list[int]:
        """The peer has our list of ``generation`` in force: returns numbers to bury."""
        self._acknowledged = max(self._acknowledged, min(generation, self._generation))
        free = [name for name, (since, _) in self._waiting.items() if since <= generation]
        return [number for name in free for number in self._waiting.pop(name)[1]]

    def settle(self) -> Change:
        """Bring the flows into line with both lists."""
        change = Change(tombstone=self._withdrawn)
        self._withdrawn = []
        wanted = self._wanted()
        for name, old in list(self.joined.items()):
            if wanted.get(name) == old:
                continue
            _, withdrawn = self._waiting.get(name, (0, set()))
            change.close.append((old, old.number in withdrawn))
            del self.joined[name]
        for name, new in wanted.items():
            if name not in self.joined:
                self.joined[name] = new
                change.open.append(new)
        return change

    def _wanted(self) -> dict[str, Join]:
        pairs = (
            join(entry, self._theirs[name])
            for name, entry in self._ours.items()
            if name in self._theirs and name not in self._waiting
        )
        return {each.name: each for each in pairs if each}
