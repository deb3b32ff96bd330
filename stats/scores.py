"""Paired item scores of one task, as shares of the metric's range; a positive difference is worse.

Fixing unit and direction once, on entry, is what keeps an effect size, a margin and a minimal detectable
effect comparable everywhere after.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.arrays import EvidenceError, Floats, as_scores, block_sums

if TYPE_CHECKING:
    from stats.missing import MissingAnswers

SLACK = 1e-9


@dataclass(frozen=True)
class TaskScores:
    """What two models scored on the common items of one task.

    Attributes:
        task: its name.
        baseline: mean score per item over the baseline's reruns, shape (n,).
        variant: the same for the variant, items in the same order.
        items: identity of each item, shape (n,); tells which items several variants share. None where all
            variants have the same items in the same order.
        clusters: one label per item where items are not independent of each other, shape (n,).
        higher_is_better: direction of the metric.
        bounds: least and greatest possible score; None for scores without bounds, which are left unscaled.
        reruns: how many reruns the means are over, (baseline, variant).
        missing: items that do not pair.
        lacking: which answers are missing of those and of the pairs (`stats.missing`); without it, nothing is
            known of the missing items.
        margin: largest acceptable drop in the metric's own unit, for scores without bounds only.

    Raises:
        EvidenceError: if there are no items, the shapes differ, or scores are not finite or out of bounds.
    """

    task: str
    baseline: Floats
    variant: Floats
    items: NDArray[np.generic] | None = None
    clusters: NDArray[np.generic] | None = None
    higher_is_better: bool = True
    bounds: tuple[float, float] | None = (0.0, 1.0)
    reruns: tuple[int, int] = (1, 1)
    missing: int = 0
    lacking: "MissingAnswers | None" = None
    margin: float | None = None

    def __post_init__(self) -> None:
        for field in ("baseline", "variant"):
            scores = as_scores(getattr(self, field), f"{field} scores of task {self.task!r}")
            self._check_bounds(scores, field)
            object.__setattr__(self, field, scores)
        for name, array in (("variant", self.variant), ("items", self.items), ("clusters", self.clusters)):
            if array is not None and np.shape(array) != self.baseline.shape:
                raise EvidenceError(
                    f"Task {self.task!r} has {self.baseline.size} baseline scores but {np.size(array)} "
                    f"{name} entries."
                )
        if self.items is not None and np.unique(self.items).size != self.items.size:
            raise EvidenceError(f"Task {self.task!r} lists an item more than once; average reruns first.")
        if self.margin is not None and (self.bounds is not None or not self.margin > 0.0):
            raise EvidenceError(
                f"Task {self.task!r} has a margin of {self.margin:g} of its own: that must be positive, and is "
                "for scores without bounds; others share the margin of the comparison."
            )

    def _check_bounds(self, scores: Floats, field: str) -> None:
        if self.bounds is None:
            return
        low, high = self.bounds
        if not low < high:
            raise EvidenceError(f"Bounds of task {self.task!r} are {low} and {high}, which is no range.")
        slack = SLACK * (high - low)
        if scores.min() < low - slack or scores.max() > high + slack:
            raise EvidenceError(
                f"{field} scores of task {self.task!r} lie between {scores.min():g} and {scores.max():g}, "
                f"outside of [{low:g}, {high:g}]."
            )

    @property
    def reach(self) -> float:
        """Largest possible |difference| of one item, in shares of the range."""
        return 1.0 if self.bounds is not None else float("inf")

    def share(self, scores: Floats) -> Floats:
        """Scores as shares of the metric's range; as they are where it has no bounds."""
        if self.bounds is None:
            return scores
        low, high = self.bounds
        return (scores - low) / (high - low)

    @cached_property
    def differences(self) -> Floats:
        """How much worse the variant is per item, in shares of the range, shape (n,)."""
        width = 1.0 if self.bounds is None else self.bounds[1] - self.bounds[0]
        sign = 1.0 if self.higher_is_better else -1.0
        gaps = sign * (self.baseline - self.variant) / width
        return np.where(np.abs(gaps) > SLACK, gaps, 0.0) if self.bounds is not None else gaps

    @cached_property
    def block_sums(self) -> Floats:
        """Differences added up over each cluster, shape (G,)."""
        return block_sums(self.differences, self.clusters)

    @cached_property
    def block_sizes(self) -> Floats:
        """Items in each cluster, shape (G,)."""
        return block_sums(np.ones_like(self.differences), self.clusters)

    @cached_property
    def block_keys(self) -> NDArray[np.generic]:
        """Identity of each block across variants: cluster label, else item, else position, shape (G,)."""
        if self.clusters is not None:
            return np.unique(self.clusters)
        return np.arange(self.baseline.size) if self.items is None else self.items

    @property
    def binary(self) -> bool:
        """Whether every item is simply right or wrong for both models."""
        if self.bounds is None:
            return False
        return all(np.isin(scores, self.bounds).all() for scores in (self.baseline, self.variant))

    @property
    def worse(self) -> int:
        """Items on which the variant is worse."""
        return int(np.count_nonzero(self.differences > 0.0))

    @property
    def better(self) -> int:
        """Items on which the variant is better."""
        return int(np.count_nonzero(self.differences < 0.0))


def from_reruns(task: str, baseline: ArrayLike, variant: ArrayLike, **details: object) -> TaskScores:
    """Average the reruns of every item first, so that repeats of an item never count as items.

    Args:
        task: its name.
        baseline: shape (n, K_B); NaN where a rerun is missing.
        variant: shape (n, K_V); NaN where a rerun is missing.
        **details: further fields of `TaskScores`.

    Raises:
        EvidenceError: if an item has no score at all in one of the models.
    """
    first, second = (np.asarray(scores, dtype=np.float64) for scores in (baseline, variant))
    if np.isnan(first).all(axis=1).any() or np.isnan(second).all(axis=1).any():
        raise EvidenceError(f"Task {task!r} has items without any score in one of the models.")
    reruns = (first.shape[1], second.shape[1])
    means = (np.nanmean(first, axis=1), np.nanmean(second, axis=1))
    return TaskScores(task, *means, reruns=reruns, **details)  # type: ignore[arg-type]
