"""Pictures of repeated answers: how often items are right, and what temperature does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.reruns.summary import CellSummary, FlipReport
from jobs.text.figure_style import COLOURS, DASHES, HEIGHT, MARKERS, WIDE, WIDTH, look, new_figure
from jobs.text.format import temperature_text
from stats.flips import Estimate

PANELS_A_ROW = 3


def success_histogram(report: FlipReport) -> Figure | None:
    """Share of items by number of successes, a panel for each variant and temperature with several runs.

    Returns:
        None where nothing was repeated.
    """
    cells = [cell for cell in report.cells if cell.task is None and cell.runs > 1]
    if not cells:
        return None
    columns = min(PANELS_A_ROW, len(cells))
    rows = -(-len(cells) // columns)
    with look():
        figure = new_figure(max(WIDTH, 3.4 * columns), max(HEIGHT, 3.2 * rows))
        panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
        for axes, cell in zip(panels, cells, strict=False):
            _histogram(axes, cell)
        for axes in panels[len(cells) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("share of items (%)")
        for axes in panels[max(0, len(cells) - columns) : len(cells)]:
            axes.set_xlabel("runs that are right")
    return figure


def _histogram(axes: Axes, cell: CellSummary) -> None:
    counts = cell.stability.histogram
    shares = 100 * counts / counts.sum()
    steady, flipping = COLOURS[0], COLOURS[1]
    inner = range(1, cell.runs)
    axes.bar([0, cell.runs], shares[[0, -1]], color=steady, label="never flips")
    axes.bar(list(inner), shares[1:-1], color=flipping, hatch="//", edgecolor="white", label="flips")
    axes.set_xticks(range(0, cell.runs + 1, max(1, cell.runs // 5)))
    axes.grid(visible=False, axis="x")
    axes.set_title(
        f"{shorten(cell.variant)}, T = {temperature_text(cell.temperature)}\n{shares[1:-1].sum():.0f} % flip"
    )


@dataclass(frozen=True)
class _Series:
    """One variant's line."""

    name: str
    temperatures: tuple[float, ...]
    estimates: tuple[Estimate, ...]


def temperature_curves(report: FlipReport) -> Figure | None:
    """Accuracy and, where there are reruns, their flip rate against temperature, with 95 % intervals.

    Returns:
        None where there are fewer than two temperatures.
    """
    accuracy = [s for s in _series(report, "accuracy") if len(s.temperatures) > 1]
    if not accuracy:
        return None
    flips = [s for s in _series(report, "flip_rate") if s.temperatures]
    with look():
        columns = 3 if flips else 2
        figure = new_figure(WIDE if flips else WIDTH, HEIGHT + 0.25 * (len(accuracy) // columns))
        panels = figure.subplots(1, 2 if flips else 1, sharex=True, squeeze=False)[0]
        _curves(panels[0], accuracy, "right answers (%)")
        if flips:
            _curves(panels[1], flips, "flips between runs (%)")
            panels[1].set_ylim(bottom=0)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(columns, len(accuracy)))
    return figure


def _series(report: FlipReport, field: str) -> list[_Series]:
    found = []
    for variant in dict.fromkeys(cell.variant for cell in report.curves):
        points = {c.temperature: getattr(c, field) for c in report.curves if c.variant == variant}
        known = {t: e for t, e in points.items() if t is not None and e is not None}
        found.append(_Series(variant, tuple(known), tuple(known.values())))
    return found


def _curves(axes: Axes, series: Sequence[_Series], label: str) -> None:
    width = 0.012 * len(series)
    for number, one in enumerate(series):
        middle = np.array([e.value for e in one.estimates])
        limits = np.array([[e.value - e.low, e.high - e.value] for e in one.estimates]).T
        shift = width * (number / max(1, len(series) - 1) - 0.5)  # so that intervals do not hide each other
        axes.errorbar(
            np.array(one.temperatures) + shift,
            100 * middle,
            yerr=100 * limits,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
            linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
            capsize=3,
            label=shorten(one.name),
        )
    axes.set_xlabel("sampling temperature")
    axes.set_ylabel(label)


def shorten(name: str, length: int = 24) -> str:
    """A name that fits over a panel; matplotlib would read dollar signs as formulas."""
    text = name if len(name) <= length else f"…{name[-length + 1 :]}"
    return text.replace("$", r"\$")
