"""Paired item scores of one task, as shares of the metric's range; a positive difference is worse.

Fixing unit and direction once, on entry, is what keeps an effect size, a margin and a minimal detectable
effect comparable everywhere after.

A variant that fails on the items it would get wrong looks as good as its baseline on the items that pair. So
a certificate has to hold when every missing or failed answer of either model is a loss of the variant: a
missing answer of the variant gets the lowest possible score, one of the baseline the highest, within the mean
over an item's reruns too (Manski 2003 on such bounds).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stats.arrays import LARGEST_SCORE, ROUNDING, Bools, EvidenceError, Floats, Ints, as_scores, block_sums
from stats.distributions.splits import RunSplits
from stats.sharing import merged_labels

SLACK = 1e-9
BALANCED_STEPS = 64  # to a standard deviation of balanced sums
BALANCING = 0.6
"""Power of its size by which a cluster's sum is divided. With ½ clusters of independent items would count
alike, but the level is .06 where one of ten clusters does better; with this it holds (docs/statistics.md)."""

Labels: TypeAlias = NDArray[np.generic]  # one label per item, of any type

Bounds: TypeAlias = tuple[float, float] | None
"""Least and greatest possible score; None for scores without bounds."""

Case: TypeAlias = Literal["best", "worst"]


@dataclass(frozen=True)
class TaskScores:
    """What two models scored on the common items of one task.

    Raises:
        EvidenceError: if there are no items, the shapes differ, or scores are not finite or out of bounds; or
            if means over unequal numbers of runs are no whole numbers of successes and `runs` is missing.
    """

    task: str
    # mean score per item over the model's reruns, shape (n,) each, in the same order
    baseline: Floats
    variant: Floats
    # identity of each item, shape (n,); tells which items several variants share. None where all variants
    # have the same items in the same order.
    items: Labels | None = None
    # one label per item where items are not independent of each other, shape (n,)
    clusters: Labels | None = None
    higher_is_better: bool = True  # direction of the metric
    # least and greatest possible score; None for scores without bounds, which are left unscaled
    bounds: Bounds = (0.0, 1.0)
    reruns: tuple[int, int] = (1, 1)  # how many reruns the means are over, (baseline, variant)
    missing: int = 0  # items that do not pair
    # how many runs each item's two means are over, (baseline, variant), shape (n,) each. None where every
    # item has as many of the one as of the other. Items with unequal numbers are split at random
    # (`stats.distributions.splits`).
    answers: tuple[Ints, Ints] | None = None
    # the single scores behind the means, shapes (n, K_B) and (n, K_V), NaN where a run is missing; read
    # where numbers are unequal. None where every run is right or wrong: mean × number says it all.
    runs: tuple[Floats, Floats] | None = None
    # one label per item, comparable over tasks, shape (n,): items with the same label (one document in two
    # tasks, a cluster that spans tasks) flip together. None where the task shares nothing.
    links: Labels | None = None
    # which answers are missing of those and of the pairs (`stats.scores`); without it, nothing is known of
    # the missing items
    lacking: "MissingAnswers | None" = None
    # largest acceptable drop in the metric's own unit, for scores without bounds only
    margin: float | None = None
    is_direction_known: bool = True  # False where higher is only assumed to be better: nothing is certified

    def __post_init__(self) -> None:
        for name in ("baseline", "variant"):
            scores = as_scores(getattr(self, name), f"{name} scores of task {self.task!r}")
            self._check_bounds(scores, name)
            object.__setattr__(self, name, scores)
        for name in ("variant", "items", "clusters", "links"):
            array = getattr(self, name)
            if array is not None and np.shape(array) != self.baseline.shape:
                said = f"has {self.baseline.size} baseline scores, but {name} has {np.size(array)} entries."
                self._refuse(said)
        if self.answers is not None:
            self._check_runs(self.answers)
        if self.items is not None and np.unique(self.items).size != self.items.size:
            self._refuse("lists an item more than once; average reruns first.")
        if self.margin is not None and (self.bounds is not None or not self.margin > 0.0):
            self._refuse(
                f"has a margin of {self.margin:g} in its own unit: it must be positive, and is only allowed "
                "for scores without bounds."
            )

    def _refuse(self, why: str) -> NoReturn:
        raise EvidenceError(f"Task {self.task!r} {why}")

    def _check_bounds(self, scores: Floats, name: str) -> None:
        if self.bounds is None:
            return
        low, high = self.bounds
        if not -LARGEST_SCORE <= low < high <= LARGEST_SCORE:
            raise EvidenceError(
                f"Bounds of task {self.task!r} are {low} and {high}: the first must be less than the second, "
                f"and both within ±{LARGEST_SCORE:g}."
            )
        slack = SLACK * (high - low)
        if scores.min() < low - slack or scores.max() > high + slack:
            raise EvidenceError(
                f"{name} scores of task {self.task!r} are between {scores.min():g} and {scores.max():g}, "
                f"outside [{low:g}, {high:g}]."
            )

    def _check_runs(self, answers: tuple[Ints, Ints]) -> None:
        """Numbers of runs fit the scores, and tell enough where they are unequal."""
        shapes = {np.shape(numbers) for numbers in answers}
        if shapes != {self.baseline.shape} or min(int(np.min(numbers)) for numbers in answers) < 1:
            self._refuse("needs the number of runs of each item and model, at least 1.")
        if self.runs is not None:
            counts = [(~np.isnan(scores)).sum(axis=1)[self.unequal] for scores in self.runs]
            if any((a != b[self.unequal]).any() for a, b in zip(counts, answers, strict=True)):
                self._refuse("has runs that do not match its numbers of runs.")
        elif self.splits is not None and np.abs(self.splits.successes % 1.0 - 0.5).min() < 0.5 - SLACK:
            said = "has items with unequal numbers of runs whose scores are not binary;"
            self._refuse(f"{said} pass the score of every run.")

    def part(self, kept: Bools, **changes: Any) -> "TaskScores":
        """Some of the items, without what is missing; or other values of them in the place of scores."""
        names = ("baseline", "variant", "items", "clusters", "links")
        arrays: dict[str, Any] = {
            name: None if (own := getattr(self, name)) is None else own[kept] for name in names
        }
        nothing = {"answers": None, "runs": None, "lacking": None, "missing": 0, "margin": None}
        return replace(self, **(arrays | nothing | changes))

    @cached_property
    def unequal(self) -> Bools:
        """Items whose means are over unequal numbers of runs, shape (n,)."""
        if self.answers is None:
            return np.zeros(self.baseline.shape, dtype=np.bool_)
        first, second = self.answers
        return np.asarray(np.asarray(first) != np.asarray(second))

    @cached_property
    def splits(self) -> RunSplits | None:
        """The items with unequal numbers of runs, whose runs are split at random; None without any."""
        chosen = np.flatnonzero(self.unequal)
        if self.answers is None or not chosen.size:
            return None
        first, second = (np.asarray(numbers)[chosen].astype(np.int64) for numbers in self.answers)
        means = (self.oriented(self.baseline[chosen]), self.oriented(self.variant[chosen]))
        successes = first * means[0] + second * means[1]
        scores = None
        if self.runs is not None:
            scores = np.concatenate([self.oriented(runs[chosen]) for runs in self.runs], axis=1)
        return RunSplits(scores, successes, first, second, float(self.differences[chosen].sum()))

    @cached_property
    def even_sums(self) -> Floats:
        """Like `block_sums`, over the items with equal numbers of runs only, shape (G,)."""
        if not self.unequal.any():
            return self.block_sums
        return block_sums(np.where(self.unequal, 0.0, self.differences), self.labels)

    def share(self, scores: Floats) -> Floats:
        """Scores as shares of the metric's range; as they are where it has no bounds."""
        if self.bounds is None:
            return scores
        return (scores - self.bounds[0]) / (self.bounds[1] - self.bounds[0])

    def oriented(self, scores: Floats) -> Floats:
        """Scores as shares of the range above its worse end; without bounds merely with higher as better."""
        shares = self.share(scores)
        if self.higher_is_better:
            return shares
        return -shares if self.bounds is None else 1.0 - shares

    @cached_property
    def differences(self) -> Floats:
        """How much worse the variant is per item, in shares of the range, shape (n,)."""
        width = 1.0 if self.bounds is None else self.bounds[1] - self.bounds[0]
        sign = 1.0 if self.higher_is_better else -1.0
        gaps: Floats = sign * (self.baseline - self.variant) / width
        least = SLACK
        if self.bounds is None:
            least = ROUNDING * np.maximum(np.abs(self.baseline), np.abs(self.variant))
        return np.where(np.abs(gaps) > least, gaps, 0.0)

    @cached_property
    def labels(self) -> Labels | None:
        """The block of each item, shape (n,): its cluster, joined by links; None where each is one."""
        return merged_labels(self.clusters, self.links)

    @cached_property
    def block_sums(self) -> Floats:
        """Differences added up over each cluster, shape (G,)."""
        return block_sums(self.differences, self.labels)

    @cached_property
    def block_sizes(self) -> Floats:
        """Items in each cluster, shape (G,)."""
        return block_sums(np.ones_like(self.differences), self.labels)

    @property
    def item_keys(self) -> Labels:
        """The block of each item, known across variants: label, else name, else position, shape (n,)."""
        if self.labels is not None:
            return self.labels
        return np.arange(self.baseline.size) if self.items is None else self.items

    @cached_property
    def block_keys(self) -> Labels:
        """Identity of each block across variants, shape (G,)."""
        return self.item_keys if self.labels is None else np.unique(self.labels)

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


def from_reruns(task: str, baseline: ArrayLike, variant: ArrayLike, **details: Any) -> TaskScores:
    """Average the reruns of every item first, so that repeats of an item never count as items.

    Args:
        task: its name.
        baseline: shape (n, K_B); NaN where a rerun is missing.
        variant: shape (n, K_V), the same.
        **details: further fields of `TaskScores`.

    Raises EvidenceError if an item has no score at all in one of the models.
    """
    runs = first, second = [np.asarray(scores, dtype=np.float64) for scores in (baseline, variant)]
    answers = tuple(np.count_nonzero(~np.isnan(scores), axis=1) for scores in runs)
    if not all(numbers.all() for numbers in answers):
        raise EvidenceError(f"Task {task!r} has items for which one of the models has no score.")
    bounds = details.get("bounds", (0.0, 1.0))
    binary = bounds is not None and all(np.isin(part[~np.isnan(part)], bounds).all() for part in runs)
    details |= {
        "reruns": (first.shape[1], second.shape[1]),
        "answers": answers,
        "runs": None if binary else (first, second),
    }
    return TaskScores(task, np.nanmean(first, axis=1), np.nanmean(second, axis=1), **details)


def balanced(tasks: Sequence[TaskScores]) -> list[TaskScores] | None:
    """The same with sums of clusters over size^0.6, in whole steps; None where clusters are equally large.

    A few large clusters decide the mean, and signs that flip say little of them: one cluster in ten that does
    better makes up for many that do worse, and is easily missed. Here clusters count nearly alike. The first
    item of a cluster has its whole sum.
    """
    sizes = np.concatenate([task.block_sizes for task in tasks])
    if sizes.min() == sizes.max():
        return None
    sums = [task.block_sums / task.block_sizes**BALANCING for task in tasks]
    step = float(np.sqrt(np.mean(np.concatenate(sums) ** 2))) / BALANCED_STEPS or 1.0
    even = []
    for task, own in zip(tasks, sums, strict=True):
        whole = np.zeros_like(task.differences)
        firsts = slice(None) if task.labels is None else np.unique(task.labels, return_index=True)[1]
        whole[firsts] = np.rint(own / step)
        labels = task.items, task.clusters
        even.append(TaskScores(task.task, whole, 0.0 * whole, *labels, bounds=None, links=task.links))
    return even


@dataclass(frozen=True)
class MissingAnswers:
    """What is missing of one task: what the baseline and the variant answered of all N planned items.

    The pairs are the items that both answered, in this order.
    """

    task: str
    means: Floats  # mean over the reruns that have a score, shape (2, N); NaN where none has
    answered: Ints  # reruns that have a score, shape (2, N)
    planned: Ints | tuple[int, int]  # reruns planned, at least 1: of every item, or of each, shape (2, N)
    failed: tuple[int, int] = (0, 0)  # answers that are errors, of all items together
    # as in `TaskScores`
    bounds: Bounds = (0.0, 1.0)
    higher_is_better: bool = True
    # the same, one label per planned item, shape (N,)
    clusters: Labels | None = None
    links: Labels | None = None
    # whether it is not known whose answers are missing; they count once, as the variant's
    anonymous: bool = False

    def unless_complete(self) -> "MissingAnswers | None":
        """None where nothing is missing."""
        return self if self._gaps.any() else None

    @property
    def _gaps(self) -> Ints:
        """Planned answers that have no score, shape (2, N)."""
        return np.maximum(np.reshape(self.planned, (2, -1)) - self.answered, 0)

    @cached_property
    def paired(self) -> Bools:
        """Planned items that both models answered, shape (N,)."""
        return np.asarray((self.answered > 0).all(axis=0))

    @property
    def items(self) -> int:
        """Planned items without a pair."""
        return int((~self.paired).sum())

    @property
    def missing(self) -> tuple[int, int]:
        """Planned answers that are not there and did not fail, (baseline, variant)."""
        first, second = np.maximum(self._gaps.sum(axis=1) - np.array(self.failed), 0).tolist()
        return 0 if self.anonymous else first, second

    def completed(self, task: TaskScores | None, case: Case) -> TaskScores | None:
        """All planned items of a task: its pairs (None without any), and with scores filled in, the others.

        The case is the best or the worst for the variant; None where scores have no bounds.
        """
        if self.bounds is None:
            return None
        low, high = self.bounds if self.higher_is_better else self.bounds[::-1]
        ends = np.array([[high], [low]] if case == "worst" else [[low], [high]], dtype=np.float64)
        planned = self.answered + self._gaps
        known = np.where(self.answered > 0, self.means, 0.0) * self.answered
        scores = (known + ends * (planned - self.answered)) / planned
        details: dict[str, Any] = {"higher_is_better": self.higher_is_better, "bounds": self.bounds}
        labels = [None if known is None else known[~self.paired] for known in (self.clusters, self.links)]
        if task is not None:
            pairs = np.where(
                self._gaps[:, self.paired].any(axis=0),
                scores[:, self.paired],
                np.stack([task.baseline, task.variant]),
            )
            scores = np.concatenate([pairs, scores[:, ~self.paired]], axis=1)
            labels = [self._extended(task.clusters, labels[0]), self._extended(task.links, labels[1])]
            details["reruns"] = task.reruns
        return TaskScores(self.task, scores[0], scores[1], clusters=labels[0], links=labels[1], **details)

    def _extended(self, labels: Labels | None, more: Labels | None) -> Labels | None:
        """Labels of the pairs and of the items without one, which are blocks of their own if unlabelled."""
        if labels is None or not self.items:
            return labels
        if more is None:
            own = [f"missing {number} of {self.task}" for number in range(self.items)]
            labels, more = labels.astype(np.str_), np.array(own)
        return np.concatenate([labels, more])


def lacking_of(task: TaskScores) -> MissingAnswers | None:
    """What a task says of its missing answers: those collected, or as many unknown items as it counts."""
    if task.lacking is not None or not task.missing:
        return task.lacking
    means = np.pad([task.baseline, task.variant], ((0, 0), (0, task.missing)), constant_values=np.nan)
    return MissingAnswers(
        task.task,
        means,
        (~np.isnan(means)).astype(np.int64),
        planned=(1, 1),
        bounds=task.bounds,
        higher_is_better=task.higher_is_better,
        anonymous=True,
    )


def paired_scores(
    task: str,
    baseline: ArrayLike,
    variant: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    bounds: Bounds = (0.0, 1.0),
    higher_is_better: bool = True,
    margin: float | None = None,
) -> TaskScores:
    """Pair two models' scores on all planned items, and keep what is missing of them.

    Args:
        task: its name.
        baseline: shape (N,), or (N, K_B) with a column per rerun; NaN where an answer is missing.
        variant: shape (N,), or (N, K_V), the same.
        clusters: one label per planned item, shape (N,).
        bounds: least and greatest possible score, None where there are none.
        higher_is_better: direction of the metric.
        margin: largest acceptable drop in the metric's own unit, for scores without bounds only.

    Raises EvidenceError if the shapes do not fit, or no item has a score of both models.
    """
    runs = [np.asarray(scores, dtype=np.float64) for scores in (baseline, variant)]
    for scores in runs:
        if scores.ndim not in {1, 2} or not scores.size:
            raise EvidenceError(
                f"Scores of task {task!r} have the shape {scores.shape}; pass (items,) or (items, reruns)."
            )
    first, second = (scores.reshape(len(scores), -1) for scores in runs)
    labels = None if clusters is None else np.asarray(clusters)
    if len(first) != len(second) or (labels is not None and labels.shape != (len(first),)):
        wrong = ", but the numbers must be equal."
        if labels is not None:
            wrong = f" and {labels.size} cluster labels."
        raise EvidenceError(
            f"Task {task!r} has {len(first)} items of the baseline and {len(second)} of the variant{wrong}"
        )
    answered = np.stack([np.count_nonzero(~np.isnan(scores), axis=1) for scores in (first, second)])
    sums = np.stack([np.nansum(scores, axis=1) for scores in (first, second)])
    means = np.divide(sums, answered, out=np.full(sums.shape, np.nan), where=answered > 0)
    lacking = MissingAnswers(
        task,
        means,
        answered,
        planned=(first.shape[1], second.shape[1]),
        bounds=bounds,
        higher_is_better=higher_is_better,
        clusters=labels,
    )
    if not (paired := lacking.paired).any():
        raise EvidenceError(f"Task {task!r} has no item with scores of both models.")
    return from_reruns(
        task,
        first[paired],
        second[paired],
        clusters=None if labels is None else labels[paired],
        bounds=bounds,
        higher_is_better=higher_is_better,
        missing=lacking.items,
        lacking=lacking.unless_complete(),
        margin=margin,
    )
