"""Is the drop acceptable? Non-inferiority within a margin.

"Not significantly worse" is not a certificate: a test on too few items finds nothing. A variant is certified
only when the opposite hypothesis, "the drop is at least the margin", is itself rejected. A few lucky items
must not do that: the normal and Student's law both take a small spread in a small sample at its word. So
few flips are judged by the melded confidence distribution, and averages must also leave no room for losses
that happened not to be drawn.
"""

import numpy as np
from scipy.special import ndtr

from stats.arrays import ROUNDING, SMALLEST_P, Floats
from stats.bounded import missed_losses
from stats.clustered import clustered_mean
from stats.intervals import melded_upper_tail, tango_score

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
        P(t ≤ (mean − M)/SE) with error and degrees of freedom by `stats.clustered`; for items, and where
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
