"""Reads what `lm_eval --log_samples` wrote, one model per folder (or results file).

Items pair by doc_id, and the hash of the document proves that it is the same document. A row per filter is no
item of its own: filters are metrics ("metric,filter"), of which one is tested. Several result sets of a model
are its reruns, if their arguments agree.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.inputs.lm_eval.files import ResultSet, read_rows, refuse_different, result_sets
from jobs.inputs.metrics import as_number, requested_metric, resolve_metric, unused_requests
from jobs.inputs.rerun_means import Answers, Tally
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
from stats.arrays import Ints

NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
    "prompt_hash", "target_hash",
}  # fmt: skip
DocId = int | str


@dataclass(frozen=True)
class Sample:
    """One row of a sample file, without its texts.

    Attributes:
        doc_id: number of the document.
        filter: name of the filter, "none" in older files.
        values: every metric's value as it stood.
        doc_hash: hash of the document, if there is one.
        prompt_hash: hash of the prompt, if there is one.
        label: what --cluster groups by.
    """

    doc_id: DocId
    filter: str
    values: dict[str, object]
    doc_hash: str | None
    prompt_hash: str | None
    label: object


@dataclass
class LmEvalTask:
    """All samples of one task.

    Attributes:
        name: its name.
        rows: by model, the rows of each of its result sets.
    """

    name: str
    rows: dict[str, list[tuple[ResultSet, list[Sample]]]] = field(default_factory=dict)

    @property
    def sets(self) -> list[ResultSet]:
        """The result sets of all models."""
        return [result_set for held in self.rows.values() for result_set, _ in held]

    @property
    def samples(self) -> Iterable[Sample]:
        """All rows."""
        return (row for held in self.rows.values() for _, rows in held for row in rows)

    @property
    def has_text_ids(self) -> bool:
        """Whether some documents are numbered by text."""
        return any(isinstance(doc_id, str) for doc_id in self.positions)

    @cached_property
    def positions(self) -> dict[DocId, int]:
        """Position of every document in the order of their numbers.

        Raises:
            UserError: if one number stands for two documents.
        """
        hashes: dict[DocId, str | None] = {}
        for row in self.samples:
            known = hashes.setdefault(row.doc_id, row.doc_hash)
            if known and row.doc_hash and known != row.doc_hash:
                raise UserError(
                    f"Document {row.doc_id} of task {self.name} is not the same document for all models: "
                    "they were evaluated on different data and cannot be paired."
                )
        ordered = sorted(hashes, key=lambda doc_id: (isinstance(doc_id, str), doc_id))
        return {doc_id: position for position, doc_id in enumerate(ordered)}


def read_lm_eval(models: Mapping[str, str], reading: Reading) -> ScoreBook:
    """Read the sample files of several models.

    Args:
        models: folder, results file or sample file by the model's name; the first is the default baseline.
        reading: metrics and clusters asked for.

    Raises:
        UserError: if a file is unreadable, result sets of a model differ, or nothing can be tested.
    """
    warnings: list[str] = []
    tables: list[TaskTable] = []
    refused: list[str] = []
    groups: dict[str, str | None] = {}
    for task in load_tasks(models, reading):
        groups[task.name] = task.sets[0].group(task.name)
        if numeric := numeric_metrics(task):
            tables.append(_table(task, numeric, groups[task.name], reading, warnings))
        else:
            refused.append(_untestable(task))
    if unknown := unused_requests(reading.metrics, groups):
        raise UserError(f"--metric names no task: {some(unknown)}; the tasks are {some(list(groups), 20)}.")
    if not tables:
        raise UserError(" ".join(refused))
    return ScoreBook(tuple(models), tuple(tables), warnings=(*warnings, *refused))


def load_tasks(models: Mapping[str, str], reading: Reading) -> Iterator[LmEvalTask]:
    """The samples of all models, task by task.

    Args:
        models: folder, results file or sample file by the model's name.
        reading: clusters asked for.

    Raises:
        UserError: if a file is unreadable, or result sets of a model differ.
    """
    sets = {model: result_sets(Path(path)) for model, path in models.items()}
    for held in sets.values():
        refuse_different(held)
    for name in dict.fromkeys(
        task for held in sets.values() for result_set in held for task in result_set.samples
    ):
        yield _load(name, sets, reading)


def to_sample(row: Mapping[str, Any], cluster_column: str | None = None) -> Sample:
    """Keep of a row what a test needs."""
    listed = row.get("metrics")
    names = listed if isinstance(listed, list) else [key for key in row if key not in NOT_METRICS]
    document = row.get("doc")
    label = document.get(cluster_column) if cluster_column and isinstance(document, dict) else None
    values = {name: row[name] for name in names if name in row}
    return Sample(
        row["doc_id"], row.get("filter") or "none", values, row.get("doc_hash"), row.get("prompt_hash"), label
    )


def _load(name: str, sets: Mapping[str, Sequence[ResultSet]], reading: Reading) -> LmEvalTask:
    task = LmEvalTask(name)
    for model, held in sets.items():
        for result_set in held:
            if path := result_set.samples.get(name):
                rows = [to_sample(row, reading.cluster_column) for row in read_rows(path)]
                _refuse_duplicates(path, rows)
                task.rows.setdefault(model, []).append((result_set, rows))
    if reading.cluster_column and not any(row.label is not None for row in task.samples):
        raise UserError(
            f"--cluster {reading.cluster_column}: the documents of task {name} have no such column."
        )
    return task


def _refuse_duplicates(path: Path, rows: Sequence[Sample]) -> None:
    seen: set[tuple[DocId, str]] = set()
    for row in rows:
        if (row.doc_id, row.filter) in seen:
            raise UserError(
                f"{path} holds document {row.doc_id} twice: which of the two counts is not for us to say."
            )
        seen.add((row.doc_id, row.filter))


def numeric_metrics(task: LmEvalTask) -> list[str]:
    """Keys of the metrics that are a number for every sample, in the order of the task's configuration."""
    numeric: dict[str, bool] = {}
    for row in task.samples:
        for name, value in row.values.items():
            key = f"{name},{row.filter}"
            numeric[key] = numeric.get(key, True) and as_number(value) is not None
    listed = task.sets[0].listed_metrics(task.name)
    keys = [key for key, good in numeric.items() if good]
    return sorted(
        keys, key=lambda key: listed.index(name) if (name := key.split(",")[0]) in listed else len(listed)
    )


def _untestable(task: LmEvalTask) -> str:
    names = sorted({name for row in task.samples for name in row.values})
    return (
        f"Task {task.name} has no metric with a number per sample ({some(names) or 'none'}: "
        "computed over the whole corpus), so there is nothing to test."
    )


def _table(
    task: LmEvalTask, numeric: Sequence[str], group: str | None, reading: Reading, warnings: list[str]
) -> TaskTable:
    wanted = requested_metric(task.name, group, reading.metrics)
    metric = resolve_metric(task.name, wanted, numeric) if wanted else numeric[0]
    if not wanted:
        warnings += _other_filters(task.name, metric, numeric)
    ids = task.positions
    codes: dict[str | None, int] = {}
    columns: dict[tuple[str, Temperature], Column] = {}
    for model, held in task.rows.items():
        tally = Tally(len(ids))
        for ordinal, (result_set, rows) in enumerate(held):
            warnings += _cut_short(result_set, task.name, rows)
            tally.add(_answers(task, metric, result_set, ordinal=ordinal, rows=rows, ids=ids, codes=codes))
        columns |= {(model, t): column for t, column in tally.columns().items()}
        if tally.mixed_prompts:
            warnings.append(
                f"{model}: reruns of the same document of {task.name} were asked with different prompts."
            )
    info = TaskInfo(task.name, metric, task.sets[0].higher_is_better(task.name, metric), group)
    return TaskTable(info, np.array(list(ids)), _clusters(task, ids, reading), columns)


def _clusters(task: LmEvalTask, ids: Mapping[DocId, int], reading: Reading) -> Ints | None:
    if not reading.cluster_column:
        return None
    labels: list[object] = [None] * len(ids)
    for row in task.samples:
        labels[ids[row.doc_id]] = str(row.label)
    return label_codes(labels)


def _answers(
    task: LmEvalTask,
    metric: str,
    result_set: ResultSet,
    *,
    ordinal: int,
    rows: Sequence[Sample],
    ids: Mapping[DocId, int],
    codes: dict[str | None, int],
) -> Answers:
    name, _, filter_name = metric.partition(",")
    chosen = [row for row in rows if row.filter == filter_name and name in row.values]
    scores = np.array([as_number(row.values[name]) for row in chosen], dtype=np.float64)
    if not np.isfinite(scores).all():
        bad = next(row.doc_id for row, score in zip(chosen, scores, strict=True) if not math.isfinite(score))
        raise UserError(f"{metric} of document {bad} in {result_set.samples[task.name]} is no finite number.")
    return Answers(
        positions=np.array([ids[row.doc_id] for row in chosen], dtype=np.int64),
        temperature=_temperatures(task, result_set, len(chosen)),
        rerun=np.full(len(chosen), ordinal, dtype=np.int64),
        score=scores,
        prompts=np.array([_code(row.prompt_hash, codes) for row in chosen], dtype=np.int64),
    )


def _temperatures(task: LmEvalTask, result_set: ResultSet, count: int) -> NDArray[np.float32]:
    """Where one result set does not say its temperature, that of all is unknown, so that they pair."""
    known = all(other.temperature(task.name) is not None for other in task.sets)
    return np.full(count, result_set.temperature(task.name) if known else np.nan, dtype=np.float32)


def _code(prompt_hash: str | None, codes: dict[str | None, int]) -> int:
    return -1 if prompt_hash is None else codes.setdefault(prompt_hash, len(codes))


def _other_filters(task: str, metric: str, numeric: Sequence[str]) -> list[str]:
    name = metric.split(",", maxsplit=1)[0]
    others = [key for key in numeric if key != metric and key.split(",")[0] == name]
    if not others:
        return []
    return [f"{task} is tested by {metric}; it also has {some(others)} (choose with --metric {task}=METRIC)."]


def _cut_short(result_set: ResultSet, task: str, rows: Sequence[Sample]) -> list[str]:
    effective = result_set.results.get("n-samples", {}).get(task, {}).get("effective")
    found = len({row.doc_id for row in rows})
    if not isinstance(effective, int) or found >= effective:
        return []
    return [
        f"{result_set.samples[task].name} holds {found} of the {effective} documents that were evaluated."
    ]
