"""How large the drop is and whether it is acceptable, from whichever evidence the scores give.

Right or wrong is counted, graded scores of independent items are a sample of bounded differences, and
everything else is a mean over clusters. Each of the three has one p-value and the limits that belong to it:
the upper limit lies below the margin exactly where the p-value is at most α, because it inverts that test.

Is the drop acceptable? Non-inferiority within a margin.

"Not significantly worse" is not a certificate: a test on too few items finds nothing. A variant is certified
only when the opposite hypothesis, "the drop is at least the margin", is itself rejected. A few lucky items
must not do that: the normal and Student's law both take a small spread in a small sample at its word. So
few flips are judged by the melded confidence distribution, and averages must also leave no room for losses
that happened not to be drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr

from stats.arrays import ROUNDING, SMALLEST_P, Floats
from stats.drop.bounded import Differences, mean_noninferiority, mean_upper, missed_losses
from stats.drop.intervals import (
    Interval,
    clustered_mean,
    fay_lumbard_interval,
    fay_lumbard_upper,
    melded_upper_tail,
    t_interval,
    tango_interval,
    tango_score,
    unseen_share,
)
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks


class DropEvidence(Protocol):
    """What is known of the mean difference."""

    @property
    def mean(self) -> float:
        """The mean difference."""

    @property
    def varies(self) -> bool:
        """Whether differences differ, so that more of them would scatter."""

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """P-value of "the mean is at least the margin", with `scale` times as many items like these."""

    def interval(self, alpha: float) -> Interval:
        """Two-sided interval at 1 − α, for the size of the drop."""

    def limits(self, tail: float) -> Interval:
        """One-sided limits at 1 − tail each, the upper one by inverting `p_noninferior`."""


@dataclass(frozen=True)
class FlipEvidence:
    """Right or wrong, independent items.

    Attributes:
        worse: b.
        better: c.
        items: n.
    """

    worse: int
    better: int
    items: int

    @property
    def mean(self) -> float:
        """(b − c)/n."""
        return (self.worse - self.better) / self.items

    @property
    def varies(self) -> bool:
        """Whether anything flipped."""
        return self.worse + self.better > 0

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """Tango's or, with few flips, that of Fay & Lumbard's interval."""
        worse, better, items = (scale * count for count in (self.worse, self.better, self.items))
        return flip_noninferiority(worse, better, items, margin)

    def interval(self, alpha: float) -> Interval:
        """Fay & Lumbard's, which excludes 0 exactly where the exact test rejects at α/2."""
        return fay_lumbard_interval(self.worse, self.better, self.items, alpha)

    def limits(self, tail: float) -> Interval:
        """Fay & Lumbard's, above with 20 flips or more Tango's."""
        low = -fay_lumbard_upper(self.better, self.worse, self.items, tail)
        if self.worse + self.better < MANY_FLIPS:
            return Interval(low, fay_lumbard_upper(self.worse, self.better, self.items, tail))
        return Interval(low, tango_interval(self.worse, self.better, self.items, 2.0 * tail).high)


@dataclass(frozen=True)
class BoundedEvidence:
    """Graded or averaged scores between bounds, independent items.

    Attributes:
        sample: the differences, in shares of the range.
    """

    sample: Differences

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.sample.mean

    @property
    def varies(self) -> bool:
        """Whether there is more than one difference."""
        return self.sample.values.size > 1

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """By `stats.drop.bounded`."""
        return mean_noninferiority(self.sample.scaled(scale), margin)

    def interval(self, alpha: float) -> Interval:
        """Both one-sided limits at α/2."""
        return self.limits(alpha / 2.0)

    def limits(self, tail: float) -> Interval:
        """By inverting the test on either side."""
        return Interval(-mean_upper(self.sample.mirrored(), tail), mean_upper(self.sample, tail))


@dataclass(frozen=True)
class ClusterEvidence:
    """Means over clusters of any size, or scores without bounds.

    Attributes:
        sums: differences summed over each block, shape (G,).
        sizes: items in each, shape (G,).
        reach: largest possible |difference| of one item.
    """

    sums: Floats
    sizes: Floats
    reach: float

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def varies(self) -> bool:
        """Whether the clusters differ in their means."""
        return bool(np.ptp(self.sums / self.sizes) > 0.0)

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """Student's t with a bias-reduced error, and room for unseen losses where few clusters differ."""
        return t_noninferiority(self.sums, self.sizes, margin, self.reach, scale)

    def interval(self, alpha: float) -> Interval:
        """Student's t, widened where few clusters differ."""
        return t_interval(self.sums, self.sizes, alpha, self.reach)

    def limits(self, tail: float) -> Interval:
        """The lower one of `interval`, the upper one by inverting the test."""
        low, found = self.interval(2.0 * tail).low, clustered_mean(self.sums, self.sizes)
        unseen = unseen_share(self.sums.size, tail) * (self.reach - found.mean)
        if found.standard_error <= ROUNDING * abs(found.mean):
            return Interval(low, found.mean + unseen)
        guard = unseen if needs_guard(self.sums, self.sizes, self.reach) else 0.0
        return Interval(low, min(found.mean + max(found.half_width(tail), guard), self.reach))


def evidence_of(tasks: Sequence[TaskScores]) -> DropEvidence:
    """The evidence of all items of the given tasks together."""
    together = clustered(tasks)
    if not together and all(task.binary for task in tasks):
        items = sum(task.differences.size for task in tasks)
        return FlipEvidence(sum(task.worse for task in tasks), sum(task.better for task in tasks), items)
    if not together and all(task.bounds is not None for task in tasks):
        return BoundedEvidence(Differences.of(np.concatenate([task.differences for task in tasks])))
    return ClusterEvidence(*merged_blocks(tasks), max(task.reach for task in tasks))


def clustered(tasks: Sequence[TaskScores]) -> bool:
    """Whether items are not independent: clusters within a task, or links within or across tasks."""
    return any(task.labels is not None for task in tasks) or links_tasks(tasks)


MANY_FLIPS = 20
"""From so many flips on Tango's normal limit holds its level to .3 %."""

MANY_CLUSTERS = 10
"""From so many clusters that differ on Student's t is trusted with their spread."""


def tango_noninferiority(worse: float, better: float, items: float, margin: float) -> float:
    """One-sided p-value of "the drop is at least the margin", for right-or-wrong answers: Φ(T(M)).

    Args:
        worse: b.
        better: c.
        items: n, all pairs.
        margin: M in (0, 1), in accuracy points over all pairs (Tango 1998).
    """
    return max(float(ndtr(tango_score(worse, better, items, margin))), SMALLEST_P)


def flip_noninferiority(worse: float, better: float, items: float, margin: float) -> float:
    """One-sided p-value of "the drop is at least the margin", for right-or-wrong answers of any number.

    Args:
        worse: b.
        better: c.
        items: n, all pairs.
        margin: M in (0, 1), in accuracy points over all pairs.

    Returns:
        Tango's where at least 20 items flipped, else that of Fay & Lumbard's interval. On a grid of 5 to
        2,000 items the two together certify a drop of M at most 5.3 % of the time at α = .05; Tango alone
        6.4 % at 9 items.
    """
    if worse + better >= MANY_FLIPS:
        return tango_noninferiority(worse, better, items, margin)
    return max(melded_upper_tail(worse, better, items, margin), SMALLEST_P)


def t_noninferiority(
    sums: Floats, sizes: Floats | None, margin: float, reach: float = 1.0, scale: float = 1.0
) -> float:
    """One-sided p-value of "the drop is at least the margin", for means over clusters: Student's t.

    Args:
        sums: differences per item, or summed over each cluster, shape (G,).
        sizes: items per cluster, shape (G,); None where every block is one item.
        margin: M, in the unit of the scores.
        reach: largest possible |difference| of one item: 1 in shares of the range, or infinite.
        scale: as if there were so many times as many blocks.

    Returns:
        P(t ≤ (mean − M)/SE) with error and degrees of freedom by `stats.drop.intervals`; for items, and where
        fewer than 10 clusters differ, at least the chance that so many blocks miss all of the losses that
        would make up M.
    """
    counts = np.ones_like(sums) if sizes is None else sizes
    found = clustered_mean(sums, counts)
    missed = missed_losses(found.mean, scale * sums.size, margin) if np.isfinite(reach) else 1.0
    if not np.isfinite(found.standard_error):
        return 1.0
    if found.standard_error <= ROUNDING * abs(found.mean):
        return max(missed, SMALLEST_P)
    guard = missed if needs_guard(sums, counts, reach) else 0.0
    return max(found.tail(margin, scale), guard, SMALLEST_P)


def needs_guard(sums: Floats, sizes: Floats, reach: float) -> bool:
    """Whether room is left for losses that were not drawn: for single items, or where few clusters differ."""
    few = (sizes == 1.0).all() or np.count_nonzero(sums) < MANY_CLUSTERS
    return bool(np.isfinite(reach) and few)
