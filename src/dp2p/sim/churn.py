"""Nodes that come and go: lifetimes, restarts, newcomers."""

from __future__ import annotations

from math import log

from dp2p.coordinator.discovery.contact import Contact
from dp2p.sim.nodes import Node, World

RESTART_SHARE = 0.5  # of those that stop: they come back with their key; others are replaced
STORE_SHARE = 0.5  # of those that come back: they still have their store
AWAY_S = 60.0  # until one comes back
STORED_MAX = 64  # contacts in a store


class Churn:
    """Keeps the number of a world's nodes, while none lives for ever.

    Lifetimes are exponential, so that a node's age says nothing about how long it still has.
    """

    def __init__(self, world: World, median_s: float) -> None:
        self._world = world
        self._rate = log(2) / median_s
        self.stopped = 0

    def begin(self) -> None:
        """From now on all nodes are mortal."""
        for node in list(self._world.nodes):
            self._lives(node)

    def _lives(self, node: Node) -> None:
        world = self._world
        world.engine.after(world.random.expovariate(self._rate), self._stop, node)

    def _stop(self, node: Node) -> None:
        world = self._world
        self.stopped += 1
        stored = node.discovery.table.contacts()
        node.stop()
        if world.random.random() < RESTART_SHARE:
            kept = world.random.random() < STORE_SHARE
            world.engine.after(AWAY_S, self._restart, node, stored[:STORED_MAX] if kept else [])
            return
        world.forget(node)
        newcomer = world.add(nat=node.line.nat)
        newcomer.candidates(world.bootstraps(world.nodes, newcomer))
        self._lives(newcomer)

    def _restart(self, node: Node, stored: list[Contact]) -> None:
        node.start(stored or self._world.bootstraps(self._world.nodes, node))
        self._lives(node)
