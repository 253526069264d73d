"""How many hops a lookup takes: real code beside the model, and the model far beyond."""

from __future__ import annotations

from math import log2
from statistics import fmean

import numpy as np

from dp2p.coordinator.discovery.actions import Result
from dp2p.sim import model
from dp2p.sim.network import Weather
from dp2p.sim.nodes import World
from dp2p.sim.outcome import Bar, Experiment, Outcome, Plot, Run, Series

LOG2_K = 4
BITS_ABOVE_LOG2_K = 1.3327  # gained by a hop; Stutzbach and Rejaie, 2006
OVERLAP = 0.25  # hops between real code and the model
RLPX_HOPS = 6
CALM = Weather(loss=0.0)


def hops(run: Run) -> Outcome:
    """Lookups of real nodes in networks of growing size."""
    outcome, rng = Outcome(), np.random.default_rng(run.seed)
    sizes = run.pick([50, 200], [100, 300, 1000, 3000, 10_000])
    for number, size in enumerate(sizes):
        network = model.Ideal(model.random_ids(size, rng), rng)
        expected = float(model.lookups(network, run.pick(500, 4000)).hops.mean())
        results = lookups(run.seed + size, size, run.pick(40, 300))
        found = [one.hops for one, success in results if success]
        outcome.rows.append(
            {
                "nodes": size,
                "lookups": len(results),
                "succeeded": len(found),
                "hops_mean": fmean(found),
                "hops_max": max(found),
                "model_mean": expected,
                "asked_mean": fmean(one.asked for one, _ in results),
                "seconds_mean": fmean(one.seconds for one, _ in results),
            }
        )
        run.progress((number + 1) / len(sizes))
    _judge(outcome)
    return outcome


def _judge(outcome: Outcome) -> None:
    rows = outcome.rows
    for row in rows:
        size = row["nodes"]
        outcome.bars.append(
            Bar(
                f"hops of a lookup, mean, {size} nodes: real code, model {row['model_mean']:.2f}",
                row["hops_mean"],
                f"<= {max(1.0, log2(size) - LOG2_K):.1f} (log2 n - log2 k)",
                f"within {OVERLAP} of the model",
                abs(row["hops_mean"] - row["model_mean"]) <= OVERLAP,
            )
        )
    last = rows[-1]
    outcome.bars += [
        Bar.least(
            "lookups in a calm network that find their node", last["succeeded"] / last["lookups"], 1
        ),
        Bar.most(f"hops, at most, {last['nodes']} nodes", last["hops_max"], RLPX_HOPS, "6 (RLPx)"),
    ]
    sizes = [float(row["nodes"]) for row in rows]
    outcome.plots.append(
        Plot(
            "hops",
            "Hops of a lookup",
            "nodes",
            "hops",
            [
                Series("real code, mean", sizes, [row["hops_mean"] for row in rows]),
                Series("real code, most", sizes, [row["hops_max"] for row in rows], "points"),
                Series("model, mean", sizes, [row["model_mean"] for row in rows], "points"),
                Series("log2 n - log2 k", sizes, [log2(n) - LOG2_K for n in sizes], "dashed"),
            ],
            x_log=True,
        )
    )


def lookups(seed: int, size: int, count: int) -> list[tuple[Result, bool]]:
    """Lookups on one path between random nodes, and whether each found the node itself."""
    world = World(seed, CALM)
    world.fill(size)
    results = []
    for _ in range(count):
        one, target = world.random.sample(world.nodes, 2)
        result = world.lookup(one, target.contact.id, paths=1)
        results.append((result, result.contacts[:1] == (target.contact,)))
    return results


def hops_model(run: Run) -> Outcome:
    """The model, up to ten million nodes."""
    outcome, rng = Outcome(), np.random.default_rng(run.seed)
    sizes = run.pick([100, 10_000], [100, 1000, 10_000, 100_000, 1_000_000, 10_000_000])
    for number, size in enumerate(sizes):
        network = model.Ideal(model.random_ids(size, rng), rng)
        result = model.lookups(network, run.pick(500, 5000))
        outcome.rows.append(
            {
                "nodes": size,
                "hops_mean": float(result.hops.mean()),
                "hops_max": int(result.hops.max()),
                "asked_mean": float(result.asked.mean()),
            }
        )
        run.progress((number + 1) / len(sizes))
    for row in outcome.rows:
        bound = max(1.0, log2(row["nodes"]) - LOG2_K)
        outcome.bars.append(
            Bar.most(
                f"model: hops of a lookup, mean, {row['nodes']} nodes",
                row["hops_mean"],
                round(bound, 2) + 1,
                f"{bound:.1f} (log2 n - log2 k), and 1 to be answered",
            )
        )
    sizes_ = [float(size) for size in sizes]
    means = [row["hops_mean"] for row in outcome.rows]
    published = [max(1.0, 1 + (log2(n) - LOG2_K) / (LOG2_K + BITS_ABOVE_LOG2_K)) for n in sizes_]
    outcome.plots.append(
        Plot(
            "hops-model",
            "Hops of a lookup, model",
            "nodes",
            "hops, mean",
            [
                Series("model", sizes_, means),
                Series("1 + (log2 n - log2 k) / (log2 k + 1.3327)", sizes_, published, "dashed"),
            ],
            x_log=True,
        )
    )
    return outcome


def bits(run: Run) -> Outcome:
    """Bits that a hop gains, by the size of a bucket."""
    outcome, rng = Outcome(), np.random.default_rng(run.seed)
    ids = model.random_ids(run.pick(100_000, 10_000_000), rng)
    sizes = [4, 8, 16, 32]
    for number, k in enumerate(sizes):
        gained = model.bits_per_hop(model.Ideal(ids, rng, k), run.pick(4000, 50_000))
        formula = log2(k) + BITS_ABOVE_LOG2_K
        outcome.rows.append({"k": k, "bits": gained, "formula": formula})
        # The formula takes H(k) for ln k + 0.5772, which is 0.17 bits less at k = 4.
        outcome.bars.append(Bar.near(f"bits gained by a hop, k = {k}", gained, formula, 0.2))
        run.progress((number + 1) / len(sizes))
    ks = [float(k) for k in sizes]
    outcome.plots.append(
        Plot(
            "bits",
            "Bits gained by a hop",
            "k",
            "bits",
            [
                Series("model", ks, [row["bits"] for row in outcome.rows], "points"),
                Series("log2 k + 1.3327", ks, [row["formula"] for row in outcome.rows], "dashed"),
            ],
            x_log=True,
        )
    )
    return outcome


EXPERIMENTS = (
    Experiment("hops", "hops of lookups by real code, beside the model and log2 n", hops),
    Experiment("hops-model", "hops in ideal tables, up to ten million nodes", hops_model),
    Experiment("bits", "bits that a hop gains for k = 4 to 32", bits),
)
