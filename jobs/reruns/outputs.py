"""What `lldeg flips` leaves: tables on a terminal, counts for other programs, and pictures.

In tables ± is half of a 95 % interval; in files rates are shares and never rounded.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from jobs.reruns.summary import CellSummary, FlipReport
from jobs.scores.rerun_set import RerunSet
from jobs.text.figure_style import (
    COLOURS,
    DASHES,
    FORMATS,
    HEIGHT,
    MARKERS,
    WIDE,
    WIDTH,
    figure_files,
    new_figure,
    plot_style,
)
from jobs.text.format import clean, temperature_text
from jobs.text.terminal import plain_table
from orchestrator.rundir.whole_files import FileSet
from stats.flips import Churn, Estimate

PLOTS = ("success_histogram", "temperature_curves")
PANELS_A_ROW = 3


def print_flips(report: FlipReport, console: Console, *, by_task: bool) -> None:
    """Show the summary.

    Args:
        report: what to show.
        console: where.
        by_task: whether to show each task too, not only all together.
    """
    for warning in report.warnings:
        console.print(Text(f"Warning: {clean(warning)}", style="yellow"))
    tables = {
        "A model against itself": [_own_row(cell) for cell in report.cells if by_task or cell.task is None],
        "Against the baseline, seed by seed": [
            {
                **_place(entry.variant, entry.task, temperature_text(entry.temperature)),
                "pairs": str(entry.pairs),
                "b": f"{entry.flips.worse:,}",
                "c": f"{entry.flips.better:,}",
                "net, points": f"{100 * entry.flips.net:+.2f}",
                "flips %": _percent(entry.flip_rate),
                "text %": _changed(entry.churn),
            }
            for entry in report.against
            if by_task or entry.task is None
        ],
        "Where the variance comes from": [
            {
                **_place(entry.variant, entry.task, ", ".join(map(temperature_text, entry.temperatures))),
                "seeds": str(entry.seeds),
                "item": _with_error(entry.variance.item),
                "temperature": _with_error(entry.variance.temperature) if len(entry.temperatures) > 1 else "",
                "seed": _with_error(entry.variance.seed),
            }
            for entry in report.sources
            if by_task or entry.task is None
        ],
    }
    for title, rows in tables.items():
        if rows:
            table = plain_table(list(rows[0]), [list(row.values()) for row in rows], title=title)
            console.print(table)
            console.print()
    for cell in report.cells:  # the noise of the first model is, as a rule, that of the baseline
        if cell.variant == report.cells[0].variant and cell.task is None and cell.hidden_drop is not None:
            where = f"{clean(cell.variant)} at temperature {temperature_text(cell.temperature)}"
            floor = (
                f"Noise floor: {where} flips this often against itself; on these {cell.items:,} items, one "
                f"run of each model detects drops of at least {100 * cell.hidden_drop:.2f} points, with 80 % "
                "power at level 0.05."
            )
            console.print(Text(floor))


def _own_row(cell: CellSummary) -> dict[str, str]:
    counts, repeated = cell.stability, cell.runs > 1
    return {
        **_place(cell.variant, cell.task, temperature_text(cell.temperature)),
        "runs": str(cell.runs),
        "items": f"{cell.items:,}",
        "correct %": _percent(cell.accuracy),
        "always": f"{counts.always_right:,}" if repeated else "",
        "never": f"{counts.always_wrong:,}" if repeated else "",
        "flip": f"{counts.flipping:,}" if repeated else "",
        "flips %": _percent(cell.flip_rate) if cell.flip_rate else "",
        "text %": _changed(cell.churn),
    }


def _place(variant: str, task: str | None, temperature: str) -> dict[str, str]:
    return {"variant": clean(variant if task is None else f"{variant}, {task}"), "T": temperature}


def _changed(churn: Churn | None) -> str:
    return "" if churn is None else f"{100 * churn.changed_same_score / churn.items:.1f}"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ±{50 * (estimate.high - estimate.low):.1f}"


def _with_error(part: Estimate) -> str:
    return f"{part.value:.3f} ±{(part.high - part.low) / 2:.3f}"


def write_flips(reruns: RerunSet, report: FlipReport, folder: Path) -> list[str]:
    """Put success_counts.json, flips.json and the plots in the place of earlier ones; or neither are there.

    Args:
        reruns: the answers.
        report: their summary.
        folder: where; made if it is not there.

    Returns:
        The names of the files.

    Raises:
        UserError: the folder cannot be written to.
    """
    figures = (success_histogram(report), temperature_curves(report))
    contents = {"success_counts.json": _json(success_counts(reruns))}
    for name, figure in zip(PLOTS, figures, strict=True):
        contents |= {} if figure is None else figure_files(figure, name)
    contents["flips.json"] = _json(flips(report))
    pictures = [f"{name}.{suffix}" for name in PLOTS for suffix in FORMATS]
    FileSet(str(folder), "flips", ("success_counts.json", *pictures, "flips.json")).replace(contents)
    return list(contents)


def success_counts(reruns: RerunSet) -> list[dict[str, Any]]:
    """Successes of every item that has a score in every run; keys of `items` are item identifiers."""
    return [
        {
            "variant": cell.variant,
            "task": cell.info.name,
            "metric": cell.info.metric,
            "temperature": cell.temperature,
            "runs": list(cell.runs),
            "items": {
                str(item): int(count)
                for item, count in zip(
                    cell.items[cell.complete].tolist(), cell.right.sum(axis=1), strict=True
                )
            },
        }
        for cell in reruns.cells
        if cell.binary
    ]


def flips(report: FlipReport) -> dict[str, Any]:
    """The summary as plain values; rates are shares, never rounded."""
    whole = asdict(report)
    for entry, cell in zip(whole["cells"], report.cells, strict=True):
        entry["stability"]["never_flip_share"] = cell.stability.never_flip_share
    for entry, against in zip(whole["against"], report.against, strict=True):
        entry["flips"] |= {"net": against.flips.net, "gross": against.flips.gross}
    return whole


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, default=np.ndarray.tolist, ensure_ascii=False).encode() + b"\n"


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
    with plot_style():
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


def temperature_curves(report: FlipReport) -> Figure | None:
    """Accuracy and, where there are reruns, their flip rate against temperature, with 95 % intervals.

    Returns:
        None where there are fewer than two temperatures.
    """
    accuracy = {name: curve for name, curve in _curves(report, "accuracy").items() if len(curve) > 1}
    if not accuracy:
        return None
    flip_rates = {name: curve for name, curve in _curves(report, "flip_rate").items() if curve}
    with plot_style():
        columns = 3 if flip_rates else 2
        figure = new_figure(WIDE if flip_rates else WIDTH, HEIGHT + 0.25 * (len(accuracy) // columns))
        panels = figure.subplots(1, 2 if flip_rates else 1, sharex=True, squeeze=False)[0]
        _draw_curves(panels[0], accuracy, "right answers (%)")
        if flip_rates:
            _draw_curves(panels[1], flip_rates, "flips between runs (%)")
            panels[1].set_ylim(bottom=0)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(columns, len(accuracy)))
    return figure


def _curves(report: FlipReport, field: str) -> dict[str, dict[float, Estimate]]:
    """A number by temperature, for each variant."""
    curves: dict[str, dict[float, Estimate]] = {}
    for cell in report.curves:
        curve, estimate = curves.setdefault(cell.variant, {}), getattr(cell, field)
        if cell.temperature is not None and estimate is not None:
            curve[cell.temperature] = estimate
    return curves


def _draw_curves(axes: Axes, curves: Mapping[str, Mapping[float, Estimate]], label: str) -> None:
    width = 0.012 * len(curves)
    for number, (name, curve) in enumerate(curves.items()):
        middle = np.array([estimate.value for estimate in curve.values()])
        limits = np.array([[e.value - e.low, e.high - e.value] for e in curve.values()]).T
        shift = width * (number / max(1, len(curves) - 1) - 0.5)  # so that intervals do not hide each other
        axes.errorbar(
            np.array(list(curve)) + shift,
            100 * middle,
            yerr=100 * limits,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
            linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
            capsize=3,
            label=shorten(name),
        )
    axes.set_xlabel("sampling temperature")
    axes.set_ylabel(label)


def shorten(name: str, length: int = 24) -> str:
    """A name that fits over a panel; matplotlib would read dollar signs as formulas."""
    text = name if len(name) <= length else f"…{name[-length + 1 :]}"
    return text.replace("$", r"\$")
