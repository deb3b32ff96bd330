"""Mean scores per task group (or task, where it has none) and model, with and without standard errors.

The standard error is that of the items, of a mean over the items each model answered. Where all items agree
the sample variance is 0, which claims certainty that n items cannot give: the variance of the sample with one
more right and one more wrong item (Laplace) takes its place.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.formats.samples import Temperature
from jobs.scores.score_set import Column, ScoreSet, TaskTable
from stats.arrays import Floats

Row = dict[str, Any]


def group_rows(book: ScoreSet, baseline: str) -> tuple[list[Row], list[Row]]:
    """Rows of summary_without_stderr.csv and summary_with_stderr.csv: one per temperature and group.

    Args:
        book: all scores.
        baseline: the model whose column comes first.
    """
    models = [baseline, *(model for model in book.models if model != baseline)]
    plain, with_error = [], []
    for temperature in _temperatures(book):
        for group, tables in _groups(book, temperature).items():
            head: Row = {"group": group, "temperature": temperature, "tasks": len(tables)}
            cells = {model: _mean_and_error(tables, model, temperature) for model in models}
            plain.append(head | {model: mean for model, (mean, _) in cells.items()})
            pairs = (
                (f"{model}{end}", v)
                for model, cell in cells.items()
                for end, v in zip(("", "_stderr"), cell, strict=True)
            )
            with_error.append(head | dict(pairs))
    return plain, with_error


def standard_error(scores: Sequence[Floats], bounds: Sequence[tuple[float, float] | None]) -> float | None:
    """Standard error of the mean over all items of several tasks, the tasks being fixed.

    Args:
        scores: per task, one mean per item.
        bounds: per task, the range of its metric.

    Returns:
        √(Σ n_t s_t²)/Σ n_t; None where a single item or an unbounded constant leaves it unknown.
    """
    variances = [_variance(values, limits) for values, limits in zip(scores, bounds, strict=True)]
    if any(variance is None for variance in variances):
        return None
    sizes = [values.size for values in scores]
    weighted = sum(n * v for n, v in zip(sizes, variances, strict=True) if v is not None)
    return float(np.sqrt(weighted) / sum(sizes))


def _variance(values: Floats, bounds: tuple[float, float] | None) -> float | None:
    if values.size > 1 and float(np.ptp(values)) > 0:
        return float(values.var(ddof=1))
    return None if bounds is None else float(np.append(values, bounds).var(ddof=1))


def _temperatures(book: ScoreSet) -> list[Temperature]:
    found = {t for table in book.tasks for _, t in table.columns}
    return sorted(found, key=lambda t: -1.0 if t is None else t)


def _groups(book: ScoreSet, temperature: Temperature) -> dict[str, list[TaskTable]]:
    groups: dict[str, list[TaskTable]] = {}
    for table in book.tasks:
        if any(t == temperature for _, t in table.columns):
            groups.setdefault(table.info.group or table.info.name, []).append(table)
    return groups


def _mean_and_error(
    tables: Sequence[TaskTable], model: str, temperature: Temperature
) -> tuple[float | None, float | None]:
    found = [(table, table.columns.get((model, temperature))) for table in tables]
    answered = [(table, _scores(column)) for table, column in found if column and column.answered.any()]
    if not answered:
        return None, None
    scores = [values for _, values in answered]
    return float(np.concatenate(scores).mean()), standard_error(
        scores, [table.info.bounds for table, _ in answered]
    )


def _scores(column: Column) -> Floats:
    scores: Floats = column.scores[column.answered]
    return scores
