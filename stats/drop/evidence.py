"""How large the drop is and whether it is acceptable, from whichever evidence the scores give.

"Not significantly worse" is not a certificate: the opposite hypothesis, "the drop is at least the margin",
has to be rejected. Right or wrong is counted, graded scores of independent items are a sample of bounded
differences, everything else is a mean over clusters. Each of the three has one p-value and the limits that
belong to it: the upper limit lies below the margin exactly where the p-value is at most α, because it
inverts that test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from stats.arrays import ROUNDING, SMALLEST_P, Floats
from stats.drop import intervals
from stats.drop.bounded import Differences, missed_losses
from stats.drop.intervals import Interval, fay_lumbard_upper
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks

MANY_FLIPS = 20  # from so many flips on Tango's normal limit holds its level to .3 %
MANY_CLUSTERS = 10  # from so many clusters that differ on Student's t is trusted with their spread

FEW_DIFFERENCES = 50
"""Below so many items or clusters that differ Student's interval needs help against skewed differences."""


@dataclass(frozen=True)
class FlipEvidence:
    """Right or wrong, independent items: of n items b are worse and c better."""

    worse: int
    better: int
    items: int

    @property
    def mean(self) -> float:
        """(b − c)/n."""
        return (self.worse - self.better) / self.items

    @property
    def varies(self) -> bool:
        """Whether anything flipped, so that more items would scatter."""
        return self.worse + self.better > 0

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """P-value of "the drop is at least the margin", with `scale` times as many items like these.

        Tango's (1998) where at least 20 items flipped, else that of Fay & Lumbard's interval. On a grid of 5
        to 2,000 items the two together certify a drop of M at most 5.3 % of the time at α = .05; Tango alone
        6.4 % at 9 items.
        """
        worse, better, items = (scale * count for count in (self.worse, self.better, self.items))
        if worse + better >= MANY_FLIPS:
            return max(float(ndtr(intervals.tango_score(worse, better, items, margin))), SMALLEST_P)
        return max(intervals.melded_upper_tail(worse, better, items, margin), SMALLEST_P)

    def interval(self, alpha: float) -> Interval:
        """Fay & Lumbard's at 1 − α, which excludes 0 exactly where the exact test rejects at α/2."""
        return intervals.fay_lumbard_interval(self.worse, self.better, self.items, alpha)

    def limits(self, tail: float) -> Interval:
        """One-sided limits at 1 − tail each: Fay & Lumbard's, above with 20 flips or more Tango's."""
        low = -fay_lumbard_upper(self.better, self.worse, self.items, tail)
        if self.worse + self.better < MANY_FLIPS:
            return low, fay_lumbard_upper(self.worse, self.better, self.items, tail)
        return low, intervals.tango_interval(self.worse, self.better, self.items, 2.0 * tail)[1]


class ClusterEvidence:
    """Means over clusters of any size, or scores without bounds: Student's t with a bias-reduced error.

    A few large clusters decide the mean, and the usual ratio estimator then underrates its error and
    overrates its degrees of freedom: with 15 to 30 clusters of very unequal size a drop of the margin was
    certified up to .11 of the time at .05. The error here is CR2 (Bell & McCaffrey 2002), written out for a
    mean; with equal clusters it is Student's, G − 1 degrees of freedom.

    Args:
        sums: differences summed over each block, shape (G,).
        sizes: items in each, shape (G,).
        max_abs_difference: of one item: 1 in shares of the range, infinite where scores have no bounds.

    Attributes:
        mean: Σ sums/Σ sizes.
        standard_error: √(Σ (sum − size·mean)²/(1 − h))/N with h = size/N; infinite for a single cluster.
        freedom: Satterthwaite's degrees of freedom (tr B)²/tr B² of the error as a quadratic form: the fewer
            of two working models, independent items, and items that all agree within a cluster.
    """

    def __init__(self, sums: Floats, sizes: Floats, max_abs_difference: float = 1.0) -> None:
        self.sums, self.sizes, self.max_abs_difference = sums, sizes, max_abs_difference
        total = float(sizes.sum())
        self.mean = float(sums.sum()) / total
        self.standard_error, self.freedom = float("inf"), 1.0
        if sums.size > 1:
            shares = sizes / total
            weights = 1.0 / (1.0 - shares)
            self.standard_error = float(np.sqrt(weights @ (sums - sizes * self.mean) ** 2)) / total
            self.freedom = min(_freedom(shares, shares), _freedom(shares, shares**2))
        self._agree = self.standard_error <= ROUNDING * abs(self.mean)  # one mean of all, but for rounding
        # whether room is left for losses that were not drawn: for single items, or few that differ
        few = bool((sizes == 1.0).all()) or np.count_nonzero(sums) < MANY_CLUSTERS
        self._guarded = bool(np.isfinite(max_abs_difference)) and few

    @property
    def varies(self) -> bool:
        """Whether the clusters differ in their means, so that more of them would scatter."""
        return bool(np.ptp(self.sums / self.sizes) > 0.0)

    def half_width(self, tail: float) -> float:
        """How far a one-sided limit lies from the mean, by Student's t."""
        if not np.isfinite(self.standard_error):
            return float("inf")
        return -float(stdtrit(self.freedom, tail)) * self.standard_error

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """P-value of "the mean is at least the margin", with `scale` times as many clusters like these.

        P(t ≤ (mean − M)/SE); for items, and where fewer than 10 clusters differ, at least the chance that so
        many blocks miss all of the losses that would make up M.
        """
        missed = 1.0
        if np.isfinite(self.max_abs_difference):
            missed = missed_losses(self.mean, scale * self.sums.size, margin)
        if not np.isfinite(self.standard_error):
            return 1.0
        if self._agree:
            return max(missed, SMALLEST_P)
        gap = self.mean - margin
        tail = float(stdtr(self.freedom * scale, gap * np.sqrt(scale) / self.standard_error))
        return max(tail, missed if self._guarded else 0.0, SMALLEST_P)

    def interval(self, alpha: float) -> Interval:
        """Student's two-sided interval at 1 − α, within ± the largest difference.

        Few and skewed differences make it too short, because the rare large ones are often not drawn. Where
        fewer than 50 blocks differ, and those are under three quarters of all, it is therefore widened to
        cover the interval that two more blocks give, which differ as much as the largest found, one in either
        direction (in the manner of Agresti & Coull 1998). Where all blocks agree it is
        mean ± (largest difference)·(1 − (α/2)^(1/G)), because a share of differing blocks larger than that
        would have shown itself (the exact binomial bound for zero events).
        """
        most, mean = self.max_abs_difference, self.mean
        if self._agree:
            half = (abs(mean) + most) * _unseen_share(self.sums.size, alpha / 2)
            return max(mean - half, -most), min(mean + half, most)
        half = self.half_width(alpha / 2)
        low, high = mean - half, mean + half
        if np.count_nonzero(self.sums) < min(FEW_DIFFERENCES, 0.75 * self.sums.size):
            largest = float(np.abs(self.sums).max())
            sizes = np.append(self.sizes, [self.sizes.mean()] * 2)
            more = ClusterEvidence(np.append(self.sums, [largest, -largest]), sizes)
            half = more.half_width(alpha / 2)
            low, high = min(low, more.mean - half), max(high, more.mean + half)
        return max(low, -most), min(high, most)

    def limits(self, tail: float) -> Interval:
        """One-sided limits at 1 − tail each: below that of `interval`, above by inverting the test."""
        low = self.interval(2.0 * tail)[0]
        unseen = _unseen_share(self.sums.size, tail) * (self.max_abs_difference - self.mean)
        if self._agree:
            return low, self.mean + unseen
        above = max(self.half_width(tail), unseen if self._guarded else 0.0)
        return low, min(self.mean + above, self.max_abs_difference)


DropEvidence: TypeAlias = FlipEvidence | Differences | ClusterEvidence  # what is known of the mean difference


def evidence_of(tasks: Sequence[TaskScores]) -> DropEvidence:
    """The evidence of all items of the given tasks together."""
    together = clustered(tasks)
    if not together and all(task.binary for task in tasks):
        items = sum(task.differences.size for task in tasks)
        return FlipEvidence(sum(task.worse for task in tasks), sum(task.better for task in tasks), items)
    bounded = all(task.bounds is not None for task in tasks)
    if bounded and not together:
        return Differences.of(np.concatenate([task.differences for task in tasks]))
    return ClusterEvidence(*merged_blocks(tasks), 1.0 if bounded else float("inf"))


def block_evidence(sums: Floats, sizes: Floats, max_abs_difference: float) -> DropEvidence:
    """The evidence of differences summed over each block, and its items, shape (G,) each."""
    items = bool((sizes == 1.0).all())
    if items and bool(((sums == 0.0) | (np.abs(sums) == 1.0)).all()):
        worse, better = (int(np.count_nonzero(sums == sign)) for sign in (1.0, -1.0))
        return FlipEvidence(worse, better, sums.size)
    if items and np.isfinite(max_abs_difference):
        return Differences.of(sums)
    return ClusterEvidence(sums, sizes, max_abs_difference)


def clustered(tasks: Sequence[TaskScores]) -> bool:
    """Whether items are not independent: clusters within a task, or links within or across tasks."""
    return any(task.labels is not None for task in tasks) or links_tasks(tasks)


def _unseen_share(blocks: int, alpha: float) -> float:
    """Largest share that leaves no trace in `blocks` independent draws with probability α: 1 − α^(1/n)."""
    return float(-np.expm1(np.log(alpha) / blocks))


def _freedom(shares: Floats, variances: Floats) -> float:
    """(tr B)²/tr B² for residuals of cluster sums with the given variances.

    Their covariance is δ_gh V_g − h_g V_h − V_g h_h + h_g h_h ΣV; B weights it by 1/√(1 − h) on either side.
    """
    weights, whole = 1.0 / (1.0 - shares), float(variances.sum())
    diagonal = weights * (variances - 2.0 * shares * variances + shares**2 * whole)
    outer = weights * (shares**2 * whole - 2.0 * shares * variances)
    hh, vv, hv = (float(weights @ product) for product in (shares**2, variances**2, shares * variances))
    squares = 2.0 * hh * vv + whole**2 * hh**2 + 2.0 * hv**2 - 4.0 * whole * hh * hv
    squares += float(diagonal @ diagonal - outer @ outer)
    return float(diagonal.sum()) ** 2 / squares
