"""A run as a table for people and as JSON for machines: the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from load.bench.bars import Verdict
from load.bench.model import CASES, Group, Measurement, Settings
from load.bench.run import Results

COLOURS = {"pass": "green", "miss": "red", "not measured": "yellow"}


@dataclass(frozen=True, slots=True)
class Report:
    """Results with what is needed to read them."""

    command: str
    machine: dict[str, str]
    settings: Settings
    groups: tuple[Group, ...]
    results: Results

    def verdicts(self) -> list[Verdict]:
        """All bars that this run could have measured."""
        return self.results.verdicts(self.groups)


def number(value: float) -> str:
    """Three or four digits that mean something: 1,234,000 and 1,234 and 12.3 and 1.23."""
    if value >= 10_000:
        return f"{round(value, 3 - len(str(int(value)))):,.0f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def quantity(value: float | None, unit: str) -> str:
    """A number and its unit; a dash for what was not measured."""
    return "-" if value is None else f"{number(value)} {unit}"


# --- JSON --------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Plain values; ``rounds`` holds every round in order, ``values`` the medians."""
    return {
        "command": report.command,
        "machine": report.machine,
        "settings": {
            "seconds": report.settings.seconds,
            "rounds": report.settings.rounds,
            "quick": report.settings.quick,
            "groups": list(report.groups),
        },
        "measurements": [_measurement(one, report) for one in report.results.medians()],
        "bars": [_verdict(one) for one in report.verdicts()],
        "failed": report.results.failed,
        "unavailable": report.results.unavailable,
    }


def _measurement(one: Measurement, report: Report) -> dict[str, Any]:
    return {
        "name": one.name,
        "group": one.case.group,
        "case": one.case.name,
        "contender": one.contender,
        "values": dict(one.values),
        "rounds": [dict(each.values) for each in report.results.rounds[one.name]],
        "cost_by_process": dict(one.by_process),
        "note": one.note,
    }


def _verdict(one: Verdict) -> dict[str, Any]:
    return {
        "title": one.bar.title,
        "case": one.bar.case.name,
        "ours": one.ours,
        "against": {term.contender: term.weight for term in one.bar.against},
        "needed": ("at least " if one.bar.at_least else "at most ") + f"{one.bar.factor:g}",
        "ratio": one.ratio,
        "verdict": one.word,
        "missing": list(one.missing),
    }


# --- table --------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """Print everything."""
    console.print(f"[bold]{report.command}[/bold]")
    console.print(", ".join(f"{key} {value}" for key, value in report.machine.items()))
    console.print(_figures(report))
    console.print(_bars(report.verdicts()))
    for title, texts in (
        ("failed", report.results.failed),
        ("not measured", report.results.unavailable),
    ):
        for name, text in texts.items():
            console.print(f"{title}: {name}: {text}", markup=False)


def _figures(report: Report) -> Table:
    """One block per case, best first; CPU counts all processes of the contender."""
    measurements = report.results.medians()
    settings = report.settings
    caption = (
        f"medians of {settings.rounds} rounds of {settings.seconds:g} s, each figure by itself"
    )
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    table.add_column("contender", no_wrap=True)
    for column in ("figure", "of best", "cost"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("cost by process")
    table.add_column("note")
    for case in CASES:
        rows = [one for one in measurements if one.case is case]
        rows.sort(key=lambda one: one.values[one.case.rate], reverse=case.more_is_better)
        for place, one in enumerate(rows):
            if place == 0:
                table.add_row(f"[bold]{case.title}[/bold]")
            table.add_row(*_row(one, rows[0]), end_section=one is rows[-1])
    return table


def _row(one: Measurement, best: Measurement) -> tuple[str, ...]:
    unit, cost = one.case.rate, one.case.cost
    parts = ", ".join(f"{role} {number(value)}" for role, value in one.by_process.items())
    return (
        f"  {one.contender}",
        quantity(one.values[unit], unit),
        f"{one.values[unit] / best.values[unit]:.2f}",
        quantity(one.values.get(cost), cost) if cost else "",
        parts,
        one.note,
    )


def _bars(verdicts: Sequence[Verdict]) -> Table:
    """Ratio, what is needed, and the word."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("bar", "case", "ours"):
        table.add_column(column, no_wrap=True)
    for column in ("ratio", "needed"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for one in verdicts:
        unit = "" if one.bar.against else f" {one.bar.case.rate}"
        sign = "≥" if one.bar.at_least else "≤"
        table.add_row(
            one.bar.title,
            one.bar.case.title,
            one.ours or "-",
            "-" if one.ratio is None else f"{one.ratio:.2f}{unit}",
            f"{sign} {one.bar.factor:g}{unit}",
            f"[{COLOURS[one.word]}]{one.word}[/]",
        )
    return table
