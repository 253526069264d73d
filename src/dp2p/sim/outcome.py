"""What an experiment hands back: bars, rows, and what is plotted of them. Plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure, beside what others published and what we want of it."""

    what: str
    measured: float
    published: str = ""
    bar: str = ""
    held: bool | None = None
    "None: it has no bar."

    @classmethod
    def least(cls, what: str, measured: float, least: float, published: str = "") -> Bar:
        """It is to be ``least`` or more."""
        return cls(what, measured, published, f">= {least:g}", measured >= least)

    @classmethod
    def most(cls, what: str, measured: float, most: float, published: str = "") -> Bar:
        """It is to be ``most`` or less."""
        return cls(what, measured, published, f"<= {most:g}", measured <= most)

    @classmethod
    def near(cls, what: str, measured: float, published: float, within: float) -> Bar:
        """It is to be what was published, give or take."""
        held = abs(measured - published) <= within
        return cls(what, measured, f"{published:g}", f"within {within:g}", held)


@dataclass(frozen=True, slots=True)
class Series:
    """Points of a plot. ``style``: a line, points, or a dashed line for what others published."""

    label: str
    x: list[float]
    y: list[float]
    style: str = "line"


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture."""

    name: str
    "Of the file, without its ending."
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    x_log: bool = False


@dataclass(slots=True)
class Outcome:
    """All of one experiment."""

    bars: list[Bar] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether no bar was missed."""
        return all(bar.held is not False for bar in self.bars)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "bars": [asdict(bar) for bar in self.bars],
            "rows": self.rows,
            "notes": self.notes,
        }


def _silent(_done: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Run:
    """How an experiment is to be run."""

    seed: int
    full: bool
    "As the report has it; else a small one, for tests."
    progress: Callable[[float], None] = _silent
    "Hears the share that is done."

    def pick(self, small: T, full: T) -> T:
        """One or the other."""
        return full if self.full else small


@dataclass(frozen=True, slots=True)
class Experiment:
    """One of the list."""

    name: str
    says: str
    "What it measures, in a line."
    run: Callable[[Run], Outcome]
