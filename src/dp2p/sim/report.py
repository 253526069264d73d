"""The report: each figure beside what was published and our bar, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dp2p.errors import Dp2pError
from dp2p.sim.outcome import Outcome

DATA = "results.json"
REPORT = "report.md"
BEGIN, END = "<!-- begin: dp2p sim -->", "<!-- end: dp2p sim -->"
HELD = {True: "yes", False: "**no**", None: ""}


class ReportError(Dp2pError):
    """A report cannot be written where it was asked for."""


@dataclass(slots=True)
class Report:
    """What was run, by the experiments' names."""

    size: str
    seed: int
    machine: str
    results: dict[str, dict[str, Any]]
    "As they stand in the JSON."

    @classmethod
    def resumed(cls, directory: Path, size: str, seed: int) -> Report:
        """With the results that stand in ``directory`` already, if they are of the same size and
        seed.
        """
        report = cls(size, seed, machine(), {})
        try:
            data = json.loads((directory / DATA).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return report
        except (OSError, ValueError) as error:
            raise ReportError(f"{directory / DATA}: {error}") from error
        if (data.get("size"), data.get("seed")) == (size, seed):
            report.results.update(data["results"])
        return report

    def add(self, name: str, outcome: Outcome, seconds: float) -> None:
        """One experiment has ended, after so many seconds."""
        plots = [[plot.name, plot.title] for plot in outcome.plots]
        self.results[name] = {
            **outcome.as_dict(),
            "plots": plots,
            "machine": self.machine,
            "seconds": round(seconds, 1),
        }

    def write(self, directory: Path, order: Iterable[str], into: Path | None) -> None:
        """JSON and Markdown to ``directory``, and between the marks of the file ``into``.

        Raises: ReportError when it has no marks.
        """
        self.results = {name: self.results[name] for name in order if name in self.results}
        data = {"size": self.size, "seed": self.seed, "results": self.results}
        text = json.dumps(data, indent=1, sort_keys=True)
        (directory / DATA).write_text(text + "\n", encoding="utf-8")
        (directory / REPORT).write_text("# Simulation\n\n" + self.markdown(""), encoding="utf-8")
        if into is not None:
            prefix = os.path.relpath(directory, into.parent) + "/"
            into.write_text(
                between(into.read_text(encoding="utf-8"), self.markdown(prefix), into),
                encoding="utf-8",
            )

    def markdown(self, prefix: str) -> str:
        """The report's text; pictures stand at ``prefix``."""
        seconds = sum(one["seconds"] for one in self.results.values())
        machines = sorted({one["machine"] for one in self.results.values()})
        ran = f"{len(self.results)} experiments, size {self.size}, seed {self.seed}"
        lines = [
            f"{ran}, {seconds:.0f} seconds on {'; '.join(machines)}.",
            "",
            "| figure | measured | published | bar | held |",
            "|---|---|---|---|---|",
        ]
        for one in self.results.values():
            lines += [_row(bar) for bar in one["bars"]]
        for name, one in self.results.items():
            if not (one["notes"] or one["plots"]):
                continue
            lines += ["", f"**{name}** ({one['seconds']:g} s)"]
            lines += ["", *one["notes"]] if one["notes"] else []
            lines += ["", *(f"![{title}]({prefix}{plot}.png)" for plot, title in one["plots"])]
        return "\n".join(lines).rstrip() + "\n"


def _row(bar: Mapping[str, Any]) -> str:
    cells = [bar["what"], f"{bar['measured']:.4g}", bar["published"], bar["bar"], HELD[bar["held"]]]
    return f"| {' | '.join(cells)} |"


def between(text: str, new: str, name: Path) -> str:
    """``text`` with ``new`` between its two marks.  Raises: ReportError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ReportError(f"{name}: a report goes between the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{new}{END}{after}"


def machine() -> str:
    """Processor, cores and Python, as a reader needs them to compare runs."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    cpu = next(models, platform.processor() or "unknown processor")
    cores = os.cpu_count()
    return f"{cpu}, {cores} cores, {platform.system()}, Python {platform.python_version()}"
