"""Every experiment, small: its bars are held, and its figures are those of its seed."""

import json

import pytest

from dp2p.sim.experiments import ALL, BY_NAME
from dp2p.sim.outcome import Experiment, Run

SEED = 1


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(ALL)


@pytest.mark.timeout(300)  # eclipses take most; on a busy machine some minutes
@pytest.mark.parametrize("experiment", ALL, ids=[one.name for one in ALL])
def test_bars_are_held_at_reduced_size(experiment: Experiment) -> None:
    shares: list[float] = []
    outcome = experiment.run(Run(SEED, full=False, progress=shares.append))
    assert [bar for bar in outcome.bars if bar.held is False] == []
    assert outcome.bars
    assert outcome.rows
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1.0
    json.dumps(outcome.as_dict())
    for plot in outcome.plots:
        assert all(len(series.x) == len(series.y) > 0 for series in plot.series)


@pytest.mark.parametrize("name", ["crawl", "search", "paths-model"])
def test_the_same_seed_gives_the_same_figures(name: str) -> None:
    run = Run(SEED, full=False)
    assert BY_NAME[name].run(run).as_dict() == BY_NAME[name].run(run).as_dict()


def test_limits_keep_adversaries_out_of_the_table() -> None:
    rows = BY_NAME["eclipse"].run(Run(2, full=False)).rows
    shares = {(row["attack"], row["limits"]): row["table_hostile"] for row in rows}
    for attack in ("two hosts, many identities", "two /24s", "pings at boot"):
        assert shares[attack, True] < shares[attack, False]
