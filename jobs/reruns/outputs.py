"""What `lldeg flips` leaves: tables on a terminal, and counts for other programs.

In tables ± is half of a 95 % interval; in files rates are shares and never rounded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from jobs.reruns.summary import Entry
from jobs.scores.rerun_set import RerunSet
from jobs.text.format import clean, temperature_text
from jobs.text.terminal import plain_table
from orchestrator.extras import lacking
from orchestrator.rundir.whole_files import FileSet

PLOTS = tuple(
    f"{plot}.{suffix}" for plot in ("success_histogram", "temperature_curves") for suffix in ("pdf", "png")
)


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

    Without matplotlib there are no plots.

    Returns:
        The names of the files.

    Raises:
        UserError: the folder cannot be written to.
    """
    plots = {}
    if lacking("figures", "Drawing") is None:
        from jobs.reruns.plots import plot_files  # noqa: PLC0415 - needs matplotlib

        plots = plot_files(report)
    contents = {"success_counts.json": _json(success_counts(reruns)), **plots, "flips.json": _json(report)}
    FileSet(str(folder), "flips", ("success_counts.json", *PLOTS, "flips.json")).replace(contents)
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
