"""Reads score tables into the common form.

A table may hold many models, tasks, temperatures and reruns, or be one model's scores on one task. Several
rows of one prompt are its reruns and are averaged; but rows that only a further column tells apart may be
other experiments, and a few repeated ids among many single ones may be a mistake: both are refused, for
merging them in silence would change what is tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.inputs.rerun_means import Answers, Tally
from jobs.inputs.score_csv.table import ITEM, MODEL, RERUN, TASK, TEMPERATURE, ScoreTable, Texts, read_table
from jobs.inputs.score_set import (
    Column,
    Reading,
    ScoreBook,
    TaskInfo,
    TaskTable,
    Temperature,
    label_codes,
    some,
)
from orchestrator.errors import UserError
from stats.arrays import Floats, Ints

DEFAULT_TASK = "scores"
FEW_LABELS = 50


@dataclass(frozen=True)
class ScoreRows:
    """Rows of one model and task, ready to be counted; all arrays have shape (rows,).

    Attributes:
        model: its name.
        task: the task's name.
        items: prompt ids.
        temperature: NaN where unknown.
        rerun: number that tells the rows of one prompt apart.
        score: the scores.
        labels: further columns, and the one that clusters them.
    """

    model: str
    task: str
    items: Texts
    temperature: NDArray[np.float32]
    rerun: Ints
    score: Floats
    labels: dict[str, Texts]


def table_rows(paths: Sequence[str], reading: Reading) -> list[ScoreRows]:
    """Rows of CSV files, by model and task."""
    stems = {path: Path(path).stem for path in paths}
    if len(set(stems.values())) < len(paths):
        stems = {path: path for path in paths}
    return [
        rows
        for path, stem in stems.items()
        for rows in _split(read_table(path, reading.where or {}), stem, reading)
    ]


def listed_rows(listing: Mapping[str, Mapping[str, str]], reading: Reading) -> list[ScoreRows]:
    """Rows of the CSV files of a listing {model: {task: file}}."""
    return [
        _rows(read_table(path, reading.where or {}), model, task, reading)
        for model, tasks in listing.items()
        for task, path in tasks.items()
    ]


def score_book(rows: Sequence[ScoreRows], reading: Reading) -> ScoreBook:
    """Average the reruns and lay the models of each task side by side.

    Raises:
        UserError: if a model has one task twice, or --metric is given, which score tables do not have.
    """
    if reading.metrics:
        raise UserError("Score tables have one score and no metrics: --metric has no meaning for them.")
    keys = [(part.model, part.task) for part in rows]
    if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
        raise UserError(f"Model {twice[0][0]} has task {twice[0][1]} in two tables.")
    models = tuple(dict.fromkeys(part.model for part in rows))
    tasks = dict.fromkeys(part.task for part in rows)
    tables = tuple(
        _table(task, [part for part in rows if part.task == task], reading.cluster_column) for task in tasks
    )
    return ScoreBook(models, tables, warnings=_uneven(rows))


def _split(table: ScoreTable, stem: str, reading: Reading) -> list[ScoreRows]:
    models, tasks = table.column(MODEL, stem), table.column(TASK, DEFAULT_TASK)
    parts: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(models.tolist(), tasks.tolist(), strict=True)):
        parts.setdefault(key, []).append(i)
    return [_rows(_take(table, np.array(chosen)), *key, reading) for key, chosen in parts.items()]


def _take(table: ScoreTable, chosen: Ints) -> ScoreTable:
    texts = {name: values[chosen] for name, values in table.texts.items()}
    return ScoreTable(table.path, table.score[chosen], texts, table.rows[chosen])


def _rows(table: ScoreTable, model: str, task: str, reading: Reading) -> ScoreRows:
    column = reading.cluster_column
    if column:
        table = table.with_labels(column)
    return ScoreRows(
        model=model,
        task=task,
        items=table.texts[ITEM],
        temperature=_temperatures(table),
        rerun=_reruns(table, column),
        score=table.score,
        labels={name: table.texts[name] for name in (*table.labels, *([column] if column else []))},
    )


def _temperatures(table: ScoreTable) -> NDArray[np.float32]:
    texts = table.column(TEMPERATURE, "nan")
    try:
        return texts.astype(np.float32)
    except ValueError as error:
        raise UserError(f"{table.path}: a temperature is no number: {error}.") from error


def _reruns(table: ScoreTable, cluster: str | None) -> Ints:
    """A number per row that tells a prompt's reruns apart: the column `rerun`, else the order of rows."""
    keys = list(zip(table.texts[ITEM], table.column(TEMPERATURE, ""), strict=True))
    if RERUN in table.texts:
        reruns = label_codes(table.texts[RERUN])
        full = [(*key, rerun) for key, rerun in zip(keys, reruns.tolist(), strict=True)]
        if len(set(full)) < len(full):
            raise UserError(_repeated(table, full, cluster))
        return reruns
    counts: dict[object, int] = {}
    ordinals = []
    for key in keys:
        ordinals.append(counts.get(key, 0))
        counts[key] = ordinals[-1] + 1
    _refuse_odd_repeats(table, keys, counts, cluster)
    return np.array(ordinals, dtype=np.int64)


def _refuse_odd_repeats(
    table: ScoreTable, keys: Sequence[object], counts: Mapping[object, int], cluster: str | None
) -> None:
    repeated = sum(count > 1 for count in counts.values())
    if not repeated:
        return
    if repeated * 2 < len(counts) or _telling(table, keys, cluster):
        raise UserError(_repeated(table, keys, cluster))


def _repeated(table: ScoreTable, keys: Sequence[object], cluster: str | None) -> str:
    first = int(np.flatnonzero(np.diff(np.maximum.accumulate(label_codes(keys))) == 0)[0]) + 1
    name = table.texts[ITEM][first]
    said = f"{table.path}: prompt_id {name!r} stands more than once (row {table.rows[first]})"
    if telling := _telling(table, keys, cluster):
        values = sorted(set(table.texts[telling[0]]))
        return (
            f"{said}, and column {telling[0]} tells the rows apart: keep one of its values "
            f"({some(values)}) with --where {telling[0]}=VALUE, or rename it to rerun if it numbers reruns."
        )
    return f"{said} while most do not: remove the copies, or number reruns in a column named rerun."


def _telling(table: ScoreTable, keys: Sequence[object], cluster: str | None) -> list[str]:
    """Label columns with few values that alone make the keys unique."""
    found = []
    for name in table.labels:
        values = table.texts[name]
        few = len(set(values)) <= FEW_LABELS
        if name != cluster and few and len(set(zip(keys, values, strict=True))) == len(keys):
            found.append(name)
    return found


def _table(task: str, parts: Sequence[ScoreRows], cluster: str | None) -> TaskTable:
    items = np.unique(np.concatenate([part.items for part in parts]).astype(str))
    columns: dict[tuple[str, Temperature], Column] = {}
    for part in parts:
        tally = Tally(items.size)
        tally.add(_answers(part, items))
        columns |= {(part.model, t): column for t, column in tally.columns().items()}
    return TaskTable(TaskInfo(task, "score"), items, _clusters(task, items, parts, cluster), columns)


def _answers(part: ScoreRows, items: NDArray[np.str_]) -> Answers:
    positions: Ints = np.searchsorted(items, part.items.astype(str))
    unknown = np.full(part.score.size, -1, dtype=np.int64)
    return Answers(positions, part.temperature, part.rerun, part.score, unknown)


def _clusters(
    task: str, items: NDArray[np.str_], parts: Sequence[ScoreRows], column: str | None
) -> Ints | None:
    if column is None:
        return None
    labels: dict[str, str] = {}
    for part in parts:
        for item, label in zip(part.items, part.labels[column], strict=True):
            if labels.setdefault(item, label) != label:
                raise UserError(
                    f"Prompt {item!r} of task {task} is in two clusters, {labels[item]!r} and {label!r}."
                )
    return label_codes(labels[item] for item in items.tolist())


def _uneven(rows: Sequence[ScoreRows]) -> tuple[str, ...]:
    """Say where prompts have unequal numbers of reruns: the mean of each still counts once."""
    found = []
    for part in rows:
        counts = np.unique(np.unique(part.items.astype(str), return_counts=True)[1])
        if counts.size > 1 and np.unique(part.temperature).size <= 1:
            found.append(part.model)
    if not found:
        return ()
    return (
        f"Prompts have unequal numbers of reruns in {some(found)}; each prompt counts once, as its mean.",
    )
