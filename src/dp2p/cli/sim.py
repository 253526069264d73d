"""``dp2p sim``: experiments with networks in virtual time."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dp2p.cli.text import table
from dp2p.errors import Dp2pError

if TYPE_CHECKING:
    from rich.progress import Progress

    from dp2p.sim.outcome import Bar, Outcome

Ended = tuple[str, "Outcome", float]
"An experiment's name, what it measured, and the seconds that it took."
SIZES = ("small", "full")
NEEDS = ("numpy", "matplotlib")
SELDOM = 200_000, 20, 100  # garbage is looked for among millions of objects that are none
STEPS = 1000  # of a progress bar


class NotInstalledError(Dp2pError):
    """What only simulations need is missing."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listed", is_flag=True, help="List the experiments, and run none.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same figures.")
@click.option(
    "--size",
    type=click.Choice(SIZES),
    default="full",
    show_default=True,
    help="full takes an hour of one core, small about two minutes.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, help="Processes.  [default: 1]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write report.md, results.json and plots there. Results of other experiments, of the "
    "same seed and size, are kept.",
)
@click.option(
    "--into",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="Put the report between the marks of this Markdown file as well; needs --out.",
)
def sim(
    *,
    names: tuple[str, ...],
    listed: bool,
    seed: int,
    size: str,
    jobs: int,
    out: Path | None,
    into: Path | None,
) -> int:
    """Run experiments with the coordinator's own discovery in virtual time.

    Without a NAME all are run. Each figure is shown beside what others published and the bar that
    it is held to. Nothing of it touches the network.

    Exits with 1 when a bar is missed.

    \b
    Examples:
      dp2p sim --list
      dp2p sim --size small
      dp2p sim hops paths --seed 7 --out build/sim
    """
    check_installed()
    from dp2p.sim.experiments import ALL, BY_NAME

    if listed:
        click.echo(table(("NAME", "MEASURES"), [(one.name, one.says) for one in ALL]))
        return 0
    if unknown := [name for name in names if name not in BY_NAME]:
        raise click.BadParameter(f"no experiment {', '.join(unknown)}; --list shows all")
    if into is not None and out is None:
        raise click.UsageError("--into needs --out, where the pictures go")
    chosen = [one.name for one in ALL if not names or one.name in names]
    held = run_all(chosen, (seed, size), jobs, (out, into))
    return 0 if held else 1


def check_installed() -> None:
    """Raises: NotInstalledError, which says how to get what is missing."""
    for module in NEEDS:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise NotInstalledError(
                f"simulations need {module}: install dp2p with its extra, dp2p[sim]"
            ) from None


def run_all(
    names: Sequence[str],
    what: tuple[int, str],
    jobs: int,
    where: tuple[Path | None, Path | None],
) -> bool:
    """Run experiments, print their figures and write the report; whether all bars were held."""
    from dp2p.sim.experiments import ALL
    from dp2p.sim.report import Report

    (seed, size), (out, into) = what, where
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    report = Report.resumed(out, size, seed) if out is not None else None
    held = True
    for name, outcome, seconds in run_some(names, seed, size == "full", jobs):
        held &= outcome.held
        click.echo(f"\n{name} ({seconds:.0f} s)\n{figures(outcome.bars)}")
        if report is not None and out is not None:
            from dp2p.sim.plots import draw

            draw(outcome.plots, out)
            report.add(name, outcome, seconds)
            report.write(out, [one.name for one in ALL], into)  # what is done outlives Ctrl-C
    return held


def figures(bars: Sequence[Bar]) -> str:
    """Bars as columns."""
    held = {True: "held", False: "MISSED", None: ""}
    return table(
        ("FIGURE", "MEASURED", "PUBLISHED", "BAR", ""),
        [(one.what, f"{one.measured:.4g}", one.published, one.bar, held[one.held]) for one in bars],
    )


def run_some(names: Sequence[str], seed: int, full: bool, jobs: int) -> Iterator[Ended]:
    """Run experiments one after the other, or in several processes; with progress."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        if jobs == 1 or len(names) == 1:
            for name in names:
                yield run_one(name, seed, full, progress)
            return
        bar = progress.add_task("experiments", total=len(names))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            pending = [pool.submit(run_one, name, seed, full, None) for name in names]
            for future in as_completed(pending):
                progress.advance(bar)
                yield future.result()


def run_one(name: str, seed: int, full: bool, progress: Progress | None) -> Ended:
    """One experiment."""
    from dp2p.sim.experiments import BY_NAME
    from dp2p.sim.outcome import Run

    gc.set_threshold(*SELDOM)
    began = time.monotonic()
    if progress is None:
        outcome = BY_NAME[name].run(Run(seed, full))
    else:
        bar = progress.add_task(name, total=STEPS)
        outcome = BY_NAME[name].run(
            Run(seed, full, lambda done: progress.update(bar, completed=done * STEPS))
        )
        progress.remove_task(bar)
    return name, outcome, time.monotonic() - began
