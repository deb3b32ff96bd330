"""Reads score tables: CSV files of many models, tasks, temperatures and reruns, or of one model on one task.

Several rows of one prompt are its reruns and are averaged; but rows that only a further column tells apart
may be other experiments, and a few repeated ids among many single ones may be a mistake: both are refused,
because merging them silently would change what is tested.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import some
from jobs.formats.samples import Evaluation, Query, SampleBatch, TaskFacts, label_codes
from jobs.scores.samples.gather import GatheredTask
from jobs.scores.samples.names import DEFAULT_TASK, Key, by_data, path_stems
from jobs.scores.samples.source import SampleSource
from jobs.scores.score_csv.scale import stated_scale, tested_metric
from jobs.scores.score_csv.table import ITEM, MODEL, RERUN, TASK, TEMPERATURE, ScoreTable, read_table
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError
from stats.arrays import Ints

FEW_LABELS = 50


class ScoreCsv(SampleSource):
    """Tables of scores, without prompts or answers."""

    described = "a score table"
    accepted = "score tables (.csv)"
    takes_where = True

    def recognises(self, path: str) -> bool:
        """Whether it is a CSV file; what is in it is checked when it is read."""
        return Path(path).suffix == ".csv" and Path(path).is_file()

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """The table is always a single evaluation."""
        return [Evaluation(path.path, partial(_read, path))]

    def model_names(self, tasks: Mapping[str, GatheredTask], paths: Sequence[str]) -> dict[Key, str]:
        """As the tables state them; tables without a column for it are called as their files are."""
        return by_data(tasks, path_stems(paths))


SOURCE: Source = ScoreCsv()


def _read(path: NamedPath, query: Query) -> Iterator[SampleBatch]:
    table = read_table(path.path, query.where)
    if path.task is not None:
        yield _batch(table, path.model, path.task, query)
        return
    models, tasks = table.column(MODEL, ""), table.column(TASK, DEFAULT_TASK)
    parts: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(models.tolist(), tasks.tolist(), strict=True)):
        parts.setdefault(key, []).append(i)
    for (model, task), chosen in parts.items():
        yield _batch(_take(table, np.array(chosen)), model or None, task, query)


def _take(table: ScoreTable, chosen: Ints) -> ScoreTable:
    texts = {name: values[chosen] for name, values in table.texts.items()}
    return ScoreTable(table.path, table.score[chosen], texts, table.rows[chosen])


def _batch(table: ScoreTable, model: str | None, task: str, query: Query) -> SampleBatch:
    if query.cluster:
        table = table.with_labels(query.cluster)
    items = table.texts[ITEM].tolist()
    metric = tested_metric(table)
    return SampleBatch(
        task=TaskFacts(task, stated={metric: stated_scale(table, task)}),
        model=model,
        items=items,
        scores={metric: table.score},
        temperature=_temperatures(table),
        reruns=_reruns(table, query.cluster),
        clusters=table.texts[query.cluster].tolist() if query.cluster else None,
        docs=_documents(table, items) if query.documents else None,
    )


def _documents(table: ScoreTable, items: Sequence[str]) -> list[dict[str, str]]:
    columns = {name: table.texts[name].tolist() for name in table.labels}
    return [
        {"prompt_id": item, **dict(zip(columns, values, strict=True))}
        for item, *values in zip(items, *columns.values(), strict=True)
    ]


def _temperatures(table: ScoreTable) -> NDArray[np.float32]:
    texts = table.column(TEMPERATURE, "nan")
    try:
        temperatures: NDArray[np.float32] = texts.astype(np.float32)
    except ValueError as error:
        raise UserError(f"{table.path}: the column temperature must hold numbers: {error}.") from error
    if np.isinf(temperatures).any():
        raise UserError(f"{table.path}: the column temperature must hold finite numbers.")
    return temperatures


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
    said = f"{table.path}: prompt_id {name!r} occurs more than once (row {table.rows[first]})"
    if telling := _telling(table, keys, cluster):
        values = sorted(set(table.texts[telling[0]]))
        return (
            f"{said}, and column {telling[0]} distinguishes the rows: keep one of its values "
            f"({some(values)}) with --where {telling[0]}=VALUE, or rename it to rerun if it numbers reruns."
        )
    return f"{said}, while most occur once: remove the duplicates, or number reruns in a column named rerun."


def _telling(table: ScoreTable, keys: Sequence[object], cluster: str | None) -> list[str]:
    """Label columns with few values that alone make the keys unique."""
    found = []
    for name in table.labels:
        values = table.texts[name]
        few = len(set(values)) <= FEW_LABELS
        if name != cluster and few and len(set(zip(keys, values, strict=True))) == len(keys):
            found.append(name)
    return found
