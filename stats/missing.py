"""Answers that were planned and are not there, and what the drop would be at best and at worst with them.

A variant that fails on the items it would get wrong looks as good as its baseline on the items that pair. So
a certificate has to hold when every missing or failed answer of either model is a loss of the variant: a
missing answer of the variant gets the lowest possible score, one of the baseline the highest, within the mean
over an item's reruns too (Manski 2003 on such bounds). Only the items concerned are kept.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.arrays import EvidenceError, Floats, Ints
from stats.scores import TaskScores, from_reruns

Case: TypeAlias = Literal["best", "worst"]
Sides: TypeAlias = tuple[Floats, Floats]


@dataclass(frozen=True)
class SideAnswers:
    """What one model answered of all planned items of a task.

    Attributes:
        means: mean over the reruns that have a score, shape (N,); NaN where none has.
        answered: reruns that have a score, shape (N,).
        planned: reruns planned for each item, at least 1.
        failed: answers that are errors, of all items together.
    """

    means: Floats
    answered: Ints
    planned: int
    failed: int = 0

    def filled(self, score: float) -> Floats:
        """Means over the planned reruns with every missing one at this score, shape (N,)."""
        planned = np.maximum(self.answered, self.planned)
        known = np.where(self.answered > 0, self.means, 0.0) * self.answered
        means: Floats = (known + score * (planned - self.answered)) / planned
        return means

    @property
    def gaps(self) -> Ints:
        """Planned answers that have no score, shape (N,)."""
        return np.maximum(self.planned - self.answered, 0)


@dataclass(frozen=True)
class MissingAnswers:
    """What is missing of one task, for one variant and its baseline.

    Attributes:
        task: its name.
        missing: planned answers that are not there and did not fail, (baseline, variant).
        failed: answers that are errors, (baseline, variant).
        positions: where among the pairs the items stand that lack reruns, shape (m,).
        items: k, planned items without a pair.
        worst: (baseline, variant) scores of those m pairs, then of the k items, as bad for the variant as
            possible, shape (m + k,) each; None where scores have no bounds.
        best: the same, as good for the variant as possible.
        clusters: labels of the k items, None where items are independent.
        links: labels of the k items over tasks, as in `TaskScores`.
        bounds: least and greatest possible score.
        higher_is_better: direction of the metric.
    """

    task: str
    missing: tuple[int, int]
    failed: tuple[int, int]
    positions: Ints
    items: int
    worst: Sides | None
    best: Sides | None
    clusters: NDArray[np.generic] | None = None
    links: NDArray[np.generic] | None = None
    bounds: tuple[float, float] | None = (0.0, 1.0)
    higher_is_better: bool = True

    def completed(self, task: TaskScores | None, case: Case) -> TaskScores | None:
        """The task on all planned items, with missing scores filled in.

        Args:
            task: the pairs; None where nothing pairs.
            case: "worst" or "best" for the variant.

        Returns:
            None where scores have no bounds: nothing is the worst then.
        """
        sides = self.worst if case == "worst" else self.best
        if sides is None:
            return None
        details: dict[str, Any] = {"higher_is_better": self.higher_is_better, "bounds": self.bounds}
        if task is None:
            return TaskScores(self.task, *sides, clusters=self.clusters, links=self.links, **details)
        baseline = _filled(task.baseline, self.positions, sides[0])
        variant = _filled(task.variant, self.positions, sides[1])
        clusters = self._extended(task.clusters, self.clusters)
        links = self._extended(task.links, self.links)
        return TaskScores(
            self.task, baseline, variant, clusters=clusters, links=links, reruns=task.reruns, **details
        )

    def _extended(
        self, labels: NDArray[np.generic] | None, more: NDArray[np.generic] | None
    ) -> NDArray[np.generic] | None:
        """Labels of the pairs and of the items without one, which are blocks of their own if unlabelled."""
        if labels is None or not self.items:
            return labels
        if more is None:
            own = [f"missing {number} of {self.task}" for number in range(self.items)]
            labels, more = labels.astype(np.str_), np.array(own)
        extended: NDArray[np.generic] = np.concatenate([labels, more])
        return extended


def missing_answers(
    task: str,
    baseline: SideAnswers,
    variant: SideAnswers,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    higher_is_better: bool = True,
    clusters: NDArray[np.generic] | None = None,
    links: NDArray[np.generic] | None = None,
) -> MissingAnswers | None:
    """Collect what is missing of one task.

    Args:
        task: its name.
        baseline: its answers to all N planned items; the pairs are those that both answered, in this order.
        variant: the same of the variant.
        bounds: least and greatest possible score, None where there are none.
        higher_is_better: direction of the metric.
        clusters: one label per planned item, shape (N,).
        links: one label per planned item, comparable over tasks, shape (N,).

    Returns:
        None where nothing is missing.

    Raises:
        EvidenceError: if the two models' items differ in number.
    """
    if baseline.answered.shape != variant.answered.shape:
        raise EvidenceError(f"Task {task!r} has different numbers of planned items for the two models.")
    gaps = (baseline.gaps, variant.gaps)
    if not (gaps[0].any() or gaps[1].any()):
        return None
    paired = (baseline.answered > 0) & (variant.answered > 0)
    partial = paired & ((gaps[0] > 0) | (gaps[1] > 0))
    concerned = np.concatenate([np.flatnonzero(partial), np.flatnonzero(~paired)])
    failed = (baseline.failed, variant.failed)
    worst = best = None
    if bounds is not None:
        low, high = bounds if higher_is_better else bounds[::-1]
        worst = (baseline.filled(high)[concerned], variant.filled(low)[concerned])
        best = (baseline.filled(low)[concerned], variant.filled(high)[concerned])
    return MissingAnswers(
        task=task,
        missing=(max(int(gaps[0].sum()) - failed[0], 0), max(int(gaps[1].sum()) - failed[1], 0)),
        failed=failed,
        positions=np.flatnonzero(partial[paired]),
        items=int((~paired).sum()),
        worst=worst,
        best=best,
        clusters=None if clusters is None else np.asarray(clusters)[~paired],
        links=None if links is None else np.asarray(links)[~paired],
        bounds=bounds,
        higher_is_better=higher_is_better,
    )


def lacking_of(task: TaskScores) -> MissingAnswers | None:
    """What a task says of its missing answers: those collected, or as many unknown items as it counts."""
    if task.lacking is not None or not task.missing:
        return task.lacking
    nothing = SideAnswers(np.full(task.missing, np.nan), np.zeros(task.missing, dtype=np.int64), 1)
    unknown = missing_answers(
        task.task, nothing, nothing, bounds=task.bounds, higher_is_better=task.higher_is_better
    )
    # One answer of a pair is missing, not known whose: counted once, as the variant's.
    return None if unknown is None else replace(unknown, missing=(0, task.missing))


def _filled(pairs: Floats, positions: Ints, known: Floats) -> Floats:
    """The pairs' scores with those at the positions replaced and the further ones appended."""
    scores = pairs.copy()
    scores[positions] = known[: positions.size]
    return np.concatenate([scores, known[positions.size :]])


def paired_scores(
    task: str,
    baseline: ArrayLike,
    variant: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    higher_is_better: bool = True,
    margin: float | None = None,
) -> TaskScores:
    """Pair two models' scores on all planned items, and keep what is missing of them.

    Args:
        task: its name.
        baseline: shape (N,), or (N, K_B) with a column per rerun; NaN where an answer is missing.
        variant: shape (N,), or (N, K_V); NaN where an answer is missing.
        clusters: one label per planned item, shape (N,).
        bounds: least and greatest possible score, None where there are none.
        higher_is_better: direction of the metric.
        margin: largest acceptable drop in the metric's own unit, for scores without bounds only.

    Raises:
        EvidenceError: if the shapes do not fit, or no item has a score of both models.
    """
    first, second = (_as_columns(scores, task) for scores in (baseline, variant))
    labels = None if clusters is None else np.asarray(clusters)
    if len(first) != len(second) or (labels is not None and labels.shape != (len(first),)):
        raise EvidenceError(
            f"Task {task!r} has {len(first)} items of the baseline and {len(second)} of the variant"
            + (
                ", but the numbers must be equal."
                if labels is None
                else f" and {labels.size} cluster labels."
            )
        )
    sides = [_side(scores) for scores in (first, second)]
    paired = (sides[0].answered > 0) & (sides[1].answered > 0)
    if not paired.any():
        raise EvidenceError(f"Task {task!r} has no item with scores of both models.")
    lacking = missing_answers(task, *sides, bounds=bounds, higher_is_better=higher_is_better, clusters=labels)
    return from_reruns(
        task,
        first[paired],
        second[paired],
        clusters=None if labels is None else labels[paired],
        bounds=bounds,
        higher_is_better=higher_is_better,
        missing=int((~paired).sum()),
        lacking=lacking,
        margin=margin,
    )


def _as_columns(scores: ArrayLike, task: str) -> Floats:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim not in {1, 2} or not array.size:
        raise EvidenceError(
            f"Scores of task {task!r} have the shape {array.shape}; pass (items,) or (items, reruns)."
        )
    return array.reshape(len(array), -1)


def _side(scores: Floats) -> SideAnswers:
    answered = np.count_nonzero(~np.isnan(scores), axis=1)
    total = np.nansum(scores, axis=1)
    means = np.divide(total, answered, out=np.full(len(scores), np.nan), where=answered > 0)
    return SideAnswers(means, answered, planned=scores.shape[1])
