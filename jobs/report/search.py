"""Finds flips by their text; each model's answers to a task are read once, however many comparisons ask."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from jobs.report.flips import Flips
from jobs.report.texts import Texts


def search(found: Sequence[Flips], texts: Texts, needle: str) -> list[Flips]:
    """The flips whose prompt, target or answers contain a text, ignoring case, in cells that have any."""
    order = {id(flips): i for i, flips in enumerate(found)}
    by_task = groupby(sorted(found, key=lambda flips: flips.cell.task), key=lambda flips: flips.cell.task)
    hits = [hit for task, cells in by_task for hit in _search_task(task, list(cells), texts, needle, order)]
    return [flips for _, flips in sorted(hits, key=lambda hit: hit[0]) if len(flips)]


def _search_task(
    task: str, cells: Sequence[Flips], texts: Texts, needle: str, order: dict[int, int]
) -> Iterator[tuple[int, Flips]]:
    items = np.unique(np.concatenate([flips.items for flips in cells]))
    models = {model for flips in cells for model in (flips.cell.baseline, flips.cell.variant)}
    asked = texts.mentioned(task, items, needle)
    said = {model: texts.said_by(model, task, items, needle) for model in models}
    for flips in cells:
        cell = flips.cell
        answers = [said[model].get(cell.temperature, items[:0]) for model in (cell.baseline, cell.variant)]
        keep = np.isin(flips.items, np.concatenate([asked, *answers]))
        yield order[id(flips)], flips.where(np.flatnonzero(keep))
