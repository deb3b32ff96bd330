"""The answers of one model to one task, every run of it beside the others.

A run is one pass over the items: a seed in a run directory, or one evaluation in an lm-eval folder. The same
seed in two directories is two runs here, for how often a repeated answer changes is the very question.
"""

import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.inputs.score_set import TaskInfo, Temperature
from stats.arrays import Bools, Floats, Ints

ABSENT = -1


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


@dataclass
class AnswerSheet:
    """Gathers answers in any order and lays them out by item and run.

    Attributes:
        items: identifier of the item of each answer.
        runs: (name of the run, seed) of each answer.
        scores: score of each answer, NaN for none.
        texts: what was answered.
    """

    items: list[Any] = field(default_factory=list)
    runs: list[tuple[str, int | None]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    texts: list[Hashable] = field(default_factory=list)

    def add(
        self,
        items: Iterable[Any],
        runs: Iterable[tuple[str, int | None]],
        scores: Iterable[float],
        texts: Iterable[Hashable],
    ) -> None:
        """Take in answers; all four have the same length."""
        self.items += items
        self.runs += runs
        self.scores += scores
        self.texts += texts

    def lay_out(
        self, variant: str, info: TaskInfo, temperature: Temperature, codes: dict[Hashable, int]
    ) -> RepeatedAnswers:
        """The answers as a table; of two answers for one place the first counts.

        Args:
            variant: the model's name.
            info: the task.
            temperature: sampling temperature.
            codes: number of each distinct answer, common to all models of the task; new ones are added.
        """
        items, rows = np.unique(np.array(self.items), return_inverse=True)
        runs = sorted(set(self.runs), key=lambda run: (run[0], -1 if run[1] is None else run[1]))
        place = {run: column for column, run in enumerate(runs)}
        columns = np.array([place[run] for run in self.runs])
        scores = np.full((items.size, len(runs)), np.nan)
        answers = np.full(scores.shape, ABSENT, dtype=np.int64)
        numbers = [codes.setdefault(text, len(codes)) for text in self.texts]
        # Written backwards, so that the first of two stays.
        scores[rows[::-1], columns[::-1]] = self.scores[::-1]
        answers[rows[::-1], columns[::-1]] = numbers[::-1]
        names = tuple(name if seed is None else f"{name} seed {seed}" for name, seed in runs)
        seeds = tuple(seed for _, seed in runs)
        return RepeatedAnswers(variant, info, temperature, names, seeds, items, scores, answers)


def chosen_answer(response: str | None) -> Hashable:
    """Which choice a run's response to a log-likelihood task favours.

    Args:
        response: the column `response`, a JSON list.
    """
    try:
        return favoured(json.loads(response or ""))
    except ValueError:
        return response


def favoured(choices: Sequence[Any]) -> Hashable:
    """What [[log-likelihood, is greedy], …] comes to: the likeliest choice; of a single one, if it is greedy.

    Returns:
        The choices themselves as text where they are no such list.
    """
    try:
        likelihoods = [float(choice[0]) for choice in choices]
        return str(choices[0][1]) if len(choices) == 1 else int(np.argmax(likelihoods))
    except (TypeError, ValueError, IndexError, KeyError):
        return json.dumps(choices)
