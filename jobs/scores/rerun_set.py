"""The form in which reruns are looked at one by one: scores and answers by item and pass over the items.

A pass is a seed in a run directory, an evaluation or one of its epochs in the logs of other tools. The same
seed in two directories is two passes here, since how often a repeated answer changes is the very question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import InputQuery, Temperature, as_temperature
from jobs.formats.tables import ABSENT, NO_SEED, Answers, Tables, TaskTables
from jobs.scores.means import task_info
from jobs.scores.score_set import TaskInfo
from orchestrator.errors import UserError
from stats.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class RerunQuery(InputQuery):
    """Which reruns to read; None means all.

    Attributes:
        variant: one variant only.
        task: one task only.
        temperature: one temperature only.
    """

    variant: str | None = None
    task: str | None = None
    temperature: Temperature = None
    responses: bool = field(default=True, kw_only=True)


@dataclass(frozen=True)
class RepeatedAnswers:
    """One model on one task at one temperature.

    Attributes:
        variant: the model's name.
        info: the task, its metric and direction.
        temperature: sampling temperature, None if unknown.
        runs: what to call each run; R of them.
        seeds: the seed of each run, None where nothing was sampled or it is unknown.
        items: identifiers, ascending, shape (n,).
        scores: NaN where there is no score, shape (n, R).
        answers: a number for every distinct answer of the task, ABSENT where there is none, shape (n, R).
    """

    variant: str
    info: TaskInfo
    temperature: Temperature
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    items: NDArray[np.generic]
    scores: Floats
    answers: Ints

    @property
    def binary(self) -> bool:
        """Whether every score is right or wrong."""
        return bool(np.isin(self.scores[~np.isnan(self.scores)], (0.0, 1.0)).all())

    @property
    def has_answers(self) -> bool:
        """Whether the input says what was answered, not only how it was scored."""
        return bool((self.answers != ABSENT).any())

    @cached_property
    def complete(self) -> Bools:
        """Items that have a score in every run, shape (n,)."""
        return np.asarray(~np.isnan(self.scores).any(axis=1))

    @property
    def right(self) -> Bools:
        """Whether the answer is right, for complete items, shape (complete, R)."""
        best = 1.0 if self.info.higher_is_better else 0.0
        found: Bools = self.scores[self.complete] == best
        return found


@dataclass(frozen=True)
class RerunSet:
    """Everything read.

    Attributes:
        cells: one for each variant, task and temperature, in the order of the input.
        baseline: the baseline that the input names; None where it names none, or several.
        runs: the run directories; none where the input was another tool's.
    """

    cells: tuple[RepeatedAnswers, ...]
    baseline: str | None = None
    runs: tuple[RunFiles, ...] = ()


def rerun_set(tables: Tables, query: RerunQuery) -> RerunSet:
    """Lay out what is wanted.

    Args:
        tables: what was read.
        query: what of it to lay out.

    Raises:
        UserError: if something wanted is not there, or a task has no metric that is a number per sample.
    """
    tasks = [task.name for task in tables.tasks]
    if query.task is not None and query.task not in tasks:
        raise UserError(f"There is no task {query.task!r}; the tasks are {some(tasks, 20)}.")
    if query.variant is not None and query.variant not in tables.models:
        known = some(tables.models, 20)
        raise UserError(f"There is no variant {query.variant!r}; the variants are {known}.")
    baseline = tables.baselines[0] if len(tables.baselines) == 1 else None
    return RerunSet(tuple(_cells(tables, query)), baseline, tables.runs)


def _cells(tables: Tables, query: RerunQuery) -> Iterator[RepeatedAnswers]:
    for task in tables.tasks:
        if query.task not in {None, task.name}:
            continue
        info = task_info(task, dict(query.metrics), [])
        if info is None:
            raise UserError(f"Task {task.name} has no metric with a number per sample, so nothing can flip.")
        for model in task.models:
            if query.variant in {None, model}:
                pieces = list(task.answers(model, info.metric, "response"))
                yield from _by_temperature(task, model, info, pieces, query)


def _by_temperature(
    task: TaskTables, model: str, info: TaskInfo, pieces: Sequence[Answers], query: RerunQuery
) -> Iterator[RepeatedAnswers]:
    """Answers in any order as tables by item and pass; of two answers in one place the first counts."""
    if not pieces:
        return
    found = [np.unique(piece.rerun, return_inverse=True) for piece in pieces]
    keys = [
        [(piece.label, piece.part, rerun) for rerun in reruns.tolist()]
        for piece, (reruns, _) in zip(pieces, found, strict=True)
    ]
    labels = sorted({key for of_piece in keys for key in of_piece})
    number = {label: i for i, label in enumerate(labels)}
    passes = np.concatenate(
        [np.array([number[key] for key in own])[codes] for own, (_, codes) in zip(keys, found, strict=True)]
    )
    temperatures = np.concatenate([piece.temperature for piece in pieces])
    everything = [
        np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("items", "score", "texts")
    ]
    for value in sorted(np.unique(temperatures), key=lambda value: (not np.isnan(value), value)):
        if query.temperature not in {None, as_temperature(value)}:
            continue
        here = np.isnan(temperatures) if np.isnan(value) else temperatures == value
        of_items, of_scores, of_texts = (column[here][::-1] for column in everything)
        items, rows = np.unique(of_items, return_inverse=True)
        used, columns = np.unique(passes[here][::-1], return_inverse=True)
        scores = np.full((items.size, used.size), np.nan)
        answers = np.full(scores.shape, ABSENT, dtype=np.int64)
        # Written backwards, so that the first of two stays.
        scores[rows, columns] = np.where(np.isinf(of_scores), np.nan, of_scores)
        answers[rows, columns] = of_texts
        named = [labels[place] for place in used.tolist()]
        names = tuple(label if rerun == NO_SEED else f"{label} seed {rerun}" for label, _, rerun in named)
        seeds = tuple(None if rerun == NO_SEED else rerun for _, _, rerun in named)
        found_items = task.named(items)
        yield RepeatedAnswers(model, info, as_temperature(value), names, seeds, found_items, scores, answers)
