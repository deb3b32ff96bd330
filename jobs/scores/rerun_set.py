"""The form in which reruns are looked at one by one: scores and answers by item and run.

A run is one pass over the items: a seed in a run directory, an evaluation or one of its epochs in the logs of
other tools. The same seed in two directories is two runs here, since how often a repeated answer changes is
the very question.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.formats.columns import Columns
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import Temperature
from jobs.scores.score_set import TaskInfo
from orchestrator.errors import UserError
from stats.arrays import Bools, Floats, Ints

ABSENT = -1


@dataclass(frozen=True)
class Wanted:
    """What to read; None and empty mean everything.

    Attributes:
        metrics: metric by task, group or pattern.
        variant: one variant only.
        task: one task only.
        temperature: one temperature only.
        columns: which columns of JSON Lines and CSV files mean what, if the user says so.
    """

    metrics: Mapping[str, str]
    variant: str | None = None
    task: str | None = None
    temperature: Temperature = None
    columns: Columns | None = None

    def refuse_unknown(self, tasks: Sequence[str], variants: Sequence[str]) -> None:
        """Refuse a task or a variant that is not there.

        Raises:
            UserError: naming it, and what there is.
        """
        if self.task is not None and self.task not in tasks:
            raise UserError(f"There is no task {self.task!r}; the tasks are {some(tasks, 20)}.")
        if self.variant is not None and self.variant not in variants:
            raise UserError(f"There is no variant {self.variant!r}; the variants are {some(variants, 20)}.")


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


@dataclass(frozen=True)
class Samples:
    """The samples of one model on one task at one temperature; all arrays have shape (samples,).

    Attributes:
        items: identifiers of the items.
        runs: index of the run of each sample.
        scores: NaN where there is none.
        answers: a number for every distinct answer of the task, ABSENT where there is none.
    """

    items: NDArray[np.generic]
    runs: Ints
    scores: Floats
    answers: Ints


def lay_out(
    variant: str,
    info: TaskInfo,
    temperature: Temperature,
    runs: Sequence[tuple[str, int | None]],
    samples: Samples,
) -> RepeatedAnswers:
    """Samples in any order as a table by item and run; of two samples in one place the first counts.

    Args:
        variant: the model's name.
        info: the task.
        temperature: sampling temperature.
        runs: what to call each run, and its seed; runs without samples are left out.
        samples: the samples.
    """
    items, rows = np.unique(samples.items, return_inverse=True)
    used, columns = np.unique(samples.runs, return_inverse=True)
    scores = np.full((items.size, used.size), np.nan)
    answers = np.full(scores.shape, ABSENT, dtype=np.int64)
    # Written backwards, so that the first of two stays.
    scores[rows[::-1], columns[::-1]] = samples.scores[::-1]
    answers[rows[::-1], columns[::-1]] = samples.answers[::-1]
    named = [runs[run] for run in used.tolist()]
    names = tuple(name if seed is None else f"{name} seed {seed}" for name, seed in named)
    return RepeatedAnswers(
        variant, info, temperature, names, tuple(seed for _, seed in named), items, scores, answers
    )


def chosen_answer(response: str | None) -> Hashable:
    """Which choice a response to a log-likelihood task favours.

    Args:
        response: a JSON list of [log-likelihood, is greedy], one per choice.
    """
    try:
        return favoured(json.loads(response or ""))
    except (ValueError, RecursionError):
        return response


def favoured(choices: Sequence[Any]) -> Hashable:
    """What [[log-likelihood, is greedy], …] comes to: the likeliest choice; of a single one, if it is greedy.

    Returns:
        The choices themselves as text where they are not such a list.
    """
    try:
        likelihoods = [float(choice[0]) for choice in choices]
        return str(choices[0][1]) if len(choices) == 1 else int(np.argmax(likelihoods))
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return json.dumps(choices)
