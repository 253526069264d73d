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
    Ids,
    Indexes,
    Shortlist,
    distances_to,
    draw,
    nearer_ranges,
)


def success(
    ids: Ids, share: float, paths: int, rows: int, rng: np.random.Generator, *, k: int = 16
) -> float:
    """The share of lookups that succeed, from honest nodes for honest nodes.

    ``share`` of the nodes are adversaries. The start deals the ``k`` whom it knows closest to its
    target to the paths, and no node is asked on two of them.
    """
    hostile = np.zeros(len(ids), dtype=np.bool_)
    hostile[rng.choice(len(ids), round(share * len(ids)), replace=False)] = True
    honest = np.flatnonzero(~hostile)
    targets = ids[rng.choice(honest, rows)]
    starts = ids[rng.choice(honest, rows)]
    same = starts == targets
    starts[same] = ids[honest[(np.searchsorted(ids[honest], targets[same]) + 1) % len(honest)]]
    found, known = _deal(ids, targets, starts ^ targets, paths, k, rng)
    alive = np.ones((rows, paths), dtype=np.bool_)
    used = np.full((rows, paths * HOPS_MAX), NOBODY, dtype=np.int64)
    for step in range(HOPS_MAX):
        for path in range(paths):
            column = step * paths + path
            open_ = alive[:, path] & ~found
            found |= _step(ids, targets, known[path], open_, hostile, used, column, k, rng)
            alive[:, path] = open_
        if not (alive.any(axis=1) & ~found).any():
            break
    return float(found.mean())


def _deal(
    ids: Ids, targets: Ids, distances: Ids, paths: int, k: int, rng: np.random.Generator
) -> tuple[Flags, list[Shortlist]]:
    """Whom each start knows itself, dealt in turn; and whether its target was among them."""
    start, count = nearer_ranges(ids, targets, distances)
    first = Shortlist.empty(len(targets), k)
    zeros = np.zeros(len(targets), dtype=np.int64)
    members = draw(start, count, k, rng)
    first.merge(members, distances_to(ids, targets, members), zeros)
    found: Flags = first.distances[:, 0] == 0
    lists = []
    for path in range(paths):
        known = Shortlist.empty(len(targets), k)
        dealt = slice(path, None, paths)
        known.merge(first.members[:, dealt], first.distances[:, dealt], zeros)
        lists.append(known)
    return found, lists


def _step(
    ids: Ids,
    targets: Ids,
    known: Shortlist,
    open_: Flags,
    hostile: Flags,
    used: Indexes,
    column: int,
    k: int,
    rng: np.random.Generator,
) -> Flags:
    """One path of each lookup asks once. Leaves in ``open_`` which go on; which found their target."""
    rows = np.arange(len(targets))
    known.asked |= (known.members[:, :, None] == used[:, None, :column]).any(axis=2)
    place, there = known.next()
    open_ &= there
    chosen = known.members[rows, place]
    open_ &= ~hostile[np.where(there, chosen, 0)]
    # Whoever was asked, adversaries too, is not asked again on another path.
    used[:, column] = np.where(there, chosen, NOBODY)
    distances = np.where(open_, known.distances[rows, place], np.uint64(1))
    start, count = nearer_ranges(ids, targets, distances)
    members = draw(start, np.where(open_, count, 0), k, rng)
    nearer = distances_to(ids, targets, members)
    known.merge(members, nearer, np.zeros(len(targets), dtype=np.int64))
    found: Flags = open_ & (nearer.min(axis=1, initial=FARTHEST) == 0)
    return found
