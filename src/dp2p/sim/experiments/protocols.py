"""Searches by protocol, Sybils around an identifier, crawls, and how long a key is kept."""

from __future__ import annotations

from itertools import count
from statistics import fmean

import numpy as np

from dp2p.coordinator.discovery.actions import Settings
from dp2p.coordinator.discovery.bucket import UNLIMITED, NetworkLimits
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import topic
from dp2p.sim import model
from dp2p.sim.adversaries import Adversary, Coalition
from dp2p.sim.crawler import Crawler
from dp2p.sim.nodes import PORT, Node, World
from dp2p.sim.outcome import Bar, Experiment, Outcome, Run

PROTOCOL = "rare"
PROVIDERS = 3
SYBILS = 8, 64
PLACING_S = 300.0  # for adverts to be placed
SEARCH_MESSAGES = ("FindProtocol", "Providers", "AskRecord", "RecordIs")


def search(run: Run) -> Outcome:
    """A protocol that three nodes serve."""
    outcome = Outcome()
    sizes, searches = run.pick([100], [100, 1000, 10_000]), run.pick(15, 100)
    for number, size in enumerate(sizes):
        world = World(run.seed)
        world.fill(size)
        _advertise(world)
        before = sum(world.network.packets[kind] for kind in SEARCH_MESSAGES)
        found, seconds = _search(world, searches)
        messages = sum(world.network.packets[kind] for kind in SEARCH_MESSAGES) - before
        everybody = sum(len(one) == PROVIDERS for one in found)
        some = sum(bool(one) for one in found)
        outcome.rows.append(
            {
                "nodes": size,
                "searches": searches,
                "found_any": some / searches,
                "found_all": everybody / searches,
                "messages": messages / searches,
                "seconds_mean": seconds,
            }
        )
        outcome.bars += [
            Bar.least(f"rare protocol, {size} nodes: searches that find it", some / searches, 0.99),
            Bar(f"rare protocol, {size} nodes: messages of a search", messages / searches),
        ]
        run.progress((number + 1) / len(sizes))
    return outcome


def _advertise(world: World) -> list[Node]:
    providers = world.random.sample(world.nodes, PROVIDERS)
    for node in providers:
        node.passive = False
        node.candidates([one.contact for one in world.random.sample(world.nodes, 3)])
        node.serve([PROTOCOL])
    world.run(PLACING_S)
    for node in providers:
        node.passive = True
    return providers


def _search(world: World, searches: int) -> tuple[list[tuple[Contact, ...]], float]:
    found: list[tuple[Contact, ...]] = []
    seconds = []
    for number in range(searches):
        began = world.engine.now
        node = world.random.choice(world.nodes)
        node.search(PROTOCOL, PROVIDERS, found.append)
        world.run(300.0, lambda number=number: len(found) > number)  # type: ignore[misc]
        node.passive = True
        seconds.append(world.engine.now - began)
    return found, fmean(seconds)


def sybils(run: Run) -> Outcome:
    """Identities made to be closest to a protocol, which take adverts and hand out none."""
    outcome = Outcome()
    size, searches = run.pick(100, 1000), run.pick(15, 100)
    plans = [(many, paths, on) for many in SYBILS for on in (False, True) for paths in (1, 8)]
    for number, (many, paths, on) in enumerate(plans):
        limits = NetworkLimits() if on else UNLIMITED
        world = World(run.seed, settings=Settings(paths=paths, limits=limits))
        world.fill(size)
        coalition = _surround(world, many)
        _advertise(world)
        found, _ = _search(world, searches)
        rate = sum(any(one not in coalition for one in some) for some in found) / searches
        state = "limits on" if on else "limits off"
        what = f"{many} Sybils around a protocol, {paths} paths, {state}: searches that find it"
        published = "0 (KAD, Steiner 2007)" if many == SYBILS[0] else ""
        wanted = many == SYBILS[0] and paths > 1 and on
        outcome.rows.append({"sybils": many, "paths": paths, "limits": on, "found": rate})
        outcome.bars.append(
            Bar.least(what, rate, 0.99, published) if wanted else Bar(what, rate, published)
        )
        run.progress((number + 1) / len(plans))
    return outcome


def _surround(world: World, many: int) -> Coalition:
    """Sybils in one /24, known to every honest table that takes them."""
    target = int.from_bytes(topic(PROTOCOL), "big")
    closest = min(node.contact.id ^ target for node in world.nodes)
    network = world.free_network()
    made: list[Contact] = []
    for host in count(1):
        if len(made) == many:
            break
        place = world.contact(network, host).place[0]
        while True:
            one = Contact(world.random.randbytes(32), (place, PORT))
            if one.id ^ target < closest:
                made.append(one)
                break
    coalition = Coalition(made)
    for one in made:
        world.network.add(Adversary(world.network, world.line(one), coalition))
    for node in world.nodes:
        for one in made:
            node.discovery.table.answered(one, world.engine.now)
    return coalition


def crawl(run: Run) -> Outcome:
    """One node asks everybody for everybody."""
    outcome = Outcome()
    size = run.pick(150, 3000)
    world = World(run.seed)
    world.fill(size)
    crawler = Crawler(world.nodes[0])
    crawler.begin()
    world.run(3600.0, lambda: crawler.done)
    run.progress(1.0)
    share = len(crawler.answered) / (size - 1)
    outcome.rows.append(
        {"nodes": size, "found": share, "seconds": world.engine.now, "questions": crawler.asked}
    )
    outcome.bars += [
        Bar.least(f"crawl of {size} nodes: share that is found", share, 0.99),
        Bar.most("crawl: seconds", world.engine.now, 480, "480 (KAD, Steiner 2007)"),
    ]
    return outcome


def keep(run: Run) -> Outcome:
    """How long one of k holders is there, when half of all nodes leave each hour."""
    outcome, rng = Outcome(), np.random.default_rng(run.seed)
    rows = run.pick(20_000, 1_000_000)
    for k in (1, 2, 4, 8):
        kept = model.replicas_left(k, 1.0, rows, rng)
        outcome.rows.append({"k": k, "kept": kept})
        published = 1 - 2.0**-k
        outcome.bars.append(Bar.near(f"key kept 1 h by {k} holders", kept, published, 0.01))
    run.progress(1.0)
    return outcome


EXPERIMENTS = (
    Experiment("search", "searches for a protocol that three nodes serve", search),
    Experiment("sybils", "identities made to be closest to a protocol", sybils),
    Experiment("crawl", "a crawl of the whole network", crawl),
    Experiment("keep", "how long one of k holders of a key is there", keep),
)
