"""Lookups while nodes come and go; what a network costs while it is left alone."""

from __future__ import annotations

from statistics import fmean

from dp2p.coordinator.discovery.actions import Result
from dp2p.coordinator.discovery.contact import Contact
from dp2p.sim.churn import Churn
from dp2p.sim.nodes import Node, World
from dp2p.sim.outcome import Bar, Experiment, Outcome, Plot, Run, Series

WANTED = {60: 0.99, 15: 0.98, 5: 0.95}  # success, by the median lifetime in minutes
SETTLED_S = 60.0  # since its start, and a node counts
MINUTE_S = 60.0
EVERY_S = 1.0  # a lookup


def churn(run: Run) -> Outcome:
    """Real joining, real stores, lossy packets, some NATs; lookups of live nodes by live nodes."""
    outcome = Outcome()
    size, lookups = run.pick(60, 500), run.pick(40, 500)
    for number, (median_min, least) in enumerate(WANTED.items()):
        world = World(run.seed + median_min)
        world.join(size, over_s=run.pick(30.0, 200.0), nat_share=0.2)
        world.run(run.pick(60.0, 300.0))
        churn = Churn(world, median_min * MINUTE_S)
        churn.begin()
        world.run(min(median_min, run.pick(1, 10)) * MINUTE_S)
        results = _watched(world, lookups)
        found = sum(success for success, _ in results)
        outcome.rows.append(
            {
                "median_minutes": median_min,
                "nodes": size,
                "lookups": len(results),
                "success": found / len(results),
                "stopped": churn.stopped,
                "failed_share": fmean(one.failed / max(1, one.asked) for _, one in results),
                "seconds_mean": fmean(one.seconds for _, one in results),
            }
        )
        outcome.bars.append(
            Bar.least(
                f"churn: lookups that succeed, median lifetime {median_min} min",
                found / len(results),
                least,
            )
        )
        run.progress((number + 1) / len(WANTED))
    minutes = [float(row["median_minutes"]) for row in outcome.rows]
    rates = [row["success"] for row in outcome.rows]
    outcome.plots.append(
        Plot(
            "churn",
            "Lookups of live nodes under churn",
            "median lifetime (min)",
            "success",
            [
                Series("real code", minutes, rates),
                Series("bar", [float(one) for one in WANTED], list(WANTED.values()), "dashed"),
            ],
        )
    )
    return outcome


def _watched(world: World, count: int) -> list[tuple[bool, Result]]:
    """Lookups, one after the other, that count when both nodes lived until the end."""
    results: list[tuple[bool, Result]] = []

    def begin() -> None:
        now = world.engine.now
        settled = [one for one in world.nodes if one.line.up and one.born + SETTLED_S <= now]
        served = [one for one in settled if not one.line.nat]
        asker, target = world.random.choice(settled), world.random.choice(served)
        born = target.born
        if asker is not target:
            asker.lookup(target.contact.id, lambda result: ended(result, target, born))

    def ended(result: Result, target: Node, born: float) -> None:
        if target.line.up and target.born == born:
            results.append((result.contacts[:1] == (target.contact,), result))

    for number in range(2 * count):
        world.engine.after(number * EVERY_S, begin)
    world.run(2 * count * EVERY_S + MINUTE_S, lambda: len(results) >= count)
    return results


def rest(run: Run) -> Outcome:
    """A network that joins for real, and is then left alone."""
    outcome = Outcome()
    size = run.pick(50, 500)
    world = World(run.seed)
    world.join(size, over_s=run.pick(30.0, 200.0), nat_share=0.2)
    rates: list[tuple[float, float]] = []
    minutes = run.pick(3, 60)
    world.run(run.pick(30.0, 200.0))
    joining = world.network.packets.total()
    for minute in range(minutes):
        before = world.network.packets.total()
        world.run(MINUTE_S)
        rates.append((minute + 1.0, (world.network.packets.total() - before) / size / MINUTE_S))
        run.progress((minute + 1) / minutes)
    tables = [len(node.discovery.table) for node in world.nodes]
    last = fmean(rate for _, rate in rates[-10:])
    outcome.rows.append(
        {
            "nodes": size,
            "packets_per_node_while_joining": joining / size,
            "packets_per_node_and_s": last,
            "table_mean": fmean(tables),
            "table_least": min(tables),
        }
    )
    outcome.bars += [
        Bar("packets of a node while all join", joining / size),
        Bar(f"packets per node and second, after {minutes} min", last),
        Bar(f"contacts in a table, mean, {size} nodes", fmean(tables)),
    ]
    outcome.plots.append(
        Plot(
            "rest",
            "Packets of a node that is left alone",
            "minutes since the last has joined",
            "packets per second",
            [Series("real code", [x for x, _ in rates], [y for _, y in rates])],
        )
    )
    return outcome


def join(run: Run) -> Outcome:
    """Everybody joins for real, each through three of those before it; then lookups."""
    outcome = Outcome()
    size, over_s = run.pick(80, 10_000), run.pick(40.0, 120.0)
    world = World(run.seed)
    world.join(size, over_s)
    for step in range(10):
        world.run((over_s + 20.0) / 10)
        run.progress((step + 1) / 11)
    tables = [len(node.discovery.table) for node in world.nodes]
    results: list[bool] = []
    count = run.pick(40, 300)

    def ended(result: Result, contact: Contact) -> None:
        results.append(result.contacts[:1] == (contact,))

    for _ in range(count):
        asker, target = world.random.sample(world.nodes, 2)
        contact = target.contact
        asker.lookup(contact.id, lambda result, contact=contact: ended(result, contact))  # type: ignore[misc]
    world.run(20.0, lambda: len(results) == count)
    success = sum(results) / count
    outcome.rows.append(
        {
            "nodes": size,
            "over_s": over_s,
            "table_mean": fmean(tables),
            "table_least": min(tables),
            "lookups": count,
            "success": success,
            "packets_per_node": world.network.packets.total() / size,
        }
    )
    outcome.bars += [
        Bar.least(f"{size} nodes joined in {over_s:g} s: lookups that succeed", success, 0.99),
        Bar.least("contacts in a table just after joining, least", min(tables), 16),
    ]
    return outcome


EXPERIMENTS = (
    Experiment("churn", "lookups while nodes come and go", churn),
    Experiment("rest", "packets of nodes that are left alone", rest),
    Experiment("join", "everybody joins for real, and finds everybody", join),
)
