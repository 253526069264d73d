"""The experiments, in the order in which they are listed, run and reported."""

from __future__ import annotations

from dp2p.sim.experiments import hops, paths
from dp2p.sim.outcome import Experiment

ALL: tuple[Experiment, ...] = (*hops.EXPERIMENTS, *paths.EXPERIMENTS)
BY_NAME = {one.name: one for one in ALL}
