"""Greedy forwarding over connected peers only, as a layer above would route."""

from __future__ import annotations

from math import log2

import numpy as np

from dp2p.coordinator import coverage
from dp2p.coordinator.discovery.contact import ID_BITS
from dp2p.sim.model import BITS, Ids, Indexes
from dp2p.sim.nodes import World
from dp2p.sim.outcome import Bar, Experiment, Outcome, Plot, Run, Series

CHOSEN = 24  # peers that each node picks; with those that pick it, about twice as many
BEYOND_LOG2 = 2
HOPS_MAX = 64
UNREACHED = -1


def greedy(run: Run) -> Outcome:
    """Each node connects to peers that coverage picks out of its table; then all is forwarded."""
    outcome = Outcome()
    sizes = run.pick([200], [1000, 10_000])
    for number, size in enumerate(sizes):
        world = World(run.seed)
        world.fill(size)
        ids, peers = connections(world)
        targets = np.arange(size)
        if size > 1000:
            targets = np.sort(world_sample(run.seed, size, 1000))
        hops = np.concatenate([forward(ids, peers, int(target)) for target in targets])
        degrees = (peers != peers[:, :1]).sum(axis=1) + 1
        pairs, reached = len(hops) - len(targets), hops[hops > 0]
        outcome.rows.append(
            {
                "nodes": size,
                "pairs": pairs,
                "reached": len(reached),
                "hops_mean": float(reached.mean()),
                "hops_max": int(reached.max()),
                "peers_mean": float(degrees.mean()),
                "distribution": np.bincount(reached).tolist(),
            }
        )
        bar = round(log2(size) + BEYOND_LOG2, 2)
        outcome.bars += [
            Bar.least(f"greedy: pairs reached of {pairs}, {size} nodes", len(reached) / pairs, 1),
            Bar.most(f"greedy: hops, most, {size} nodes", int(reached.max()), bar),
            Bar(
                f"greedy: hops, mean, {size} nodes",
                float(reached.mean()),
                f"{log2(size):.1f} (log2 n)",
            ),
        ]
        run.progress((number + 1) / len(sizes))
    series = []
    for row in outcome.rows:
        shares = [count / row["reached"] for count in row["distribution"]]
        series.append(
            Series(f"{row['nodes']} nodes", [float(h) for h in range(len(shares))], shares)
        )
    title = "Greedy forwarding over connected peers"
    outcome.plots.append(Plot("greedy", title, "hops", "share of pairs", series))
    outcome.notes.append(
        f"Each node picks {CHOSEN} peers of its table; a connection serves both of its ends."
    )
    return outcome


def world_sample(seed: int, size: int, count: int) -> Indexes:
    """Random nodes, as targets."""
    return np.random.default_rng(seed).choice(size, count, replace=False)


def connections(world: World) -> tuple[Ids, Indexes]:
    """Upper bits of the node-IDs, and the indexes of each one's peers.

    Rows are filled up with the node's first peer.
    """
    nodes = world.nodes
    index = {node.contact.key: number for number, node in enumerate(nodes)}
    sets: list[set[int]] = [set() for _ in nodes]
    for number, node in enumerate(nodes):
        known = ((one.id, one.key) for one in node.discovery.table.contacts())
        for key in coverage.choose(node.contact.id, known, CHOSEN):
            sets[number].add(index[key])
            sets[index[key]].add(number)
    peers = np.zeros((len(nodes), max(map(len, sets))), dtype=np.int64)
    for number, some in enumerate(sets):
        row = sorted(some)
        peers[number] = row[0]
        peers[number, : len(row)] = row
    ids = np.array([node.contact.id >> (ID_BITS - BITS) for node in nodes], dtype=np.uint64)
    return ids, peers


def forward(ids: Ids, peers: Indexes, target: int) -> Indexes:
    """Hops from every node to the target; 0 for itself, UNREACHED where forwarding ends before."""
    far = ids[peers] ^ ids[target]
    following = peers[np.arange(len(ids)), far.argmin(axis=1)]
    stuck = far.min(axis=1) >= (ids ^ ids[target])
    at = np.arange(len(ids))
    hops = np.full(len(ids), UNREACHED, dtype=np.int64)
    for hop in range(HOPS_MAX):
        hops[(at == target) & (hops == UNREACHED)] = hop
        at = np.where(stuck[at], at, following[at])
    return hops


EXPERIMENTS = (Experiment("greedy", "greedy forwarding over connected peers only", greedy),)
