"""A baseline and a variant side by side at one temperature, task by task: what pairs, and what does not.

A missing answer is never counted as zero and never silently ignored: the statistics receive every planned
item, so that a certificate holds for any value of the missing answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Temperature
from jobs.scores.score_set import Column, ScoreSet, TaskInfo, TaskTable
from stats.arrays import Floats, Ints
from stats.scores import MissingAnswers, SideAnswers, TaskScores, missing_answers

MOST_ITEMS = 30
"""Bits of the number of an item that no file lists; those before them tell its task."""

Sides = tuple[Column, Column]


@dataclass(frozen=True)
class Pair:
    """One task on which both models have answers.

    Attributes:
        info: name, metric, direction and group of the task.
        scores: the common items.
    """

    info: TaskInfo
    scores: TaskScores


@dataclass(frozen=True)
class PairedTask:
    """One task of a pairing.

    Attributes:
        info: name, metric, direction and group of the task.
        sides: what both models answered, as it was read.
        pair: the common items; None where there is none.
        lacking: which answers are missing; None where all are there.
        missing: items that do not pair.
        other_prompts: common items that were asked with different prompts.
    """

    info: TaskInfo
    sides: Sides
    pair: Pair | None
    lacking: MissingAnswers | None
    missing: int
    other_prompts: int

    def marked(self, code: NoticeCode, side: int) -> int:
        """Of how many scored answers of the baseline (0) or the variant (1) a notice holds."""
        return int(np.sum(self.sides[side].marked.get(code, 0)))

    def scored(self, side: int) -> int:
        """All scored answers of the baseline (0) or the variant (1)."""
        return int(self.sides[side].answers.sum())

    def is_silent(self, side: int) -> bool:
        """Whether there are answers, and all of them are empty."""
        return 0 < self.scored(side) == self.marked(NoticeCode.EMPTY_ANSWERS, side)

    @property
    def is_uneven(self) -> bool:
        """Whether one model has fewer reruns than the other, without a plan that says so."""
        first, second = self.sides
        return (
            self.pair is not None and not (first.planned or second.planned) and first.reruns != second.reruns
        )


@dataclass
class Pairing:
    """A variant beside its baseline at one temperature.

    Attributes:
        baseline: name of the baseline.
        variant: its name.
        temperature: the common temperature, None if unknown.
        tasks: those that one of the models was asked at this temperature.
        warnings: what does not pair; see `jobs.analysis.pairing_notes`.
    """

    baseline: str
    variant: str
    temperature: Temperature
    tasks: list[PairedTask]
    warnings: list[Notice] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name and temperature for a sentence."""
        at = "" if self.temperature is None else f" at temperature {self.temperature:g}"
        return f"{self.variant}{at}"

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Tasks with at least one common item."""
        return tuple(task.pair for task in self.tasks if task.pair is not None)

    @property
    def gaps(self) -> tuple[MissingAnswers, ...]:
        """What is missing, by task."""
        return tuple(task.lacking for task in self.tasks if task.lacking is not None)

    @property
    def absent(self) -> tuple[MissingAnswers, ...]:
        """What is missing of the tasks without a common item."""
        return tuple(t.lacking for t in self.tasks if t.lacking is not None and t.pair is None)

    @property
    def missing(self) -> int:
        """Items that do not pair, those of tasks that do not pair at all included."""
        return sum(task.missing for task in self.tasks)

    @property
    def owed(self) -> int:
        """Samples that were asked for and are not there, of both models."""
        return sum(side.owed for task in self.tasks for side in task.sides)

    @property
    def withheld(self) -> tuple[int, int]:
        """Answers that a provider withheld, (baseline, variant)."""
        baseline, variant = (sum(task.sides[side].withheld for task in self.tasks) for side in (0, 1))
        return baseline, variant

    @property
    def common(self) -> int:
        """Items that pair, over all tasks."""
        return sum(pair.scores.baseline.size for pair in self.pairs)

    @property
    def common_share(self) -> float:
        """Common items as a share of all that should have paired."""
        return self.common / (self.common + self.missing)

    @property
    def has_gaps(self) -> bool:
        """Whether anything that one of the models should have answered is missing or failed."""
        return bool(self.gaps or not self.pairs or any(task.is_uneven for task in self.tasks))

    @property
    def is_silent(self) -> bool:
        """Whether all answers of one of the models to some task are empty."""
        return any(task.is_silent(side) for task in self.tasks for side in (0, 1))


def pair_tasks(
    scores: ScoreSet, baseline: str, variant: str, temperature: Temperature, cluster: str | None
) -> Iterator[PairedTask]:
    """Lay the columns of two models side by side.

    Args:
        scores: all scores.
        baseline: name of the baseline.
        variant: name of the variant.
        temperature: at which both are compared.
        cluster: "none", "task", or anything else for the clusters of the input.
    """
    for table in scores.tasks:
        first, second = (table.columns.get((model, temperature)) for model in (baseline, variant))
        if first is not None or second is not None:
            zeros = np.zeros(len(table.items), dtype=np.int64)
            nothing = Column(np.full(zeros.size, np.nan), zeros, zeros - 1, reruns=0)
            unlisted = max(table.unlisted.get(model, 0) for model in (baseline, variant))
            yield _paired(table, (first or nothing, second or nothing), cluster, unlisted)


def _paired(table: TaskTable, sides: Sides, cluster: str | None, unlisted: int) -> PairedTask:
    """One task.

    Args:
        table: the task.
        sides: both models' columns.
        cluster: as above.
        unlisted: items that one of the models was evaluated on and that no file lists.
    """
    first, second = heard = (_unless_silent(sides[0]), _unless_silent(sides[1]))
    common, wanted = first.answered & second.answered, np.ones(len(table.items), dtype=np.bool_)
    if not table.planned:  # then the items are all that one model answered
        wanted = first.answered | second.answered
    clusters = np.zeros(wanted.size, dtype=np.int64) if cluster == "task" else table.clusters
    links = None if cluster in {"none", "task"} else table.links
    if cluster == "none":
        clusters = None
    lacking = missing_answers(
        table.info.name,
        _side(first, wanted, unlisted),
        _side(second, wanted, unlisted),
        bounds=table.info.bounds,
        higher_is_better=table.info.higher_is_better,
        clusters=_extended(table, clusters, wanted, unlisted),
        links=_extended(table, links, wanted, unlisted),
    )
    missing = int(wanted.sum() - common.sum()) + unlisted
    if not common.any():
        return PairedTask(table.info, sides, None, lacking, missing, 0)
    known = common & (first.prompts != -1) & (second.prompts != -1)
    answers, runs = (first.answers[common], second.answers[common]), None
    are_unequal = not np.array_equal(*answers)
    if are_unequal and any(column.runs is not None for column in heard):  # else means and numbers say all
        runs = _single_scores(first)[common], _single_scores(second)[common]
    scores = TaskScores(
        task=table.info.name,
        baseline=first.scores[common],
        variant=second.scores[common],
        items=table.items[common],
        clusters=None if clusters is None else clusters[common],
        higher_is_better=table.info.higher_is_better,
        bounds=table.info.bounds,
        reruns=(first.reruns, second.reruns),
        missing=missing,
        answers=answers if are_unequal else None,
        runs=runs,
        links=None if links is None else links[common],
        lacking=lacking,
        margin=table.info.margin,
    )
    other_prompts = int((first.prompts != second.prompts)[known].sum())
    return PairedTask(table.info, sides, Pair(table.info, scores), lacking, missing, other_prompts)


def _unless_silent(column: Column) -> Column:
    """A column whose answers count as failed if all of them are empty.

    Then something is wrong with the way the model is asked, and two models that say nothing are not alike.
    """
    answers = column.answers
    empty = column.marked.get(NoticeCode.EMPTY_ANSWERS, 0)
    if not answers.any() or int(np.sum(empty)) < int(answers.sum()):
        return column
    return replace(
        column,
        scores=np.full(len(answers), np.nan),
        answers=np.zeros_like(answers),
        errors=column.errors + int(answers.sum()),
        failed=answers if column.failed is None else column.failed + answers,
        runs=None,
    )


def _side(column: Column, wanted: NDArray[np.bool_], unlisted: int) -> SideAnswers:
    return SideAnswers(
        means=np.concatenate([column.scores[wanted], np.full(unlisted, np.nan)]),
        answered=np.concatenate([column.answers[wanted], np.zeros(unlisted, dtype=np.int64)]),
        planned=max(1, column.planned or column.reruns),
        failed=column.errors,
    )


def _extended(table: TaskTable, labels: Ints | None, wanted: NDArray[np.bool_], unlisted: int) -> Ints | None:
    """Labels of the wanted items, and of items that no file lists, each of which is on its own."""
    if labels is None:
        return None
    first = crc32(table.info.name.encode()) << MOST_ITEMS
    extended: Ints = np.concatenate([labels[wanted], -1 - first - np.arange(unlisted)])
    return extended


def _single_scores(column: Column) -> Floats:
    """Scores of the runs, shape (items, reruns), of a right-or-wrong model from how many are right."""
    if column.runs is not None:
        return column.runs
    right = np.rint(np.where(column.answered, column.scores * column.answers, 0.0))[:, None]
    position = np.arange(column.reruns)
    scores = np.where(position < right, 1.0, 0.0)
    single: Floats = np.where(position < column.answers[:, None], scores, np.nan)
    return single
