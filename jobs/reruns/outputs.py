"""What `lldeg flips` leaves: tables on a terminal, counts for other programs, and pictures.

In tables ± is half of a 95 % interval; in files rates are shares and never rounded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from jobs.reruns.summary import Entry
from jobs.scores.rerun_set import RerunSet
from jobs.text import figure_style as style
from jobs.text.format import clean, temperature_text
from jobs.text.terminal import plain_table
from orchestrator.rundir.whole_files import FileSet

PLOTS = ("success_histogram", "temperature_curves")
PANELS_A_ROW = 3


def print_flips(report: Mapping[str, Any], console: Console, *, by_task: bool) -> None:
    """Show the content of flips.json; by task too, or only all tasks together."""
    for warning in report["warnings"]:
        console.print(Text(f"Warning: {clean(warning)}", style="yellow"))
    tables = {
        "A model against itself": ("cells", _own_columns),
        "Against the baseline, seed by seed": ("against", _columns_against),
        "Where the variance comes from": ("sources", _source_columns),
    }
    for title, (part, columns) in tables.items():
        rows = []
        for entry in report[part]:
            if by_task or entry["task"] is None:
                name = entry["variant"] if entry["task"] is None else f"{entry['variant']}, {entry['task']}"
                at = map(temperature_text, entry.get("temperatures") or [entry["temperature"]])
                rows.append({"variant": clean(name), "T": ", ".join(at)} | columns(entry))
        if rows:
            console.print(plain_table(list(rows[0]), [list(row.values()) for row in rows], title=title))
            console.print()
    for cell in report["cells"]:  # the noise of the first model is, as a rule, that of the baseline
        is_first, drop = cell["variant"] == report["cells"][0]["variant"], cell["hidden_drop"]
        if is_first and cell["task"] is None and drop is not None:
            where = f"{clean(cell['variant'])} at temperature {temperature_text(cell['temperature'])}"
            floor = (
                f"Noise floor: {where} flips this often against itself; on these {cell['items']:,} items, "
                f"one run of each model detects drops of at least {100 * drop:.2f} points, with 80 % power "
                "at level 0.05."
            )
            console.print(Text(floor))


def _own_columns(cell: Entry) -> dict[str, str]:
    counts, repeated = cell["stability"], cell["runs"] > 1
    return {
        "runs": str(cell["runs"]),
        "items": f"{cell['items']:,}",
        "correct %": _percent(cell["accuracy"]),
        "always": f"{counts['always_right']:,}" if repeated else "",
        "never": f"{counts['always_wrong']:,}" if repeated else "",
        "flip": f"{counts['flipping']:,}" if repeated else "",
        "flips %": _percent(cell["flip_rate"]) if repeated else "",
        "text %": _changed(cell["churn"]),
    }


def _columns_against(entry: Entry) -> dict[str, str]:
    return {
        "pairs": str(entry["pairs"]),
        "b": f"{entry['flips']['worse']:,}",
        "c": f"{entry['flips']['better']:,}",
        "net, points": f"{100 * entry['flips']['net']:+.2f}",
        "flips %": _percent(entry["flip_rate"]),
        "text %": _changed(entry["churn"]),
    }


def _source_columns(entry: Entry) -> dict[str, str]:
    parts = {name: f"{part['value']:.3f} ±{_half(part):.3f}" for name, part in entry["variance"].items()}
    if len(entry["temperatures"]) == 1:
        parts["temperature"] = ""
    return {"seeds": str(entry["seeds"])} | parts


def _half(estimate: Entry) -> float:
    width: float = estimate["high"] - estimate["low"]
    return width / 2


def _percent(estimate: Entry) -> str:
    return f"{100 * estimate['value']:.1f} ±{100 * _half(estimate):.1f}"


def _changed(churn: Entry | None) -> str:
    return "" if churn is None else f"{100 * churn['changed_same_score'] / churn['items']:.1f}"


def write_flips(reruns: RerunSet, report: Mapping[str, Any], folder: Path) -> list[str]:
    """Put success_counts.json, flips.json and the plots in the place of earlier ones; or neither are there.

    Returns:
        The names of the files.

    Raises:
        UserError: the folder cannot be written to.
    """
    figures = (success_histogram(report), temperature_curves(report))
    contents = {"success_counts.json": _json(success_counts(reruns))}
    for name, figure in zip(PLOTS, figures, strict=True):
        contents |= {} if figure is None else style.figure_files(figure, name)
    contents["flips.json"] = _json(report)
    pictures = [f"{name}.{suffix}" for name in PLOTS for suffix in style.FORMATS]
    FileSet(str(folder), "flips", ("success_counts.json", *pictures, "flips.json")).replace(contents)
    return list(contents)


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def success_counts(reruns: RerunSet) -> list[dict[str, Any]]:
    """Successes of every item that has a score in every run; keys of `items` are item identifiers."""
    counts = []
    for cell in reruns.cells:
        if cell.binary:
            successes = zip(cell.items[cell.complete].tolist(), cell.right.sum(axis=1), strict=True)
            counts.append(
                {
                    "variant": cell.variant,
                    "task": cell.info.name,
                    "metric": cell.info.metric,
                    "temperature": cell.temperature,
                    "runs": list(cell.runs),
                    "items": {str(item): int(count) for item, count in successes},
                }
            )
    return counts


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
