"""Confidence intervals for the mean difference over all pairs, of right-or-wrong answers and in general.

All are two-sided at 1 − α and in the unit of the scores, over *all* pairs, so that they can be compared
with a margin. For right-or-wrong answers the interval of Fay & Lumbard is the default, because it cannot
contradict the exact test: it excludes 0 exactly when the one-sided test rejects at α/2.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betaincinv, ndtr, ndtri

from stats.arrays import Floats

FEW_FLIPS = 5  # below this many flips in one direction the melded integrand has a kink and needs more nodes

Interval: TypeAlias = tuple[float, float]  # lower and upper limit, in the unit of the scores


def fay_lumbard_interval(worse: int, better: int, items: int, alpha: float = 0.05) -> Interval:
    """Melded interval at 1 − α for (b − c)/n, compatible with the exact McNemar test.

    With T the share of flips and B the share of flips to wrong, the limits are quantiles of T(2B − 1) under
    the lower and upper confidence distributions of T and B (Fay & Lumbard 2021, PMC9447366); of n pairs b are
    worse, c better.
    """
    low = -fay_lumbard_upper(better, worse, items, alpha / 2)
    return low, fay_lumbard_upper(worse, better, items, alpha / 2)


@lru_cache(maxsize=1 << 14)
def fay_lumbard_upper(worse: int, better: int, items: int, tail: float) -> float:
    """Upper limit at 1 − tail: that quantile of the larger of T_L·g and T_U·g, with g = 2B_U − 1.

    Where P(g > 0), the p-value of the exact test, is at most the tail, it is negative and T_L decides,
    else T_U. P(T·g > x) is the mean of P(g > x/T) over T, which is smooth in T: a few nodes suffice.
    Without a flip for the better g is 1 and the quantile is that of T_U.
    """
    flips = worse + better
    if better == 0:
        return float(betaincinv(flips + 1, items - flips, 1.0 - tail)) if flips < items else 1.0
    negative = betaincc(worse + 1, better, 0.5) <= tail
    first, second = (flips, items - flips + 1) if negative else (flips + 1, items - flips)
    above = _melded_tail(worse, better, (first, second))

    @cache
    def excess(limit: float) -> float:
        return above(limit) - tail

    spread = float(np.sqrt(flips)) / items
    guess = (worse - better) / items - float(ndtri(tail)) * spread
    ends = (-1.0, 0.0) if negative else (0.0, 1.0)
    low, high = max(ends[0], guess - 0.1 * spread), min(ends[1], guess + 0.1 * spread)
    if low >= high or not excess(low) > 0.0 > excess(high):
        low, high = ends
    return float(brentq(excess, low, high, xtol=1e-10))


def _melded_tail(worse: float, better: float, share_beta: tuple[float, float]) -> Callable[[float], float]:
    """P(T·g ≥ limit) as a function of the limit, for T ~ Beta(share_beta), 1 where its second part is 0."""
    quantiles, weights = _normal_nodes(41 if min(worse, better) >= FEW_FLIPS else 401)
    share = betaincinv(*share_beta, quantiles) if share_beta[1] else np.ones_like(quantiles)

    def above(limit: float) -> float:
        gain = np.clip(limit / share, -1.0, 1.0)
        return float(weights @ betaincc(worse + 1, better, (1.0 + gain) / 2.0))

    return above


def melded_upper_tail(worse: float, better: float, items: float, drop: float) -> float:
    """P(upper confidence distribution ≥ drop): at most α/2 exactly where the melded interval ends below.

    The drop is in (0, 1), where the upper distribution of T decides.
    """
    flips = worse + better
    if flips == items and better == 0:
        return 1.0
    if better == 0:
        return float(betaincc(flips + 1, items - flips, drop))
    return _melded_tail(worse, better, (flips + 1, items - flips))(drop)


@cache
def _normal_nodes(count: int) -> tuple[Floats, Floats]:
    """Quantiles and weights of the trapezoidal rule on the normal scale, exponentially accurate."""
    nodes = np.linspace(-7.0, 7.0, count)
    weights = np.exp(-(nodes**2) / 2.0)
    return ndtr(nodes), weights / weights.sum()


def tango_score(worse: float, better: float, items: float, drop: float) -> float:
    """Tango's (1998) score statistic for a drop D strictly within ±1, standard normal if D is true.

    (b − c − nD)/√(n(2p₂₁ + D(1 − D))), p₂₁ the restricted maximum-likelihood estimate.
    """
    linear = -worse - better + (2 * items - worse + better) * drop
    constant = -better * drop * (1.0 - drop)
    root = np.sqrt(max(linear**2 - 8.0 * items * constant, 0.0))
    share = max((root - linear) / (4.0 * items), 0.0)
    variance = items * (2.0 * share + drop * (1.0 - drop))
    gap = worse - better - items * drop
    if variance <= 0.0:
        return 0.0 if gap == 0.0 else float(np.copysign(np.inf, gap))
    return float(gap / np.sqrt(variance))


def tango_interval(worse: int, better: int, items: int, alpha: float = 0.05) -> Interval:
    """The drops that Tango's score test does not reject at α (two-sided)."""
    bound = -float(ndtri(alpha / 2))
    drop = (worse - better) / items
    edge = 1.0 - 1e-12

    def limit(sign: float, end: float) -> float:
        def excess(value: float) -> float:
            return tango_score(worse, better, items, value) - sign * bound

        if abs(drop - end) < 1e-9 or excess(end) * sign <= 0.0:
            return float(np.sign(end))
        return float(brentq(excess, min(drop, end), max(drop, end), xtol=1e-12))

    return limit(1.0, -edge), limit(-1.0, edge)
