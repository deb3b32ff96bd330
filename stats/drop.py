"""How large the drop is and whether it is acceptable, from whichever evidence the scores give.

"Not significantly worse" is not a certificate: the opposite hypothesis, "the drop is at least the margin",
has to be rejected. Right or wrong is counted, graded scores of independent items are a sample of bounded
differences, everything else is a mean over clusters. Each of the three has one p-value and the limits that
belong to it: the upper limit lies below the margin exactly where the p-value is at most α, because it
inverts that test. Limits are in the unit of the scores, over *all* pairs. For right-or-wrong answers the
interval of Fay & Lumbard is the default, because it cannot contradict the exact test: it excludes 0 exactly
when the one-sided test rejects at α/2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betaincinv, log_ndtr, ndtr, ndtri, stdtr, stdtrit

from stats.arrays import ROUNDING, SMALLEST_P, Floats
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks

MANY_FLIPS = 20  # from so many flips on Tango's normal limit holds its level to .3 %
MANY_CLUSTERS = 10  # from so many clusters that differ on Student's t is trusted with their spread

FEW_DIFFERENCES = 50
"""Below so many items or clusters that differ Student's interval needs help against skewed differences."""

FEW_FLIPS = 5  # below this many flips in one direction the melded integrand has a kink and needs more nodes

Interval: TypeAlias = tuple[float, float]  # lower and upper limit, in the unit of the scores
LARGE_LOSS = 0.25  # a loss this far above the mean, in shares of the range, is a jump of the sum

SMOOTH = 0.5
"""Sum of squares of all but the large losses, in squares of the largest, above which the sum has no jumps."""

INSIDE = 1.0 - 1e-12


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


@dataclass(frozen=True)
class Differences:
    """Differences of graded or averaged scores of independent items, in shares of their range."""

    values: Floats  # distinct differences in [−1, 1], ascending, shape (k,)
    # how often each occurs, shape (k,); fractions are allowed, to ask what more items would show
    counts: Floats

    @classmethod
    def of(cls, differences: Floats) -> "Differences":
        """Count the distinct differences."""
        values, counts = np.unique(differences, return_counts=True)
        return cls(values, counts.astype(np.float64))

    @property
    def items(self) -> float:
        """How many differences there are."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values @ self.counts) / self.items

    @property
    def varies(self) -> bool:
        """Whether there is more than one difference, so that more items would scatter."""
        return self.values.size > 1

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """P-value of "the mean is at least the margin", with `scale` times as many items like these."""
        return mean_noninferiority(Differences(self.values, self.counts * scale), margin)

    def interval(self, alpha: float) -> Interval:
        """Both one-sided limits at α/2."""
        return self.limits(alpha / 2.0)

    def limits(self, tail: float) -> Interval:
        """One-sided limits at 1 − tail each, by inverting the test on either side."""
        mirrored = Differences(-self.values[::-1], self.counts[::-1])
        return -mean_upper(mirrored, tail), mean_upper(self, tail)


def mean_noninferiority(sample: Differences, margin: float) -> float:
    """One-sided p-value of "the mean is at least the margin", for independent differences in [−1, 1].

    Student's t takes the spread of the sample at its word. Where a few items lose everything and the sample
    holds none or few of them, it certifies a drop of the margin up to .15 of the time at .05. Here the
    largest of three p-values, at least 1e-300, is taken; the margin is in shares of the range:

    - *the score on the restricted likelihood*: the distribution that is most likely under "the mean is the
      margin", with the mass that this needs at the largest possible loss, gives the variance (Owen 2001; for
      right or wrong it is Tango's score). Unseen losses count in it, so it is as powerful as t and keeps the
      level;
    - *missed losses*: the chance that the items miss every total loss that would bring the mean up to M;
    - *Gaffke's bound* on the large losses alone (Gaffke 2005; Learned-Miller & Thomas 2020), where nothing
      but the jumps from one large loss to the next spreads the sum: a normal law knows no such jumps, and for
      right or wrong Gaffke's bound is that of Clopper & Pearson.
    """
    if margin >= 1.0:
        return SMALLEST_P
    p = max(score_p(sample, margin), missed_losses(sample.mean, sample.items, margin))
    jumps = _large_losses(sample)
    if jumps is not None:
        p = max(p, gaffke_p(jumps, margin))
    return max(p, SMALLEST_P)


def mean_upper(sample: Differences, tail: float) -> float:
    """One-sided upper limit: below M exactly where `mean_noninferiority` at M is at most `tail` < ½."""
    mean = sample.mean
    if mean >= 1.0 or mean_noninferiority(sample, INSIDE) > tail:
        return 1.0

    def excess(limit: float) -> float:
        return float(np.log(mean_noninferiority(sample, limit)) - np.log(tail))

    return float(brentq(excess, mean, INSIDE, xtol=1e-10))


def score_p(sample: Differences, margin: float) -> float:
    """Φ of the score on the restricted likelihood: √n(mean − M)/σ₀, for M < 1.

    σ₀² is the variance about M of the most likely distribution with mean M: weights 1/(n(1 − l·x)) on the
    differences x = d − M, the rest on a total loss; l is 0 where the mean is M or more.
    """
    gaps, total = sample.values - margin, 1.0 - margin
    mean, tilt = float(gaps @ sample.counts), 0.0

    def slope(tilt: float) -> float:
        return float(sample.counts @ (gaps / (1.0 - tilt * gaps)))

    if mean < 0.0:  # the root, or the most there can be, where mass goes to the total loss
        most = INSIDE / total
        tilt = most if slope(most) <= 0.0 else float(brentq(slope, 0.0, most, xtol=1e-12))
    weights = sample.counts / (1.0 - tilt * gaps) / sample.items
    variance = float(weights @ gaps**2) + max(1.0 - float(weights.sum()), 0.0) * total**2
    if variance == 0.0:
        return 0.5
    return float(ndtr(mean / np.sqrt(sample.items * variance)))


def missed_losses(mean: float, items: float, margin: float) -> float:
    """Chance to see none of the total losses whose share brings the mean from where it is up to M.

    (1 − s)ⁿ for n independent items or clusters, s = (M − mean)/(1 − mean); 1 where the mean is M or more.
    """
    share = min(max((margin - mean) / (1.0 - mean), 0.0), 1.0) if mean < 1.0 else 0.0
    return float((1.0 - share) ** items)


def gaffke_p(sample: Differences, margin: float) -> float:
    """Gaffke's p-value of "the mean is at least M": P(Σ Eᵢ(dᵢ − M) + E₀(1 − M) ≥ 0), E exponential, M < 1.

    By the saddlepoint approximation of Lugannani & Rice (1980), relative error below 2 % for p ≥ .001.
    """
    gaps = np.append(sample.values - margin, 1.0 - margin)
    counts = np.append(sample.counts, 1.0)
    if gaps.min() >= 0.0:
        return 1.0

    def slope(point: float) -> float:
        return float(counts @ (gaps / (1.0 - point * gaps)))

    point = float(brentq(slope, INSIDE / float(gaps.min()), INSIDE / float(gaps.max()), xtol=1e-14))
    left = 1.0 - point * gaps
    root = np.sign(point) * np.sqrt(max(2.0 * float(counts @ np.log(left)), 0.0))
    if abs(root) < 1e-4:
        return 0.5
    spread = point * np.sqrt(float(counts @ (gaps / left) ** 2))
    density = np.exp(-(root**2) / 2.0) / np.sqrt(2.0 * np.pi)
    return float(np.clip(np.exp(log_ndtr(-root)) + density * (1.0 / spread - 1.0 / root), 0.0, 1.0))


def _large_losses(sample: Differences) -> Differences | None:
    """The sample with all but its large losses at their mean; None where the sum has no jumps."""
    large = sample.values > sample.mean + LARGE_LOSS
    others, rest = sample.values[~large], sample.counts[~large]
    if not large.any() or not others.size:
        return None
    middle = float(others @ rest) / float(rest.sum())
    if float(rest @ (others - middle) ** 2) >= SMOOTH * (float(sample.values[-1]) - middle) ** 2:
        return None
    return Differences(np.append(middle, sample.values[large]), np.append(rest.sum(), sample.counts[large]))


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
            return max(float(ndtr(tango_score(worse, better, items, margin))), SMALLEST_P)
        return max(melded_upper_tail(worse, better, items, margin), SMALLEST_P)

    def interval(self, alpha: float) -> Interval:
        """Fay & Lumbard's at 1 − α, which excludes 0 exactly where the exact test rejects at α/2."""
        return fay_lumbard_interval(self.worse, self.better, self.items, alpha)

    def limits(self, tail: float) -> Interval:
        """One-sided limits at 1 − tail each: Fay & Lumbard's, above with 20 flips or more Tango's."""
        low = -fay_lumbard_upper(self.better, self.worse, self.items, tail)
        if self.worse + self.better < MANY_FLIPS:
            return low, fay_lumbard_upper(self.worse, self.better, self.items, tail)
        return low, tango_interval(self.worse, self.better, self.items, 2.0 * tail)[1]


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
