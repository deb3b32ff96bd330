"""The plots of `lldeg flips`; they need matplotlib."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.reruns.summary import Entry
from jobs.text import figure_style as style
from jobs.text.format import temperature_text

PANELS_A_ROW = 3


def plot_files(report: Mapping[str, Any]) -> dict[str, bytes]:
    """The plots of a report that has reruns or temperatures, by the names of their files."""
    files: dict[str, bytes] = {}
    for draw in (success_histogram, temperature_curves):
        figure = draw(report)
        files |= {} if figure is None else style.figure_files(figure, draw.__name__)
    return files


def success_histogram(report: Mapping[str, Any]) -> Figure | None:
    """Share of items by number of successes, a panel for each variant and temperature with several runs.

    Returns:
        None where nothing was repeated.
    """
    cells = [cell for cell in report["cells"] if cell["task"] is None and cell["runs"] > 1]
    if not cells:
        return None
    columns = min(PANELS_A_ROW, len(cells))
    rows = -(-len(cells) // columns)
    with style.plot_style():
        figure = style.new_figure(max(style.WIDTH, 3.4 * columns), max(style.HEIGHT, 3.2 * rows))
        panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
        for axes, cell in zip(panels, cells, strict=False):
            counts, runs = np.array(cell["stability"]["histogram"]), cell["runs"]
            shares = 100 * counts / counts.sum()
            axes.bar([0, runs], shares[[0, -1]], color=style.COLOURS[0], label="never flips")
            flipping: Any = {"color": style.COLOURS[1], "hatch": "//", "edgecolor": "white", "label": "flips"}
            axes.bar(list(range(1, runs)), shares[1:-1], **flipping)
            axes.set_xticks(range(0, runs + 1, max(1, runs // 5)))
            axes.grid(visible=False, axis="x")
            title = f"{shorten(cell['variant'])}, T = {temperature_text(cell['temperature'])}"
            axes.set_title(f"{title}\n{shares[1:-1].sum():.0f} % flip")
        for axes in panels[len(cells) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("share of items (%)")
        for axes in panels[max(0, len(cells) - columns) : len(cells)]:
            axes.set_xlabel("runs that are right")
    return figure


def temperature_curves(report: Mapping[str, Any]) -> Figure | None:
    """Accuracy and, where there are reruns, their flip rate against temperature, with 95 % intervals.

    Returns:
        None where there are fewer than two temperatures.
    """
    accuracy = {name: curve for name, curve in _curves(report, "accuracy").items() if len(curve) > 1}
    if not accuracy:
        return None
    flip_rates = {name: curve for name, curve in _curves(report, "flip_rate").items() if curve}
    with style.plot_style():
        columns, width = (3, style.WIDE) if flip_rates else (2, style.WIDTH)
        figure = style.new_figure(width, style.HEIGHT + 0.25 * (len(accuracy) // columns))
        panels = figure.subplots(1, 2 if flip_rates else 1, sharex=True, squeeze=False)[0]
        _draw_curves(panels[0], accuracy, "right answers (%)")
        if flip_rates:
            _draw_curves(panels[1], flip_rates, "flips between runs (%)")
            panels[1].set_ylim(bottom=0)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(columns, len(accuracy)))
    return figure


def _curves(report: Mapping[str, Any], field: str) -> dict[str, dict[float, Entry]]:
    """An estimate by temperature, for each variant."""
    curves: dict[str, dict[float, Entry]] = {}
    for cell in report["curves"]:
        curve = curves.setdefault(cell["variant"], {})
        if cell["temperature"] is not None and cell[field] is not None:
            curve[cell["temperature"]] = cell[field]
    return curves


def _draw_curves(axes: Axes, curves: Mapping[str, Mapping[float, Entry]], label: str) -> None:
    width, colours, markers, dashes = 0.012 * len(curves), style.COLOURS, style.MARKERS, style.DASHES
    for number, (name, curve) in enumerate(curves.items()):
        low, middle, high = np.array([[e["low"], e["value"], e["high"]] for e in curve.values()]).T
        shift = width * (number / max(1, len(curves) - 1) - 0.5)  # so that intervals do not hide each other
        axes.errorbar(
            np.array(list(curve)) + shift,
            100 * middle,
            yerr=100 * np.array([middle - low, high - middle]),
            color=colours[number % len(colours)],
            marker=markers[(number + number // len(colours)) % len(markers)],
            linestyle=dashes[number // len(colours) % len(dashes)],
            capsize=3,
            label=shorten(name),
        )
    axes.set_xlabel("sampling temperature")
    axes.set_ylabel(label)


def shorten(name: str, length: int = 24) -> str:
    """A name that fits over a panel; matplotlib would read dollar signs as formulas."""
    text = name if len(name) <= length else f"…{name[-length + 1 :]}"
    return text.replace("$", r"\$")
