"""A fast model of Kademlia with ideal static tables, for networks of up to ten million nodes.

No table is built. Towards a target with which it shares ``p`` bits, a node has one bucket: ``k``
random members of those nodes that share more than ``p`` bits with the target. In sorted IDs they
are a range of indexes, and the members are drawn when the node is asked. IDs are 64 bits wide:
enough to keep ten million apart. Thousands of lookups are computed at a time, a row each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint64]
Indexes = NDArray[np.int64]
Flags = NDArray[np.bool_]

BITS = 64
NOBODY = np.iinfo(np.int64).max
"An empty place in a list of indexes."
FARTHEST = np.uint64(0xFFFFFFFFFFFFFFFF)
HOPS_MAX = 64  # a lookup that needs more does not end


def random_ids(count: int, rng: np.random.Generator) -> Ids:
    """Distinct node-IDs, sorted."""
    ids: Ids = np.sort(rng.integers(0, 1 << BITS, count, dtype=np.uint64))
    while (double := np.flatnonzero(ids[1:] == ids[:-1])).size:
        ids[double] = rng.integers(0, 1 << BITS, len(double), dtype=np.uint64)
        ids.sort()
    return ids


def bit_length(values: Ids) -> Indexes:
    """Of each value, how many bits it needs; 0 for 0."""
    length = np.zeros(values.shape, dtype=np.int64)
    rest = values.copy()
    for step in (32, 16, 8, 4, 2, 1):
        high = rest >> np.uint64(step)
        more = high != 0
        length += np.where(more, step, 0)
        rest = np.where(more, high, rest)
    length += rest != 0
    return length


def nearer_ranges(ids: Ids, targets: Ids, distances: Ids) -> tuple[Indexes, Indexes]:
    """For each (target, distance): first index and count of those in the bucket towards the target.

    A node at this distance has one bucket whose members all share more bits with the target than
    it does itself. The distance must not be 0.
    """
    below = bit_length(distances) - 1  # bits after the common prefix and the first that differs
    size = np.uint64(1) << below.astype(np.uint64)
    first = targets & ~(size - np.uint64(1))
    start = np.searchsorted(ids, first, side="left")
    end = np.searchsorted(ids, first + (size - np.uint64(1)), side="right")
    return start, end - start


def draw(starts: Indexes, counts: Indexes, k: int, rng: np.random.Generator) -> Indexes:
    """For each range ``k`` distinct random indexes, all of it when it is smaller.

    Shape: (rows, k), the rest of a row NOBODY. Floyd's algorithm, on all rows at once.
    """
    drawn = np.full((len(starts), k), -1, dtype=np.int64)
    for column in range(k):
        # The one that may be drawn newly in this step; ranges shorter than k begin later.
        newest = counts - k + column
        there = newest >= 0
        choice = (rng.random(len(starts)) * (newest + 1)).astype(np.int64)
        taken = (drawn == choice[:, None]).any(axis=1)
        drawn[:, column] = np.where(there, np.where(taken, newest, choice), -1)
    return np.where(drawn >= 0, drawn + starts[:, None], NOBODY)


def distances_to(ids: Ids, targets: Ids, members: Indexes) -> Ids:
    """XOR distances of a row of members to the row's target; FARTHEST for nobody."""
    there = members != NOBODY
    found = ids[np.where(there, members, 0)] ^ targets[:, None]
    return np.where(there, found, FARTHEST)


@dataclass(slots=True)
class Shortlist:
    """Of many lookups, those who are known closest to each one's target: a row each, sorted."""

    members: Indexes
    distances: Ids
    asked: Flags
    depths: Indexes
    "By how many answers each came to be known."

    @classmethod
    def empty(cls, rows: int, size: int) -> Shortlist:
        return cls(
            np.full((rows, size), NOBODY, dtype=np.int64),
            np.full((rows, size), FARTHEST, dtype=np.uint64),
            np.zeros((rows, size), dtype=np.bool_),
            np.zeros((rows, size), dtype=np.int64),
        )

    def merge(self, members: Indexes, distances: Ids, depths: Indexes) -> None:
        """Learn of others, ``depths`` for each row; who is known already stays as it is."""
        size = self.members.shape[1]
        everyone = np.concatenate([self.members, members], axis=1)
        far = np.concatenate([self.distances, distances], axis=1)
        asked = np.concatenate([self.asked, np.zeros(members.shape, dtype=np.bool_)], axis=1)
        depth = np.concatenate(
            [self.depths, np.broadcast_to(depths[:, None], members.shape)], axis=1
        )
        # A stable sort leaves who was known before a double of itself, and the double goes.
        order = np.argsort(far, axis=1, kind="stable")
        ordered = np.take_along_axis(everyone, order, axis=1)
        double = np.zeros(ordered.shape, dtype=np.bool_)
        double[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NOBODY)
        kept = np.argsort(double, axis=1, kind="stable")[:, :size]
        order = np.take_along_axis(order, kept, axis=1)
        gone = np.take_along_axis(double, kept, axis=1)
        self.members = np.where(gone, NOBODY, np.take_along_axis(everyone, order, axis=1))
        self.distances = np.where(gone, FARTHEST, np.take_along_axis(far, order, axis=1))
        self.asked = np.take_along_axis(asked, order, axis=1)
        self.depths = np.take_along_axis(depth, order, axis=1)

    def rows(self, keep: Flags) -> Shortlist:
        """Some of the lookups."""
        return Shortlist(
            self.members[keep], self.distances[keep], self.asked[keep], self.depths[keep]
        )

    def next(self) -> tuple[Indexes, Flags]:
        """Of each row the column of the closest who was not asked, and whether there is one."""
        open_ = ~self.asked & (self.members != NOBODY)
        return open_.argmax(axis=1), open_.any(axis=1)


@dataclass(frozen=True, slots=True)
class Ideal:
    """A network in which every bucket that can be full is full, of random nodes."""

    ids: Ids
    "Sorted."
    rng: np.random.Generator
    k: int = 16

    def known(self, targets: Ids, distances: Ids) -> tuple[Indexes, Ids]:
        """Whom a node at such a distance knows towards the target; FARTHEST is no node.

        Shape: (rows, k), with the members' own distances.
        """
        start, count = nearer_ranges(self.ids, targets, np.maximum(distances, np.uint64(1)))
        members = draw(start, np.where(distances == FARTHEST, 0, count), self.k, self.rng)
        return members, distances_to(self.ids, targets, members)

    def pairs(self, among: Indexes, rows: int) -> tuple[Ids, Ids]:
        """Starts and targets: random nodes of ``among``, never the same twice in a row."""
        targets = self.rng.integers(0, len(among), rows)
        starts = (targets + self.rng.integers(1, len(among), rows)) % len(among)
        return self.ids[among[starts]], self.ids[among[targets]]


@dataclass(frozen=True, slots=True)
class Lookups:
    """What a batch of lookups came to."""

    hops: Indexes
    "How many were asked, each learnt from the one before, the target as the last."
    asked: Indexes
    "How many were asked until then."


def lookups(network: Ideal, rows: int, *, alpha: int = 3) -> Lookups:
    """Iterative lookups, from random nodes for random other nodes of the network.

    Each round asks the ``alpha`` closest who were not asked; a lookup is over once it has learnt of
    its target, whom it then asks: 1 hop when the start has it in its own table.
    """
    starts, targets = network.pairs(np.arange(len(network.ids)), rows)
    known = Shortlist.empty(rows, network.k)
    known.merge(*network.known(targets, starts ^ targets), np.zeros(rows, dtype=np.int64))
    hops, asked = np.full(rows, -1, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    running = np.arange(rows)
    for _ in range(HOPS_MAX):
        reached = known.distances[:, 0] == 0
        hops[running[reached]] = known.depths[reached, 0] + 1
        running, targets, known = running[~reached], targets[~reached], known.rows(~reached)
        if not len(running):
            return Lookups(hops, asked)
        asked[running] += _round(network, targets, known, alpha)
    raise ArithmeticError(f"{len(running)} lookups of {rows} have not ended after {HOPS_MAX} hops")


def _round(network: Ideal, targets: Ids, known: Shortlist, alpha: int) -> Indexes:
    """Ask the closest of each row; how many were asked."""
    rows = np.arange(len(targets))
    asked = np.zeros(len(targets), dtype=np.int64)
    chosen = []
    for _ in range(alpha):
        column, there = known.next()
        known.asked[rows[there], column[there]] = True
        asked += there
        distances = np.where(there, known.distances[rows, column], FARTHEST)
        chosen.append((distances, known.depths[rows, column] + 1))
    for distances, depths in chosen:
        known.merge(*network.known(targets, distances), depths)
    return asked


def bits_per_hop(network: Ideal, rows: int) -> float:
    """The mean number of bits by which a hop comes closer, when each asks only the closest.

    Measured where buckets are full, after a first hop: before it the distance is uniform, and not
    what a hop leaves.
    """
    targets = network.rng.integers(0, 1 << BITS, rows, dtype=np.uint64)
    distances = network.rng.integers(1, 1 << BITS, rows, dtype=np.uint64)
    gained, hops = 0.0, 0
    for hop in range(HOPS_MAX):
        members, far = network.known(targets, distances)
        full = (members != NOBODY).all(axis=1)
        if not full.any():
            break
        nearer = np.maximum(far[full].min(axis=1), np.uint64(1))
        if hop:
            gained += float(np.log2(distances[full].astype(float) / nearer.astype(float)).sum())
            hops += len(nearer)
        targets, distances = targets[full], nearer
    return gained / hops


def replicas_left(
    k: int, hours: float, rows: int, rng: np.random.Generator, *, half_life_h: float = 1.0
) -> float:
    """The share of keys of which one of ``k`` holders is left, when half leave in a half-life."""
    lifetimes = rng.exponential(half_life_h / np.log(2), (rows, k))
    return float((lifetimes.max(axis=1) > hours).mean())
