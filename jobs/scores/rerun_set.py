"""The form in which reruns are looked at one by one: scores and answers by item and pass over the items.

A pass is a seed in a run directory, an evaluation or one of its epochs in the logs of other tools. The same
seed in two directories is two passes here, since how often a repeated answer changes is the very question.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jobs.formats.run_files import RunFiles
from jobs.formats.samples import Temperature, as_temperature
from jobs.formats.tables import ABSENT, NO_SEED, TaskTables
from jobs.scores.score_set import TaskInfo
from stats.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class RepeatedAnswers:
    """One model on one task at one temperature."""

    variant: str  # the model's name
    info: TaskInfo  # the task, its metric and direction
    temperature: Temperature  # sampling temperature, None if unknown
    runs: tuple[str, ...]  # what to call each run; R of them
    seeds: tuple[int | None, ...]  # the seed of each run, None where nothing was sampled or it is unknown
    items: NDArray[np.generic]  # identifiers, ascending, shape (n,)
    scores: Floats  # NaN where there is no score, shape (n, R)
    answers: Ints  # a number for every distinct answer of the task, ABSENT where there is none, shape (n, R)

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
    """Everything read."""

    cells: tuple[RepeatedAnswers, ...]  # by variant, task and temperature, in the order of the input
    baseline: str | None = None  # the baseline that the input names; None where it names none, or several
    runs: tuple[RunFiles, ...] = ()  # the run directories; none where the input was another tool's


def repeated_answers(
    task: TaskTables, model: str, info: TaskInfo, only: Temperature = None
) -> Iterator[RepeatedAnswers]:
    """Answers of a model to a task, by temperature or at one only; of two in one place the first counts."""
    pieces = list(task.answers(model, info.metric, "response"))
    if not pieces:
        return
    passes: dict[tuple[str, int, int], int] = {}
    numbers = []
    for piece in pieces:
        reruns, codes = np.unique(piece.rerun, return_inverse=True)
        keys = [(piece.label, piece.part, rerun) for rerun in reruns.tolist()]
        numbers.append(np.array([passes.setdefault(key, len(passes)) for key in keys])[codes])
    order = sorted(passes)
    place = np.empty(len(passes), dtype=np.int64)
    place[[passes[key] for key in order]] = np.arange(len(passes))
    columns = [np.concatenate([getattr(p, name) for p in pieces]) for name in ("items", "score", "texts")]
    columns.append(place[np.concatenate(numbers)])
    temperatures = np.concatenate([piece.temperature for piece in pieces])
    for value in sorted(np.unique(temperatures), key=lambda value: (not np.isnan(value), value)):
        if only not in {None, as_temperature(value)}:
            continue
        here = np.isnan(temperatures) if np.isnan(value) else temperatures == value
        of_items, of_scores, of_texts, of_passes = (column[here][::-1] for column in columns)
        items, rows = np.unique(of_items, return_inverse=True)
        used, cells = np.unique(of_passes, return_inverse=True)
        scores = np.full((items.size, used.size), np.nan)
        answers = np.full(scores.shape, ABSENT, dtype=np.int64)
        # Written backwards, so that the first of two stays.
        scores[rows, cells] = np.where(np.isinf(of_scores), np.nan, of_scores)
        answers[rows, cells] = of_texts
        named = [order[number] for number in used.tolist()]
        yield RepeatedAnswers(
            model,
            info,
            as_temperature(value),
            tuple(label if rerun == NO_SEED else f"{label} seed {rerun}" for label, _, rerun in named),
            tuple(None if rerun == NO_SEED else rerun for _, _, rerun in named),
            task.named(items),
            scores,
            answers,
        )
