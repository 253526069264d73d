"""The experiments, in the order in which they are listed, run and reported."""

from __future__ import annotations

from dp2p.sim.experiments import churn, eclipse, greedy, hops, paths, protocols
from dp2p.sim.outcome import Experiment

ALL: tuple[Experiment, ...] = (
    *hops.EXPERIMENTS,
    *greedy.EXPERIMENTS,
    *paths.EXPERIMENTS,
    *churn.EXPERIMENTS,
    *eclipse.EXPERIMENTS,
    *protocols.EXPERIMENTS,
)
BY_NAME = {one.name: one for one in ALL}
