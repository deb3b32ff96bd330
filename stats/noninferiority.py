"""Is the drop acceptable? Non-inferiority within a margin.

"Not significantly worse" is no certificate: a test on too few items finds nothing. A variant is certified
only when the opposite hypothesis, "the drop is at least the margin", is itself rejected.
"""

import numpy as np
from scipy.special import ndtr, stdtr

from stats.arrays import SMALLEST_P, Floats
from stats.intervals import cluster_standard_error, tango_score


def tango_noninferiority(worse: int, better: int, items: int, margin: float) -> float:
    """One-sided p-value of "the drop is at least the margin", for right-or-wrong answers: Φ(T(M)).

    Args:
        worse: b.
        better: c.
        items: n, all pairs.
        margin: M in (0, 1), in accuracy points over all pairs (Tango 1998).
    """
    return max(float(ndtr(tango_score(worse, better, items, margin))), SMALLEST_P)


def t_noninferiority(sums: Floats, sizes: Floats | None, margin: float, reach: float = 1.0) -> float:
    """One-sided p-value of "the drop is at least the margin", for averages: Student's t on items or clusters.

    Args:
        sums: differences per item, or summed over each cluster, shape (G,).
        sizes: items per cluster, shape (G,); None where every block is one item.
        margin: M, in the unit of the scores.
        reach: largest possible |difference| of one item.

    Returns:
        P(t with G − 1 degrees of freedom ≤ (mean − M)/SE). Where no block differs there is no standard error;
        a mean of M then needs a share (M − mean)/(reach − mean) of others, unseen with probability
        (1 − share)^G.
    """
    counts = np.ones_like(sums) if sizes is None else sizes
    mean = float(sums.sum() / counts.sum())
    error = cluster_standard_error(sums, counts)
    if not np.isfinite(error):
        return 1.0
    if error <= 1e-12 * abs(mean):
        share = min(max((margin - mean) / (reach - mean), 0.0), 1.0) if mean < reach else 0.0
        return max(float((1.0 - share) ** sums.size), SMALLEST_P)
    return max(float(stdtr(sums.size - 1, (mean - margin) / error)), SMALLEST_P)
