"""Plots as PNG. The only module that needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dp2p.sim.outcome import Plot, Series

SIZE_INCHES = 7.0, 4.5
DPI = 110
STYLES = {
    "line": {"linestyle": "-", "marker": "o", "markersize": 4},
    "points": {"linestyle": "", "marker": "x", "markersize": 8},
    "dashed": {"linestyle": "--", "marker": "", "markersize": 0},
}


def draw(plots: Iterable[Plot], directory: Path) -> None:
    """Write each plot to ``directory``, which must be there, as NAME.png."""
    for plot in plots:
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for series in plot.series:
            _add(axes, series)
        axes.set_title(plot.title)
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        axes.set_xscale("log" if plot.x_log else "linear")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
        # Without a date, so that the same figures give the same file.
        figure.savefig(directory / f"{plot.name}.png", metadata={"Software": None})


def _add(axes: Axes, series: Series) -> None:
    axes.plot(series.x, series.y, label=series.label, **STYLES[series.style])  # type: ignore[arg-type]
