"""Lookups over disjoint paths among adversaries, in ideal static tables.

Source: S/Kademlia (2007), section 4.4, in its simplest form: a path asks one node at a time and
dies at its first adversary, and a lookup succeeds when a path learns of its target.
"""

from __future__ import annotations

import numpy as np

from dp2p.sim.model import (
    FARTHEST,
    HOPS_MAX,
    NOBODY,
    Flags,
    Ideal,
    Shortlist,
    random_ids,
)

NODES = 10_000


class Paths:
    """A batch of lookups from honest nodes for honest nodes, over so many paths each."""

    def __init__(self, network: Ideal, hostile: Flags, paths: int, rows: int) -> None:
        self._network = network
        self._hostile = hostile
        starts, self._targets = network.pairs(np.flatnonzero(~hostile), rows)
        self._alive = np.ones((rows, paths), dtype=np.bool_)
        self._used = np.full((rows, 0), NOBODY, dtype=np.int64)
        "Who was asked on any path."
        self._zeros = np.zeros(rows, dtype=np.int64)
        first = Shortlist.empty(rows, network.k)
        first.merge(*network.known(self._targets, starts ^ self._targets), self._zeros)
        self.found: Flags = first.distances[:, 0] == 0
        self._known = [self._dealt(first, slice(path, None, paths)) for path in range(paths)]

    def _dealt(self, first: Shortlist, columns: slice) -> Shortlist:
        known = Shortlist.empty(len(self._targets), self._network.k)
        known.merge(first.members[:, columns], first.distances[:, columns], self._zeros)
        return known

    def run(self) -> None:
        """Let each path ask in its turn, until it is dead or the lookup has succeeded."""
        for _ in range(HOPS_MAX):
            for path in range(len(self._known)):
                self._ask(path)
            if not (self._alive.any(axis=1) & ~self.found).any():
                return

    def _ask(self, path: int) -> None:
        known, rows = self._known[path], np.arange(len(self._targets))
        known.asked |= (known.members[:, :, None] == self._used[:, None, :]).any(axis=2)
        column, there = known.next()
        asks = self._alive[:, path] & ~self.found & there
        chosen = np.where(asks, known.members[rows, column], NOBODY)
        self._used = np.concatenate([self._used, chosen[:, None]], axis=1)
        asks &= ~self._hostile[np.where(asks, chosen, 0)]
        self._alive[:, path] = asks
        distances = np.where(asks, known.distances[rows, column], FARTHEST)
        members, far = self._network.known(self._targets, distances)
        known.merge(members, far, self._zeros)
        self.found |= far.min(axis=1) == 0


def success(
    share: float, paths: int, rows: int, rng: np.random.Generator, *, nodes: int = NODES
) -> float:
    """The share of lookups that succeed when ``share`` of the nodes are adversaries."""
    hostile = np.zeros(nodes, dtype=np.bool_)
    hostile[rng.choice(nodes, round(share * nodes), replace=False)] = True
    lookups = Paths(Ideal(random_ids(nodes, rng), rng), hostile, paths, rows)
    lookups.run()
    return float(lookups.found.mean())
