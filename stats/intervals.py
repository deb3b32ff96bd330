"""How large the drop is: confidence intervals for the mean difference over all pairs.

All are two-sided at 1 − α and in the unit of the scores, over *all* pairs, so that they can be compared
with a margin. For right-or-wrong answers the interval of Fay & Lumbard is the default, because it cannot
contradict the exact test: it excludes 0 exactly when the one-sided test rejects at α/2. Averages use
Student's t on items or clusters; where every item agrees a standard error would be 0, which is no evidence
of no drop, and the interval falls back on a bound that needs no variance.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats as sp
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betaincinv

from stats.arrays import Floats

NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(128)


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
        worse: b, baseline right and variant wrong.
        better: c, baseline wrong and variant right.
        items: n, all pairs.
        alpha: 1 − confidence.
    """
    low = -_melded_upper(better, worse, items, alpha / 2)
    return Interval(low, _melded_upper(worse, better, items, alpha / 2))


def _melded_upper(worse: int, better: int, items: int, tail: float) -> float:
    """The 1 − tail quantile of the larger of T_L·g and T_U·g, with g = 2B_U − 1."""

    def excess(limit: float) -> float:
        return _melded_exceedance(limit, worse, better, items) - tail

    if better > 0 and betaincc(worse + 1, better, 0.5) <= tail:
        return float(brentq(excess, -1.0, -1e-15, xtol=1e-12))
    return float(brentq(excess, 0.0, 1.0, xtol=1e-12))


def _melded_exceedance(limit: float, worse: int, better: int, items: int) -> float:
    """P(max(T_L·g, T_U·g) > limit): the share B is integrated out, the share T has a closed tail."""
    flips = worse + better
    if limit >= 0.0:
        gain, weight = _gain_nodes(worse, better, positive=True)
        share = np.minimum(limit / gain, 1.0)
        over = betaincc(flips + 1, items - flips, share) if flips < items else (share < 1.0)
        return float(weight @ over)
    gain, weight = _gain_nodes(worse, better, positive=False)
    share = np.minimum(limit / gain, 1.0)
    return 1.0 - float(weight.sum()) + float(weight @ betainc(flips, items - flips + 1, share))


def _gain_nodes(worse: int, better: int, *, positive: bool) -> tuple[Floats, Floats]:
    """Quadrature nodes of g = 2B_U − 1 on one side of 0, B_U ~ Beta(b + 1, c), uniform in its quantiles."""
    if better == 0:
        return np.ones(1), np.ones(1)
    half = float(betainc(worse + 1, better, 0.5))
    start, stop = (half, 1.0) if positive else (0.0, half)
    quantiles = start + (stop - start) * (NODES + 1.0) / 2.0
    gain = 2.0 * betaincinv(worse + 1, better, quantiles) - 1.0
    gain = np.maximum(gain, 1e-300) if positive else np.minimum(gain, -1e-300)
    return gain, NODE_WEIGHTS * (stop - start) / 2.0


def tango_score(worse: int, better: int, items: int, drop: float) -> float:
    """Tango's score statistic for a true drop D, standard normal if D is true (Tango 1998).

    Args:
        worse: b.
        better: c.
        items: n.
        drop: D, strictly between −1 and 1.

    Returns:
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
    """The drops that Tango's score test does not reject at α (two-sided).

    Args:
        worse: b.
        better: c.
        items: n, all pairs.
        alpha: 1 − confidence.
    """
    bound = float(sp.norm.isf(alpha / 2))
    drop = (worse - better) / items
    edge = 1.0 - 1e-12

    def limit(sign: float, end: float) -> float:
        def excess(value: float) -> float:
            return tango_score(worse, better, items, value) - sign * bound

        if abs(drop - end) < 1e-9 or excess(end) * sign <= 0.0:
            return float(np.sign(end))
        return float(brentq(excess, min(drop, end), max(drop, end), xtol=1e-12))

    return Interval(limit(1.0, -edge), limit(-1.0, edge))


def cluster_standard_error(sums: Floats, sizes: Floats) -> float:
    """Standard error of Σ sums / Σ sizes over independent clusters (ratio estimator; items have size 1).

    Args:
        sums: difference summed over each cluster, shape (G,).
        sizes: items in each cluster, shape (G,).

    Returns:
        √(G/(G − 1)·Σ(sum − size·mean)²)/Σ sizes, infinite for a single cluster.
    """
    groups = sums.size
    if groups < 2:
        return float("inf")
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(groups / (groups - 1) * (residuals @ residuals)) / sizes.sum())


def t_interval(
    sums: Floats, sizes: Floats | None = None, alpha: float = 0.05, reach: float = 1.0
) -> Interval:
    """Student's t interval for the mean difference, G − 1 degrees of freedom, within ± reach.

    Args:
        sums: differences per item, or summed over each cluster, shape (G,).
        sizes: items per cluster, shape (G,); None where every block is one item.
        alpha: 1 − confidence.
        reach: largest possible |difference| of one item; infinite where scores have no bounds.

    Returns:
        The interval; where all blocks agree, mean ± reach·(1 − (α/2)^(1/G)), because a share of differing
        blocks larger than that would have shown itself (the exact binomial bound for zero events).
    """
    counts = np.ones_like(sums) if sizes is None else sizes
    mean = float(sums.sum() / counts.sum())
    error = cluster_standard_error(sums, counts)
    if error <= 1e-12 * abs(mean):
        half = _furthest(mean, reach) * unseen_share(sums.size, alpha / 2)
    else:
        half = float(sp.t.isf(alpha / 2, max(sums.size - 1, 1))) * error
    return Interval(max(mean - half, -reach), min(mean + half, reach))


def _furthest(mean: float, reach: float) -> float:
    """How far one unseen item can lie from items that all equal the mean."""
    return abs(mean) + reach


def unseen_share(blocks: int, alpha: float) -> float:
    """Largest share that leaves no trace in `blocks` independent draws with probability α: 1 − α^(1/n)."""
    return float(-np.expm1(np.log(alpha) / blocks))


def bounded_interval(differences: Floats, alpha: float = 0.05, reach: float = 1.0) -> Interval:
    """Distribution-free interval for the mean of independent differences in [−reach, reach].

    Anderson's (1969) bound: the mean of the largest and the smallest distribution within the
    Dvoretzky–Kiefer–Wolfowitz band of the empirical one, with Massart's (1990) constant. Valid for every n
    and every bounded law, never wider than Hoeffding's interval.

    Args:
        differences: one per item or cluster mean, shape (n,).
        alpha: 1 − confidence.
        reach: largest possible |difference|.
    """
    high = _anderson_upper(differences, alpha / 2, reach)
    return Interval(-_anderson_upper(-differences, alpha / 2, reach), high)


def _anderson_upper(values: Floats, tail: float, reach: float) -> float:
    """Move the lowest share √(ln(1/tail)/2n) of the sample up to the upper bound, and average."""
    ordered = np.sort(values)
    band = float(np.sqrt(np.log(1.0 / tail) / (2.0 * ordered.size)))
    if band >= 1.0:
        return reach
    kept = np.clip((np.arange(ordered.size) + 1.0) / ordered.size - band, 0.0, 1.0 / ordered.size)
    return float(kept @ ordered + (1.0 - kept.sum()) * reach)
