"""Which answers are missing or failed, per model and task, for the statistics and for people.

A missing answer is never counted as zero and never silently ignored: the statistics receive every planned
item, so that a certificate holds for any value of the missing answers.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from jobs.scores.score_set import Column, TaskTable
from stats.arrays import Ints
from stats.scores import MissingAnswers, SideAnswers, missing_answers

MOST_ITEMS = 30
"""Bits of the number of an item that no file lists; those before them tell its task."""


def find_gaps(
    table: TaskTable,
    models: tuple[str, str],
    sides: tuple[Column, Column],
    clusters: Ints | None,
    links: Ints | None,
) -> MissingAnswers | None:
    """What is missing of a task for one comparison.

    Args:
        table: the task.
        models: names of baseline and variant.
        sides: their columns.
        clusters: a label per item, shape (items,), or None.
        links: a number per item that is the same in all tasks, shape (items,), or None.

    Returns:
        None where every answer is there.
    """
    wanted = wanted_items(table, sides)
    unlisted = max(table.unlisted.get(model, 0) for model in models)
    baseline, variant = (_side(column, wanted, unlisted) for column in sides)
    return missing_answers(
        table.info.name,
        baseline,
        variant,
        bounds=table.info.bounds,
        higher_is_better=table.info.higher_is_better,
        clusters=_extended(table, clusters, wanted, unlisted),
        links=_extended(table, links, wanted, unlisted),
    )


def _extended(table: TaskTable, labels: Ints | None, wanted: NDArray[np.bool_], unlisted: int) -> Ints | None:
    """Labels of the wanted items, and of items that no file lists, each of which is on its own."""
    if labels is None:
        return None
    first = crc32(table.info.name.encode()) << MOST_ITEMS
    own = -1 - first - np.arange(unlisted)
    extended: Ints = np.concatenate([labels[wanted], own])
    return extended


def wanted_items(table: TaskTable, sides: tuple[Column, Column]) -> NDArray[np.bool_]:
    """Which items were to be compared, shape (items,): all planned ones, else all that one model answered."""
    if table.planned:
        return np.ones(len(table.items), dtype=np.bool_)
    either: NDArray[np.bool_] = sides[0].answered | sides[1].answered
    return either


def _side(column: Column, wanted: NDArray[np.bool_], unlisted: int) -> SideAnswers:
    return SideAnswers(
        means=np.concatenate([column.scores[wanted], np.full(unlisted, np.nan)]),
        answered=np.concatenate([column.answers[wanted], np.zeros(unlisted, dtype=np.int64)]),
        planned=max(1, column.planned or column.reruns),
        failed=column.errors,
    )
