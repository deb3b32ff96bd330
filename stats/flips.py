"""Which items flip: between two models, between reruns of one model, and in the text behind the score.

An item that never flips carries no information about a degradation, so a benchmark can be cut to those that
do, provided the runs that chose them are not used again: items chosen because the baseline happened to get
them right in those runs fall back towards their mean, and the fall looks like damage.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Bools, EvidenceError, Floats, Ints


@dataclass(frozen=True)
class FlipTable:
    """Right and wrong answers of two models on the same items.

    Attributes:
        both_right: a.
        worse: b, baseline right and variant wrong.
        better: c, baseline wrong and variant right.
        both_wrong: d.
    """

    both_right: int
    worse: int
    better: int
    both_wrong: int

    @property
    def items(self) -> int:
        """All pairs."""
        return self.both_right + self.worse + self.better + self.both_wrong

    @property
    def net(self) -> float:
        """(b − c)/N, the drop."""
        return (self.worse - self.better) / self.items

    @property
    def gross(self) -> float:
        """(b + c)/N, the flip rate."""
        return (self.worse + self.better) / self.items


def flip_table(baseline: ArrayLike, variant: ArrayLike) -> FlipTable:
    """Count the four outcomes.

    Args:
        baseline: whether the baseline is right, shape (n,).
        variant: whether the variant is right, shape (n,).

    Raises:
        EvidenceError: if there are no items or the shapes differ.
    """
    first, second = _paired(np.asarray(baseline, dtype=bool), np.asarray(variant, dtype=bool))
    return FlipTable(
        int((first & second).sum()),
        int((first & ~second).sum()),
        int((~first & second).sum()),
        int((~first & ~second).sum()),
    )


@dataclass(frozen=True)
class Stability:
    """How often one model is right on each item over R runs.

    Attributes:
        histogram: items with 0, 1, … R successes, shape (R + 1,).
        always_right: items right in every run.
        always_wrong: items wrong in every run.
        flipping: all others.
    """

    histogram: Ints
    always_right: int
    always_wrong: int
    flipping: int

    @property
    def never_flip_share(self) -> float:
        """Share of items that are always right or always wrong."""
        return 1.0 - self.flipping / int(self.histogram.sum())


def stability(right: ArrayLike) -> Stability:
    """Count successes per item over the runs of one model.

    Args:
        right: whether the answer is right, shape (n, R).

    Raises:
        EvidenceError: if there are no items or no runs.
    """
    answers = _runs(right)
    runs = answers.shape[1]
    histogram: Ints = np.bincount(answers.sum(axis=1), minlength=runs + 1).astype(np.int64)
    steady = int(histogram[0] + histogram[runs])
    return Stability(histogram, int(histogram[runs]), int(histogram[0]), answers.shape[0] - steady)


def flipping_items(right: ArrayLike) -> Bools:
    """The items of a subset: those that are neither always right nor always wrong.

    Args:
        right: whether the *baseline* is right, shape (n, R).

    Returns:
        Shape (n,).
    """
    successes = _runs(right).sum(axis=1)
    chosen: Bools = (successes > 0) & (successes < np.asarray(right).shape[1])
    return chosen


def refuse_reused_runs(chosen_by: Collection[str], tested: Collection[str]) -> None:
    """Refuse to test on the runs that chose the subset.

    Args:
        chosen_by: names of the runs from which the subset was chosen.
        tested: names of the runs to be tested.

    Raises:
        EvidenceError: if a run is in both.
    """
    both = sorted(set(chosen_by) & set(tested))
    if both:
        raise EvidenceError(
            f"Runs {', '.join(both)} chose this subset and cannot be tested on it: items chosen because they "
            "flipped in them regress to their mean, which looks like a drop; use fresh runs of the baseline."
        )


@dataclass(frozen=True)
class Churn:
    """How many answers changed, regardless of their scores.

    Attributes:
        changed: items whose answer differs.
        changed_same_score: those among them whose score does not.
        wrong_to_different_wrong: those among them that are wrong both times.
        items: all items.
    """

    changed: int
    changed_same_score: int
    wrong_to_different_wrong: int
    items: int


def churn(
    baseline_answers: ArrayLike, variant_answers: ArrayLike, baseline_scores: Floats, variant_scores: Floats
) -> Churn:
    """Count changed answers.

    Args:
        baseline_answers: the answers themselves (text or choice), shape (n,).
        variant_answers: the same for the variant.
        baseline_scores: 1 where right, shape (n,).
        variant_scores: the same for the variant.

    Raises:
        EvidenceError: if there are no items or the shapes differ.
    """
    first, second = _paired(np.asarray(baseline_answers), np.asarray(variant_answers))
    before, after = _paired(baseline_scores, variant_scores)
    _paired(first, before)
    changed = first != second
    same = changed & (before == after)
    wrong = same & (before == 0.0)
    return Churn(int(changed.sum()), int(same.sum()), int(wrong.sum()), first.size)


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if first.shape != second.shape or first.ndim != 1:
        raise EvidenceError(
            f"Pairs need one value per item and side, but the shapes are {first.shape} and {second.shape}."
        )
    if first.size == 0:
        raise EvidenceError("There are no items to pair: without data there is no verdict.")
    return first, second


def _runs(right: ArrayLike) -> Bools:
    answers = np.asarray(right, dtype=bool)
    if answers.ndim != 2 or answers.size == 0:
        raise EvidenceError(f"Answers over runs must have the shape (items, runs), but have {answers.shape}.")
    return answers
