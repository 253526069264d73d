"""Lookups among adversaries, on one path and on several that share nobody."""

from __future__ import annotations

import numpy as np

from dp2p.sim import model_paths
from dp2p.sim.adversaries import Adversary, Coalition
from dp2p.sim.experiments.hops import CALM
from dp2p.sim.network import Line
from dp2p.sim.nodes import World
from dp2p.sim.outcome import Bar, Experiment, Outcome, Plot, Row, Run, Series

PATHS = (1, 2, 4, 8)
SHARES = tuple(share / 100 for share in range(0, 95, 5))
REAL_SHARES = tuple(share / 10 for share in range(10))
PUBLISHED = {
    0.2: {1: 0.705, 2: 0.899, 4: 0.989, 8: 0.999},
    0.5: {1: 0.343, 2: 0.528, 4: 0.736, 8: 0.897},
}
"""By share of adversaries and paths: S/Kademlia in its simple model, as CATALOGUE quotes it."""
IPFS_AT_HALF = "0.85 (IPFS, quoting S/Kademlia)"
MODEL_WITHIN = 0.03
WANTED = 0.99  # at 20 % on 8 paths


def paths_model(run: Run) -> Outcome:
    """The simple model: a path dies at its first adversary."""
    outcome, rng = Outcome(), np.random.default_rng(run.seed)
    shares = run.pick((0.2, 0.5), SHARES)
    for number, share in enumerate(shares):
        for paths in PATHS:
            rate = model_paths.success(share, paths, run.pick(3000, 10_000), rng)
            outcome.rows.append({"share": share, "paths": paths, "success": rate})
            if share in PUBLISHED:
                outcome.bars.append(
                    Bar.near(
                        f"simple model: success, {share:.0%} adversaries, {paths} paths",
                        rate,
                        PUBLISHED[share][paths],
                        MODEL_WITHIN,
                    )
                )
        run.progress((number + 1) / len(shares))
    outcome.plots.append(_plot("paths-model", "Success, simple model", outcome.rows))
    return outcome


def paths(run: Run) -> Outcome:
    """Real code: adversaries answer at once, and name only adversaries, those closest."""
    outcome = Outcome()
    shares, count = run.pick((0.2, 0.5), REAL_SHARES), run.pick(12, 100)
    world = World(run.seed, CALM)
    world.fill(run.pick(300, 10_000))
    for number, share in enumerate(shares):
        rates = _among(world, share, count)
        outcome.rows += [
            {"share": share, "paths": n, "success": rate, "asked_mean": asked}
            for n, (rate, asked) in rates.items()
        ]
        run.progress((number + 1) / len(shares))
    for row in outcome.rows:
        share, n = row["share"], row["paths"]
        what = f"real code: success, {share:.0%} adversaries, {n} paths"
        if share == 0.2:
            published = f"{PUBLISHED[share][n]:g} (simple model)"
            wanted = n == PATHS[-1]
            outcome.bars.append(
                Bar.least(what, row["success"], WANTED, published)
                if wanted
                else Bar(what, row["success"], published)
            )
        elif share == 0.5:
            published = f"{PUBLISHED[share][n]:g} (simple model)"
            published += f", {IPFS_AT_HALF}" if n == PATHS[-1] else ""
            outcome.bars.append(Bar(what, row["success"], published))
    outcome.plots.append(_plot("paths", "Success, real code", outcome.rows))
    return outcome


def _among(world: World, share: float, count: int) -> dict[int, tuple[float, float]]:
    """Success and how many were asked, by paths, with so many of the nodes turned hostile."""
    hostile = world.random.sample(world.nodes, round(share * len(world.nodes)))
    coalition = Coalition(node.contact for node in hostile)
    honest = [node for node in world.nodes if node.contact not in coalition]
    for node in hostile:
        line = Line(node.contact, node.line.spot)
        world.network.replace(Adversary(world.network, line, coalition))
    rates = {}
    for paths in PATHS:
        asked = found = 0
        for _ in range(count):
            one, target = world.random.sample(honest, 2)
            result = world.lookup(one, target.contact.id, paths)
            asked += result.asked
            found += result.contacts[:1] == (target.contact,)
        rates[paths] = found / count, asked / count
    for node in hostile:
        world.network.replace(node)
    return rates


def _plot(name: str, title: str, rows: list[Row]) -> Plot:
    series = []
    for paths in PATHS:
        mine = [row for row in rows if row["paths"] == paths]
        label = "1 path" if paths == 1 else f"{paths} paths"
        series.append(
            Series(label, [row["share"] for row in mine], [row["success"] for row in mine])
        )
        published = [(share, rates[paths]) for share, rates in PUBLISHED.items()]
        series.append(
            Series(
                f"{label}, published",
                [share for share, _ in published],
                [rate for _, rate in published],
                "points",
            )
        )
    return Plot(name, title, "share of adversaries", "success", series)


EXPERIMENTS = (
    Experiment("paths-model", "disjoint paths among adversaries, simple model", paths_model),
    Experiment("paths", "disjoint paths among adversaries, real code", paths),
)
