"""Samples averaged over reruns: the common form that verdicts are computed from."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.formats.metrics import known_direction, requested_metric, resolve_metric, unused_requests
from jobs.formats.notices import Notice, NoticeCode, joined, some
from jobs.formats.samples import Stated, Temperature, label_codes
from jobs.scores.rerun_means import Answers, RerunMeans
from jobs.scores.samples.cells import Cell, item_order
from jobs.scores.samples.gather import GatheredTask
from jobs.scores.score_set import Column, Reading, ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError
from stats.arrays import LARGEST_SCORE, Ints


def score_set(
    tasks: Mapping[str, GatheredTask],
    cells: Mapping[str, Sequence[Cell]],
    models: tuple[str, ...],
    reading: Reading,
) -> ScoreSet:
    """Average the reruns and lay the models of each task side by side.

    Args:
        tasks: the samples by task.
        cells: the same by task and model.
        models: names of all models, the default baseline first.
        reading: metrics and clusters asked for.

    Raises:
        UserError: if a metric is named for no task, or nothing can be tested.
    """
    refuse_unused(tasks, reading.metrics)
    warnings: list[Notice] = []
    tables: list[TaskTable] = []
    refused: list[Notice] = []
    for name, task in tasks.items():
        metric = metric_of(task, cells[name], reading.metrics)
        if metric is None:
            refused.append(_untestable(task))
        else:
            warnings += _other_metrics(task, metric, reading)
            tables.append(_table(task, metric, cells[name], reading, warnings))
    if not tables:
        raise UserError(joined(refused))
    return ScoreSet(models, tuple(tables), warnings=(*warnings, *_uneven(tables), *refused))


def refuse_unused(tasks: Mapping[str, GatheredTask], metrics: Mapping[str, str]) -> None:
    """Refuse a metric for a task that is not there.

    Raises:
        UserError: naming it, and the tasks there are.
    """
    if unknown := unused_requests(metrics, {name: task.facts.group for name, task in tasks.items()}):
        raise UserError(f"--metric matches no task: {some(unknown)}; the tasks are {some(list(tasks), 20)}.")


def metric_of(task: GatheredTask, cells: Sequence[Cell], metrics: Mapping[str, str]) -> str | None:
    """The metric to test: the one asked for, else the first that is a number in every sample of every model.

    Returns:
        None where no metric is a number in every sample.

    Raises:
        UserError: if the one asked for is not there, or the models have no metric in common.
    """
    numeric = task.numeric_metrics
    if not numeric:
        return None
    asked = requested_metric(task.facts.name, task.facts.group, metrics)
    if asked is not None:
        return resolve_metric(task.facts.name, asked, numeric)
    answered = [cell for cell in cells if cell.items.size]
    common = [metric for metric in numeric if all(cell.has(metric) for cell in answered)]
    if not common:
        raise UserError(
            f"The models have no metric of task {task.facts.name} in common ({some(numeric)}): they were "
            "scored in different ways and cannot be paired."
        )
    return common[0]


def info_of(task: GatheredTask, metric: str) -> TaskInfo:
    """The task with its metric, as the statistics know it.

    Raises:
        UserError: if the data contradict each other.
    """
    found = task.stated.get(metric, set())
    directions = {stated.higher_is_better for stated in found} - {None}
    ranges = {stated.bounds for stated in found} - {None}
    for what, several in (("whether higher or lower is better for", directions), ("the range of", ranges)):
        if len(several) > 1:
            raise UserError(
                f"The results of task {task.facts.name} disagree on {what} {metric}: the models were scored "
                "in different ways and cannot be paired."
            )
    stated = Stated(next(iter(directions), None), next(iter(ranges), None))
    higher = known_direction(metric) if stated.higher_is_better is None else stated.higher_is_better
    return TaskInfo(task.facts.name, metric, higher, task.facts.group, stated)


def _table(
    task: GatheredTask, metric: str, cells: Sequence[Cell], reading: Reading, warnings: list[Notice]
) -> TaskTable:
    order = item_order(task)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    columns: dict[tuple[str, Temperature], Column] = {}
    for cell in cells:
        warnings += [warning for part in cell.parts for warning in part.warnings]
        means = RerunMeans(order.size)
        means.add(_answers(task, metric, cell, place))
        columns |= {(cell.model, t): column for t, column in means.columns().items()}
        if means.mixed_prompts:
            same = f"reruns of the same item of {task.facts.name}"
            said = f"{cell.model}: {same} had different prompts."
            warnings.append(Notice(NoticeCode.MIXED_RERUN_PROMPTS, said))
    names, documents = list(task.numbers), task.documents
    labels = _in_order(documents.clusters, order) if reading.cluster_column else None
    return TaskTable(
        info_of(task, metric),
        np.array([names[number] for number in order]),
        None if labels is None else _clusters(task, labels, reading),
        columns,
        unlisted={cell.model: max(0, cell.evaluated - order.size) for cell in cells},
        documents=_in_order(documents.hashes, order),
        cluster_names=labels,
    )


def _in_order(values: Sequence[object], order: Ints) -> NDArray[np.object_]:
    found: NDArray[np.object_] = np.full(order.size, None, dtype=object)
    for place, number in enumerate(order.tolist()):
        found[place] = values[number]
    return found


def _answers(task: GatheredTask, metric: str, cell: Cell, place: Ints) -> Answers:
    scores = cell.score(metric)
    untestable = np.flatnonzero(np.abs(scores) > LARGEST_SCORE)
    if untestable.size:
        sample = int(untestable[0])
        part = cell.parts[cell.runs[int(cell.run_of[sample])][0]]
        item = list(task.numbers)[int(cell.items[sample])]
        raise UserError(
            f"{metric} of item {item} in {part.label} is not a finite number up to {LARGEST_SCORE:g}."
        )
    return Answers(
        positions=place[cell.items],
        temperature=cell.temperature,
        rerun=cell.run_of,
        score=scores,
        prompts=cell.joined(lambda chunk: chunk.prompts),
    )


def _clusters(task: GatheredTask, labels: NDArray[np.object_], reading: Reading) -> Ints:
    if all(label is None for label in labels):
        raise UserError(
            f"--cluster {reading.cluster_column}: the documents of task {task.facts.name} have no such "
            "column."
        )
    # An item without a label is a cluster of its own.
    return label_codes((i,) if label is None else label for i, label in enumerate(labels))


def _untestable(task: GatheredTask) -> Notice:
    names = sorted({metric.split(",")[0] for metric in task.metrics})
    why = f"no metric with a number per sample ({some(names)}: computed over the whole corpus)"
    said = f"Task {task.facts.name} has {why if names else 'no score at all'}, so it cannot be tested."
    return Notice(NoticeCode.NO_TESTABLE_METRIC, said, task.facts.name)


def _other_metrics(task: GatheredTask, metric: str, reading: Reading) -> list[Notice]:
    """Say what else could be tested: other filters of the metric, or any metric where none is preferred."""
    if requested_metric(task.facts.name, task.facts.group, reading.metrics) is not None:
        return []
    name = metric.split(",", maxsplit=1)[0]
    others = [key for key in task.numeric_metrics if key != metric and key.split(",")[0] == name]
    code = NoticeCode.OTHER_FILTERS
    if metric not in task.facts.preferred:
        others = [key for key in task.numeric_metrics if key != metric]
        code = NoticeCode.OTHER_METRICS
    if not others:
        return []
    task_name = task.facts.name
    choose = f"choose with --metric {task_name}=METRIC"
    said = f"{task_name} is tested on {metric}; it also has {some(others)} ({choose})."
    return [Notice(code, said)]


def _uneven(tables: Sequence[TaskTable]) -> list[Notice]:
    """Say where items have unequal numbers of reruns: the mean of each still counts once."""
    found = dict.fromkeys(
        model
        for table in tables
        for (model, _), column in table.columns.items()
        if np.unique(column.answers[column.answered]).size > 1
    )
    if not found:
        return []
    models = some(list(found))
    said = f"Prompts have unequal numbers of reruns in {models}; each prompt counts once, by its mean."
    return [Notice(NoticeCode.UNEQUAL_RERUNS, said)]
