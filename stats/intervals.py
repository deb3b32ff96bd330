"""How large the drop is: confidence intervals for the mean difference over all pairs.

All are two-sided at 1 − α and in the unit of the scores, over *all* pairs, so that they can be compared with a
margin. For right-or-wrong answers the interval of Fay & Lumbard is the default, because it cannot contradict
the exact test: it excludes 0 exactly when the one-sided test rejects at α/2. Averages use Student's t on
items or clusters; where every item agrees a standard error would be 0, which is no evidence of no drop, and
the interval falls back on a bound that needs no variance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats as sp
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv

from stats.arrays import Floats

NODES = 256


@dataclass(frozen=True)
class Interval:
    """Lower and upper limit, in the unit of the scores."""

    low: float
    high: float


def fay_lumbard_interval(worse: int, better: int, items: int, alpha: float = 0.05) -> Interval:
    """Melded interval for (b − c)/n, compatible with the exact McNemar test.

    With T the share of flips and B the share of flips to wrong, the limits are quantiles of T(2B − 1) under
    the lower and upper confidence distributions of T and B (Fay & Lumbard 2021, PMC9447366).

    Args:
        worse: b.
        better: c.
        items: n, all pairs.
        alpha: 1 − confidence.
    """
    return Interval(
        -_melded_upper(better, worse, items, alpha / 2),
        _melded_upper(worse, better, items, alpha / 2),
    )


def _melded_upper(worse: int, better: int, items: int, tail: float) -> float:
    """Upper limit: the 1 − tail quantile of the larger of T_L(2B_U − 1) and T_U(2B_U − 1)."""
    flips = worse + better

    def excess(limit: float) -> float:
        return _melded_exceedance(limit, worse, flips, items) - tail

    if excess(0.0) <= 0.0:
        return float(brentq(excess, -1.0, 0.0, xtol=1e-12)) if excess(0.0) < 0.0 else 0.0
    return float(brentq(excess, 0.0, 1.0, xtol=1e-12))


def _melded_exceedance(limit: float, worse: int, flips: int, items: int) -> float:
    """P(max(T_L g, T_U g) > limit) with g = 2B_U − 1 and B_U ~ Beta(b + 1, m − b)."""
    if limit >= 1.0:
        return 0.0
    gains, weights = _upper_share_nodes(worse, flips)
    if limit >= 0.0:
        ratio = np.where(gains > limit, limit / np.maximum(gains, 1e-300), 1.0)
        return float(weights @ _beta_tail(ratio, flips + 1, items - flips))
    ratio = np.where(gains < 0.0, np.minimum(limit / np.minimum(gains, -1e-300), 1.0), 1.0)
    below = np.where(gains < 0.0, 1.0 - _beta_tail(ratio, flips, items - flips + 1), 1.0)
    return float(weights @ below)
