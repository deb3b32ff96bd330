"""The files of `lldeg flips`: counts for other programs to read, and the pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jobs.reruns.plots import success_histogram, temperature_curves
from jobs.reruns.summary import FlipReport
from jobs.scores.rerun_set import RerunSet
from jobs.text.figure_style import FORMATS, figure_files
from orchestrator.rundir.whole_files import FileSet

PLOTS = ("success_histogram", "temperature_curves")


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
    return json.dumps(content, indent=1, default=_plain, ensure_ascii=False).encode() + b"\n"


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to a JSON file.")
