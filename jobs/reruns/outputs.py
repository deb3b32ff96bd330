"""The files of `lldeg flips`: counts for other programs to read, and the pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jobs.figures.style import FORMATS, save
from jobs.inputs.rerun_set import RerunSet
from jobs.reruns.plots import success_histogram, temperature_curves
from jobs.reruns.summary import FlipReport


def write_flips(reruns: RerunSet, report: FlipReport, folder: Path) -> list[Path]:
    """Write success_counts.json, flips.json and the plots.

    Args:
        reruns: the answers.
        report: their summary.
        folder: where; made if it is not there.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        _write(folder / "success_counts.json", success_counts(reruns)),
        _write(folder / "flips.json", flips(report)),
    ]
    for name, figure in (
        ("success_histogram", success_histogram(report)),
        ("temperature_curves", temperature_curves(report)),
    ):
        for suffix in FORMATS:  # a picture of an earlier, wider reading would contradict the counts beside it
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
        written += save(figure, folder, name) if figure is not None else []
    return written


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


def _write(path: Path, content: object) -> Path:
    text = json.dumps(content, indent=1, default=_plain, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to a JSON file.")
