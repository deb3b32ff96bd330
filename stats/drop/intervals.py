"""How large the drop is: confidence intervals for the mean difference over all pairs.

All are two-sided at 1 − α and in the unit of the scores, over *all* pairs, so that they can be compared
with a margin. For right-or-wrong answers the interval of Fay & Lumbard is the default, because it cannot
contradict the exact test: it excludes 0 exactly when the one-sided test rejects at α/2. Clusters, and
scores without bounds, use Student's t; where every item agrees a standard error would be 0, which is no
evidence of no drop, and the interval falls back on a bound that needs no variance.

The mean difference over clusters of any size: bias-reduced errors and Satterthwaite's degrees of freedom.

A few large clusters decide the mean, and the usual ratio estimator then underrates its error and overrates
its degrees of freedom: with 15 to 30 clusters of very unequal size a drop of the margin was certified up to
.11 of the time at .05. The error here is CR2 (Bell & McCaffrey 2002), written out for a mean; with equal
clusters it is Student's, G − 1 degrees of freedom.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betaincinv, ndtr, ndtri, stdtr, stdtrit

from stats.arrays import ROUNDING, Floats

ROOT_TOLERANCE = 1e-10

FEW_FLIPS = 5
"""Below this many flips in one direction the melded integrand has a kink and needs more nodes."""

FEW_DIFFERENCES = 50
"""Below so many items or clusters that differ Student's t needs help against skewed differences."""


@dataclass(frozen=True)
class Interval:
    """Lower and upper limit, in the unit of the scores."""

    low: float
    high: float


@dataclass(frozen=True)
class ClusteredMean:
    """A mean over clusters, with what its error is worth.

    Attributes:
        mean: Σ sums/Σ sizes.
        standard_error: CR2; infinite for a single cluster.
        freedom: Satterthwaite's degrees of freedom.
    """

    mean: float
    standard_error: float
    freedom: float

    def tail(self, margin: float, scale: float = 1.0) -> float:
        """P(t ≤ (mean − M)/SE), with `scale` times as many clusters."""
        if not np.isfinite(self.standard_error):
            return 1.0
        gap = self.mean - margin
        if self.standard_error <= 1e-12 * abs(self.mean):
            return 0.0 if gap < 0.0 else 1.0
        return float(stdtr(self.freedom * scale, gap * np.sqrt(scale) / self.standard_error))

    def half_width(self, tail: float) -> float:
        """How far a one-sided limit lies from the mean."""
        if not np.isfinite(self.standard_error):
            return float("inf")
        return -float(stdtrit(self.freedom, tail)) * self.standard_error


def clustered_mean(sums: Floats, sizes: Floats) -> ClusteredMean:
    """Mean, CR2 standard error and degrees of freedom.

    Args:
        sums: differences summed over each cluster, shape (G,).
        sizes: items in each cluster, shape (G,).

    Returns:
        SE² = Σ (sum − size·mean)²/(1 − h)/N² with h = size/N. The degrees of freedom are (tr B)²/tr B² of
        that quadratic form under a working model, the smaller of independent items and of items that all
        agree within a cluster.
    """
    total = float(sizes.sum())
    mean = float(sums.sum()) / total
    if sums.size < 2:
        return ClusteredMean(mean, float("inf"), 1.0)
    shares = sizes / total
    weights = 1.0 / (1.0 - shares)
    error = float(np.sqrt(weights @ (sums - sizes * mean) ** 2)) / total
    freedom = min(_freedom(shares, weights, shares), _freedom(shares, weights, shares**2))
    return ClusteredMean(mean, error, freedom)


def _freedom(shares: Floats, weights: Floats, variances: Floats) -> float:
    """(tr B)²/tr B² for residuals of cluster sums with the given variances.

    Their covariance is δ_gh V_g − h_g V_h − V_g h_h + h_g h_h ΣV; B weights it by 1/√(1 − h) on either side.
    """
    whole = float(variances.sum())
    diagonal = weights * (variances - 2.0 * shares * variances + shares**2 * whole)
    outer = weights * (shares**2 * whole - 2.0 * shares * variances)
    hh, vv, hv = (float(weights @ product) for product in (shares**2, variances**2, shares * variances))
    squares = 2.0 * hh * vv + whole**2 * hh**2 + 2.0 * hv**2 - 4.0 * whole * hh * hv
    squares += float(diagonal @ diagonal - outer @ outer)
    return float(diagonal.sum()) ** 2 / squares


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
    low = -fay_lumbard_upper(better, worse, items, alpha / 2)
    return Interval(low, fay_lumbard_upper(worse, better, items, alpha / 2))


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
    return _falling_root(excess, guess, 0.1 * spread, (-1.0, 0.0) if negative else (0.0, 1.0))


def _melded_tail(worse: float, better: float, share_law: tuple[float, float]) -> Callable[[float], float]:
    """P(T·g ≥ limit) as a function of the limit, for T ~ Beta(share_law), 1 where its second part is 0."""
    quantiles, weights = _normal_nodes(41 if min(worse, better) >= FEW_FLIPS else 401)
    share = betaincinv(*share_law, quantiles) if share_law[1] else np.ones_like(quantiles)

    def above(limit: float) -> float:
        gain = np.clip(limit / share, -1.0, 1.0)
        return float(weights @ betaincc(worse + 1, better, (1.0 + gain) / 2.0))

    return above


def melded_upper_tail(worse: float, better: float, items: float, drop: float) -> float:
    """P(upper confidence distribution ≥ drop): at most α/2 exactly where the melded interval ends below.

    Args:
        worse: b.
        better: c.
        items: n, all pairs.
        drop: D in (0, 1), where the upper distribution of T decides.
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


def _falling_root(
    function: Callable[[float], float], guess: float, width: float, bounds: tuple[float, float]
) -> float:
    """Root of a falling function within the bounds, looked for around a guess first."""
    low, high = max(bounds[0], guess - width), min(bounds[1], guess + width)
    if low >= high or not function(low) > 0.0 > function(high):
        low, high = bounds
    return float(brentq(function, low, high, xtol=ROOT_TOLERANCE))


def tango_score(worse: float, better: float, items: float, drop: float) -> float:
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
    bound = -float(ndtri(alpha / 2))
    drop = (worse - better) / items
    edge = 1.0 - 1e-12

    def limit(sign: float, end: float) -> float:
        def excess(value: float) -> float:
            return tango_score(worse, better, items, value) - sign * bound

        if abs(drop - end) < 1e-9 or excess(end) * sign <= 0.0:
            return float(np.sign(end))
        return float(brentq(excess, min(drop, end), max(drop, end), xtol=1e-12))

    return Interval(limit(1.0, -edge), limit(-1.0, edge))


def t_interval(
    sums: Floats, sizes: Floats | None = None, alpha: float = 0.05, reach: float = 1.0
) -> Interval:
    """Student's t interval for the mean difference, within ± reach; error and degrees by `clustered_mean`.

    Few and skewed differences make it too short, because the rare large ones are often not drawn. Where fewer
    than 50 blocks differ, and those are under three quarters of all, it is therefore widened to cover the
    interval that two more blocks give, which differ as much as the largest found, one in either direction
    (in the manner of Agresti & Coull 1998).

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
    error, mean = clustered_mean(sums, counts), float(sums.sum() / counts.sum())
    if error.standard_error <= ROUNDING * abs(mean):
        half = _furthest(mean, reach) * unseen_share(sums.size, alpha / 2)
        return Interval(max(mean - half, -reach), min(mean + half, reach))
    found = _around(error, alpha)
    if np.count_nonzero(sums) < min(FEW_DIFFERENCES, 0.75 * sums.size):
        largest = float(np.abs(sums).max())
        further = np.append(sums, [largest, -largest]), np.append(counts, [counts.mean()] * 2)
        more = _around(clustered_mean(*further), alpha)
        found = Interval(min(found.low, more.low), max(found.high, more.high))
    return Interval(max(found.low, -reach), min(found.high, reach))


def _around(found: ClusteredMean, alpha: float) -> Interval:
    half = found.half_width(alpha / 2)
    return Interval(found.mean - half, found.mean + half)


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
