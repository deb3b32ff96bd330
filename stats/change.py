"""Did a number of every answer change, for better or worse? Lengths, truncation, repetition.

This is the two-sided counterpart of `stats.comparison`. If nothing changed, swapping the two models' values
within an item changes nothing, so the test is the exact sign-flip test of the paired differences, on either
side. Differences without a small common step (means over reruns, of long answers) are rounded to a fine one:
the sum of rounded differences is another statistic whose distribution is as exact. Items with unequal numbers
of reruns may not be swapped; there Student's t has to reject, too.

How far means lie apart is a ratio or a difference. The interval of a ratio is Fieller's (1954): all ratios ρ
for which Student's t does not reject "the mean of variant − ρ·baseline is 0", with the bias-reduced errors
over items or clusters and the degrees of freedom of `stats.drop.ClusterEvidence`. That a change is within a
tolerance is shown by two one-sided tests: where the interval at 1 − 2α lies within it (Schuirmann 1987).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, stdtr, stdtrit

from stats.arrays import SMALLEST_P, Floats, Ints
from stats.distributions.lattice import FINEST, to_lattice
from stats.drop import ClusterEvidence, Interval, clustered, evidence_of
from stats.multiplicity import holm
from stats.results import NAN
from stats.scores import TaskScores
from stats.sharing import merged_blocks
from stats.signflip import SignFlipTest

STEPS, MOST_STEPS = 64, 1 << 21  # of rounded differences: to their root mean square, and all together
LEAST_F1 = 0.05  # as a lower limit
GROUPS = 5  # of neighbouring blocks: few, so that they are long beside most drifts of a load

TestName: TypeAlias = Literal["sign-flip", "student"]


class ChangeVerdict(StrEnum):
    """What is known about a measurement at the chosen level."""

    CHANGED = "changed"  # the two-sided test rejects, adjusted for all measurements of all variants
    WITHIN = "within"  # a change beyond the tolerance is ruled out
    INCONCLUSIVE = "inconclusive"  # neither
    DESCRIBED = "described"  # it is not tested


class RatioChange:
    """Mean of the variant over that of the baseline, minus 1, from the paired values of all tasks."""

    def __init__(self, tasks: Sequence[TaskScores]) -> None:
        losses, sizes = merged_blocks(tasks)  # of the baseline against the variant, and against 0
        bases, _ = merged_blocks([replace(task, variant=np.zeros_like(task.baseline)) for task in tasks])
        self.blocks = losses, bases, sizes
        total, self._freedom = float(sizes.sum()), max(sizes.size - 1.0, 1.0)
        if sizes.min() < sizes.max():
            self._freedom = ClusterEvidence(bases, sizes, np.inf).freedom
        self._gap, self._base = -float(losses.sum()) / total, float(bases.sum()) / total
        self.estimate = self._gap / self._base if self._base else self._gap and np.inf
        self._gaps = self._both = self._bases = np.inf  # variances and covariance of the two means
        if sizes.size > 1:
            weights = 1.0 / (1.0 - sizes / total) / total**2
            rest, rest_base = -losses - sizes * self._gap, bases - sizes * self._base
            products = rest * rest, rest * rest_base, rest_base * rest_base
            self._gaps, self._both, self._bases = (float(weights @ product) for product in products)

    def interval(self, alpha: float) -> Interval:
        """Fieller's at 1 − α; from −1 to ∞ where even a mean of 0 of the baseline is not rejected."""
        if self._gap == self._gaps == 0.0:  # nothing differs
            return 0.0, 0.0
        quantile = float(stdtrit(self._freedom, alpha / 2.0)) ** 2
        square = self._base**2 - quantile * self._bases
        if square <= 0.0:
            return -1.0, np.inf
        linear = self._gap * self._base - quantile * self._both
        root = np.sqrt(max(linear**2 - square * (self._gap**2 - quantile * self._gaps), 0.0))
        return max(float(linear - root) / square, -1.0), float(linear + root) / square

    def p_within(self, tolerance: float) -> float:
        """P-value of "the change is at least the tolerance, in either direction"."""
        if not np.isfinite(self._gaps):
            return 1.0
        if self._gap == self._gaps == 0.0:
            return SMALLEST_P
        sides = []
        for sign in (1.0, -1.0):
            excess = sign * self._gap - tolerance * self._base
            variance = self._gaps - 2.0 * sign * tolerance * self._both + tolerance**2 * self._bases
            if variance > 0.0:
                sides.append(float(stdtr(self._freedom, excess / np.sqrt(variance))))
            else:
                sides.append(SMALLEST_P if excess < 0.0 else 1.0)
        return max(*sides, SMALLEST_P)


class MeanChange:
    """Mean of the variant minus that of the baseline; by `stats.drop`, so that unseen changes count."""

    def __init__(self, tasks: Sequence[TaskScores]) -> None:
        self._up, self._down = (
            evidence_of([replace(task, higher_is_better=higher) for task in tasks])
            for higher in (False, True)
        )
        self.estimate = self._up.mean
        same = (np.array_equal(task.baseline, task.variant) for task in tasks)
        self._is_nothing = all(same) and all(task.bounds is None for task in tasks)  # and nothing bounds it

    def interval(self, alpha: float) -> Interval:
        """Two-sided interval at 1 − α; nothing where an unbounded measurement differs nowhere."""
        return (0.0, 0.0) if self._is_nothing else self._up.interval(alpha)

    def p_within(self, tolerance: float) -> float:
        """P-value of "the change is at least the tolerance, in either direction"."""
        return max(side.p_noninferior(tolerance) for side in (self._up, self._down))


class RateChange:
    """Rate of the variant over that of the baseline, minus 1: of totals, such as samples and seconds.

    Both have answered the same blocks, whose amounts and costs are given in order of the baseline's time,
    each of shape (2, blocks); `order` lists them in the variant's. Neighbours share their batch and the load
    of the machine, so groups of them are left out in turn: the delete-a-group jackknife (Kott 2001) of the
    logarithm of the ratio, with Student's t. Of the errors by neighbours on either side the larger counts.
    """

    def __init__(self, baseline: Floats, variant: Floats, order: Ints | None = None) -> None:
        blocks = np.arange(baseline.shape[1])
        orders, self._freedom = [blocks, blocks if order is None else order], min(GROUPS, blocks.size) - 1

        def log(left_out: Ints) -> float:
            kept = [np.delete(side, left_out, axis=1).sum(axis=1) for side in (baseline, variant)]
            (amount, cost), (own, own_cost) = kept
            return float(np.log(own * cost / (own_cost * amount)))

        with np.errstate(all="ignore"):  # of nothing there is no rate
            self._log = log(blocks[:0])
            logs = [[log(one) for one in np.array_split(own, self._freedom + 1)] for own in orders]
            self._error = float(np.sqrt(self._freedom * np.var(logs, axis=1).max()))
        self.estimate = float(np.expm1(self._log))

    def interval(self, alpha: float) -> Interval:
        """Two-sided interval at 1 − α; NaN of a single block."""
        width = -float(stdtrit(self._freedom, alpha / 2.0)) * self._error
        return float(np.expm1(self._log - width)), float(np.expm1(self._log + width))


@dataclass(frozen=True, kw_only=True)
class Change:
    """A measurement of a variant beside its baseline's, over all tasks that have it.

    Attributes:
        measurement: its name.
        verdict: changed, within the tolerance, inconclusive, or only described.
        relative: whether `change` is a ratio minus 1, or a difference of means.
        items: pairs; of a rate, blocks.
        clusters: number of clusters, None where items are independent.
        baseline_mean: mean of the baseline on the pairs.
        variant_mean: mean of the variant on the pairs.
        change: how much larger the variant's mean is.
        change_interval: confidence interval of that at 1 − α, (low, high).
        tolerance: largest change that counts as none.
        p: two-sided test of "nothing changed"; NaN where that is not tested, and so are the next two.
        p_adjusted: adjusted by Holm for all measurements of all variants.
        p_within: test of "it changed by the tolerance or more"; of n blocks at least 2⁻ⁿ: so often all of
            them change by less, if half of all do.
        method: the exact sign-flip test; where reruns are unequal, the larger p-value of it and Student's t.
    """

    measurement: str
    verdict: ChangeVerdict = ChangeVerdict.DESCRIBED
    relative: bool
    items: int
    clusters: int | None
    baseline_mean: float
    variant_mean: float
    change: float
    change_interval: Interval = (NAN, NAN)
    tolerance: float = NAN
    p: float = NAN
    p_adjusted: float = NAN
    p_within: float = NAN
    method: TestName = "sign-flip"
    differs: bool = field(default=True, repr=False)  # False where no item does
    evidence: RatioChange | MeanChange | RateChange = field(repr=False, compare=False)

    @property
    def is_adjusted(self) -> bool:
        """Whether it counts in the adjustment: where no item differs, no flip of a sign changes anything."""
        return self.differs and not np.isnan(self.p)


def measure_change(
    measurement: str,
    tasks: Sequence[TaskScores],
    *,
    relative: bool,
    tolerance: float,
    alpha: float,
    tested: bool = True,
    may_swap: bool = True,
) -> Change:
    """Compare the paired values of a measurement, on every task that has it, without a verdict yet.

    Args:
        measurement: its name.
        tasks: the values in the place of scores, with the bounds of the measurement.
        relative: whether the ratio of the means counts, else their difference.
        tolerance: largest change that counts as none.
        alpha: level of the interval.
        tested: whether items, or clusters, are independent of each other in it.
        may_swap: whether every item has as many reruns of both models.
    """
    evidence = RatioChange(tasks) if relative else MeanChange(tasks)
    described = Change(
        measurement=measurement,
        relative=relative,
        items=sum(task.baseline.size for task in tasks),
        clusters=merged_blocks(tasks)[0].size if clustered(tasks) else None,
        baseline_mean=float(np.concatenate([task.baseline for task in tasks]).mean()),
        variant_mean=float(np.concatenate([task.variant for task in tasks]).mean()),
        change=evidence.estimate + 0.0,  # no −0
        tolerance=tolerance,
        evidence=evidence,
    )
    if not tested:
        return described
    sums, sizes = merged_blocks(tasks)
    return replace(
        described,
        change_interval=evidence.interval(alpha),
        p=flip_p(sums) if may_swap else max(flip_p(sums), student_p(sums, sizes)),
        p_within=max(evidence.p_within(tolerance), 0.5**sums.size),
        method="sign-flip" if may_swap else "student",
        differs=bool(sums.any()),
    )


def flip_p(sums: Floats) -> float:
    """Two-sided p-value of the sign-flip test, of differences summed over each block, shape (G,)."""
    size = float(np.abs(sums).sum())
    if size == 0.0:
        return 1.0
    lattice = to_lattice(sums, FINEST)
    if lattice is None or size > MOST_STEPS * lattice[0]:
        step = max(float(np.sqrt(np.mean(sums[sums != 0.0] ** 2))) / STEPS, size / MOST_STEPS)
        sums = np.rint(sums / step)
    return min(1.0, 2.0 * SignFlipTest(sums if sums.sum() > 0.0 else -sums).p)


def student_p(sums: Floats, sizes: Floats) -> float:
    """Two-sided p-value of "the mean difference is 0" by Student's t, of blocks with so many items."""
    sides = (ClusterEvidence(sign * sums, sizes, np.inf).p_noninferior(0.0) for sign in (1.0, -1.0))
    return min(1.0, 2.0 * min(sides))


def conclude_changes(changes: Sequence[Change], alpha: float) -> list[Change]:
    """Adjust all of an analysis for each other, and add verdicts; in the same order."""
    p = np.array([change.p for change in changes])
    family = np.flatnonzero([change.is_adjusted for change in changes])
    p[family] = holm(p[family])
    concluded = []
    for change, adjusted in zip(changes, p.tolist(), strict=True):
        verdict = ChangeVerdict.DESCRIBED
        if adjusted <= alpha:
            verdict = ChangeVerdict.CHANGED
        elif change.p_within <= alpha:
            verdict = ChangeVerdict.WITHIN
        elif not np.isnan(adjusted):
            verdict = ChangeVerdict.INCONCLUSIVE
        concluded.append(replace(change, p_adjusted=adjusted, verdict=verdict))
    return concluded


def trigger_f1(tasks: Sequence[TaskScores], alpha: float) -> tuple[float, Interval]:
    """How far two models do something on the same items: F1 of the variant, with its interval at 1 − α.

    It is 2J/(1 + J), where J is the share of both among the items where either does it: of independent items
    with pairs of 0 and 1 a binomial one, so that its exact interval (Clopper and Pearson 1934) is that of F1.
    With clusters, or means b and v over reruns (taken to be independent), F1 is the ratio of the means of 2bv
    and b + v, with the interval of a ratio. Blocks that disagree as a whole may be few, and none be drawn, so
    the lower limit is no higher than the test of bounded losses (`Differences`) allows: b + v − 2bv/F1 is at
    most 1. Nor can n blocks show that all disagree.

    Args:
        tasks: how often the models do it, from 0 to 1, on some items at least.
        alpha: one minus the level of the interval.
    """
    parts = [(task, (task.baseline + task.variant) > 0.0) for task in tasks]
    ratios = [
        task.part(
            either,
            baseline=(task.baseline + task.variant)[either],
            variant=2.0 * (task.baseline * task.variant)[either],
            bounds=(0.0, 2.0),
        )
        for task, either in parts
        if either.any()
    ]
    ratio = RatioChange(ratios)
    whole = all(np.isin([task.baseline, task.variant], (0.0, 1.0)).all() for task in tasks)
    if whole and not clustered(ratios):
        both, size = sum(float(task.variant.sum()) for task in ratios) / 2.0, ratio.blocks[0].size
        low = betaincinv(both, size - both + 1.0, alpha / 2.0) if both else 0.0
        high = betaincinv(both + 1.0, size - both, 1.0 - alpha / 2.0) if both < size else 1.0
        lower, upper = (float(2.0 * share / (1.0 + share)) for share in (low, high))
    else:
        losses, bases, sizes = ratio.blocks

        def excess(least: float) -> float:
            sums = 2.0 * (losses - (1.0 - least) * bases) / least
            return ClusterEvidence(sums, sizes).p_noninferior(0.0) - alpha / 2.0

        low, high = ratio.interval(alpha)
        lower = least = max(1.0 + low, 0.0)
        while least > LEAST_F1 and excess(least) > 0.0:
            least *= 0.9
        if least < lower:
            lower = float(brentq(excess, least, lower, xtol=1e-5)) if least > LEAST_F1 else 0.0
        unseen = (alpha / 2.0) ** (1.0 / sizes.size)
        upper = min(max(1.0 + high, 2.0 * (1.0 - unseen) / (2.0 - unseen)), 1.0)
    return 1.0 + ratio.estimate, (lower, upper)
