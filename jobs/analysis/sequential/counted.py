"""The items that a comparison counts: those of the looks taken, and nothing that happened to come in after.

When a comparison is decided, blocks of it are in flight; whether they are written depends on the machines. So
what is reported counts the items of the deciding look alone, as a pure function of the plan and the scores.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jobs.formats.run_samples import count_withheld
from jobs.formats.samples import Temperature
from jobs.scores.score_set import Column, ScoreSet, TaskTable
from stats.arrays import Ints


def counted(
    book: ScoreSet, models: tuple[str, str], temperature: Temperature, items: Mapping[str, Ints]
) -> ScoreSet:
    """The scores of two models at one temperature on the items that count.

    Args:
        book: all scores of the run.
        models: baseline and variant.
        temperature: at which they are compared.
        items: numbers of the items that count, by task; tasks that are not among them stay whole.
    """
    tables = (
        _restricted(book, table, [(model, temperature) for model in models], items[table.info.name])
        if table.info.name in items
        else table
        for table in book.tasks
    )
    return replace(book, tasks=tuple(tables))


def _restricted(
    book: ScoreSet, table: TaskTable, keys: list[tuple[str, Temperature]], items: Ints
) -> TaskTable:
    part = replace(table, columns={key: table.columns[key] for key in keys if key in table.columns})
    part = part.at(np.flatnonzero(np.isin(table.items, items)))
    columns = dict(part.columns)
    for (model, temperature), column in columns.items():
        if column.withheld:
            withheld = count_withheld(book.runs, model, table.info.name, items)[temperature]
            columns[model, temperature] = replace(column, withheld=withheld)
    return replace(part, columns=columns)


def blanked(book: ScoreSet, items: Mapping[tuple[str, Temperature], Mapping[str, Ints]]) -> ScoreSet:
    """The scores with every answer that does not count taken out.

    Args:
        book: all scores of the run.
        items: numbers of the items that count, by model and temperature and by task.
    """
    tables = []
    for table in book.tasks:
        columns = {
            key: _blanked(column, np.isin(table.items, items[key].get(table.info.name, [])))
            if key in items
            else column
            for key, column in table.columns.items()
        }
        tables.append(replace(table, columns=columns))
    return replace(book, tasks=tuple(tables))


def _blanked(column: Column, counts: NDArray[np.bool_]) -> Column:
    return replace(
        column,
        scores=np.where(counts, column.scores, np.nan),
        answers=np.where(counts, column.answers, 0),
        marked={code: np.where(counts, known, 0) for code, known in column.marked.items()},
        failed=None if column.failed is None else np.where(counts, column.failed, 0),
    )
