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
from functools import cache, cached_property, lru_cache
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betaincinv, ndtr, ndtri, stdtr, stdtrit

from stats.arrays import ROUNDING, SMALLEST_P, Floats, Ints
from stats.distributions.lattice import to_lattice
from stats.distributions.splits import Component
from stats.distributions.sums import LatticeSum
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks

MANY_FLIPS = 20  # from so many flips on Tango's normal limit holds its level to .3 %

FEW_DIFFERENCES = 50
"""Below so many items or clusters that differ Student's interval needs help against skewed differences."""

FEW_FLIPS = 5  # below this many flips in one direction the melded integrand has a kink and needs more nodes

Interval: TypeAlias = tuple[float, float]  # lower and upper limit, in the unit of the scores

SPREAD_IN_STEPS, FINEST = 8, 4_096
"""Steps of a grid to a standard deviation of differences that have no lattice, and at most to their range."""
SMOOTH = 1 << 14  # steps to a standard deviation of a sum from which on it is taken as normal

STAKE, LARGEST_STAKE = float(np.sqrt(2.0 * np.log(1.0 / 0.05))), 0.9
"""Stake on all planned blocks, over the root of their number and variance, best for a level of .05; largest
stake as a share of what a total loss leaves."""

INSIDE = 1.0 - 1e-12
Certificate: TypeAlias = Literal["default", "proven"]
"""What a certificate rests on: the most likely distribution at the margin, or a proof for all of them."""
NONE: Ints = np.zeros(0, dtype=np.int64)
BARELY = 1e-9  # distance from a value at which a limit is put that must be on one side of it but is not
MOST_TAIL = 0.49  # one-sided limits exist for levels below ½ only
TIED = 1e-8  # share of a tail by which another may differ and be the same: nine digits of them are exact


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
    else T_U. P(T·g > x) is the mean of P(g > x/T) over T, which is smooth in T: a few nodes suffice. The
    boundary of a look is such a p-value: the quantile is then 0, which the test rejects. Without a flip for
    the better g is 1 and the quantile is that of T_U.
    """
    flips = worse + better
    if better == 0:
        return float(betaincinv(flips + 1, items - flips, 1.0 - tail)) if flips < items else 1.0
    p = float(betaincc(worse + 1, better, 0.5))
    if abs(p - tail) <= TIED * tail:
        return -BARELY
    negative = p < tail
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
    """Differences of independent items, graded or averaged, or means of clusters, in shares of the range.

    Student's t takes the spread of the sample at its word. Where a few items lose everything and the sample
    holds none or few of them, it certifies a drop of the margin up to .15 of the time at .05. Here the sum is
    tested under the distribution that is most likely if "the mean is the margin" (Owen 2001), with the mass
    that this needs on a total loss: unseen losses count, rare changes are the jumps that they are, and where
    neither is the case the test is as powerful as t.
    """

    values: Floats  # distinct differences, ascending, shape (k,)
    counts: Floats  # how often each occurs, shape (k,)

    @classmethod
    def of(cls, differences: Floats) -> "Differences":
        """Count the distinct differences."""
        values, counts = np.unique(differences, return_counts=True)
        return cls(values, counts.astype(np.float64))

    @cached_property
    def items(self) -> float:
        """How many differences there are."""
        return float(self.counts.sum())

    @cached_property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values @ self.counts) / self.items

    @cached_property
    def standard_error(self) -> float:
        """Of the mean, by the spread of the sample."""
        return float(np.sqrt(self.counts @ (self.values - self.mean) ** 2)) / self.items

    @property
    def varies(self) -> bool:
        """Whether there is more than one difference, so that more items would scatter."""
        return self.values.size > 1

    @cached_property
    def _on_grid(self) -> tuple[float, Ints, Floats]:
        """A step, the differences and a total loss in steps, ascending, and how often each occurs.

        Differences that have no lattice go to the two nearest points of a fine grid, which keeps their mean
        and adds at most 1/256 to their variance.
        """
        total = max(1.0, float(self.values[-1]))
        places, counts = np.append(self.values, total), np.append(self.counts, 0.0)
        if (lattice := to_lattice(places, FINEST)) is None:
            spread = self.standard_error * float(np.sqrt(self.items))
            step = total / min(float(np.ceil(SPREAD_IN_STEPS * total / (spread or ROUNDING))), float(FINEST))
            below = np.floor(places / step + ROUNDING)
            above = np.clip(places / step - below, 0.0, 1.0)
            counts = np.concatenate([counts * (1.0 - above), counts * above])
            lattice = step, np.concatenate([below, below + 1.0]).astype(np.int64)
        steps, inverse = np.unique(lattice[1], return_inverse=True)
        return lattice[0], steps, np.bincount(inverse, counts).astype(np.float64)

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """P-value of "the mean is at least the margin", with `scale` times as many items like these.

        The chance of a sum as low as the observed one, of as many draws from the most likely distribution
        with this mean; and no less than the chance to miss every total loss, `missed_losses`.
        """
        step, steps, counts = self._on_grid
        gaps: Floats = np.asarray(steps * step - margin, dtype=np.float64)
        if margin >= INSIDE or gaps[-1] <= 0.0:
            return SMALLEST_P
        chances, draws = _most_likely(gaps, counts), round(self.items * scale)
        if chances is None:
            return 1.0
        missed, kept = missed_losses(self.mean, draws, margin), np.flatnonzero(chances)
        variance = float(chances @ gaps**2)
        if scale != 1.0 or draws * variance > (SMOOTH * step) ** 2:  # planning does without exactness
            return max(float(ndtr((self.mean - margin) * np.sqrt(draws / variance))), missed, SMALLEST_P)
        gains = Component(-steps[kept][::-1], chances[kept][::-1], draws)
        least = -int(np.ceil(self.mean * draws / step - 1e-6))
        tail = np.exp(LatticeSum(NONE, NONE, [gains]).log_tail(least))
        return max(float(tail), missed, SMALLEST_P)

    def interval(self, alpha: float) -> Interval:
        """Both one-sided limits at α/2."""
        return self.limits(alpha / 2.0)

    def limits(self, tail: float) -> Interval:
        """One-sided limits at 1 − tail each, by inverting the test on either side."""
        mirrored = Differences(-self.values[::-1], self.counts[::-1])
        return -upper_limit(mirrored, tail), upper_limit(self, tail)


def _most_likely(gaps: Floats, counts: Floats) -> Floats | None:
    """Chances of the most likely distribution with mean 0 on the gaps; None if all lie above 0.

    counts/(n(1 − l·gap)) with the l that makes the mean 0; where no l does, the rest is on the largest gap,
    whose count may be 0 (Owen 2001).
    """
    if gaps[0] >= 0.0:
        return None

    def slope(tilt: float) -> float:
        return float(counts @ (gaps / (1.0 - tilt * gaps)))

    mean = float(gaps @ counts)
    end = INSIDE / float(gaps[-1] if mean < 0.0 else gaps[0])
    tilt = end if slope(end) * mean > 0.0 else float(brentq(slope, min(0.0, end), max(0.0, end), xtol=1e-12))
    chances = counts / (1.0 - tilt * gaps) / counts.sum()
    chances[-1] += max(1.0 - chances.sum(), 0.0)
    return np.asarray(chances / chances.sum())


def upper_limit(evidence: "Differences | ClusterEvidence", tail: float) -> float:
    """One-sided upper limit: below M exactly where the p-value at M is at most `tail` < ½."""
    z, mean = float(ndtri(tail)), evidence.mean
    half = max(-z * evidence.standard_error, 1e-6)  # if the mean is nearly normal
    tolerance = max(1e-5 * half, 1e-10)

    @cache
    def excess(limit: float) -> float:
        return float(ndtri(min(evidence.p_noninferior(limit), INSIDE))) - z

    before, after, known = mean, mean + 1.02 * half, -z  # p is about ½ at the mean
    for _ in range(8):  # by secants, which nearly always do
        if not mean < after < INSIDE or (found := excess(after)) == known:
            break
        step = found * (after - before) / (known - found)
        before, after, known = after, after + step, found
        if abs(step) <= tolerance:
            return after
    low, high = mean, mean + half
    while high < INSIDE and excess(high) > 0.0:
        low, high = high, 2.0 * high - mean
    if high >= INSIDE and (mean >= INSIDE or excess(high := INSIDE) > 0.0):
        return 1.0
    return float(brentq(excess, low, high, xtol=tolerance))


def missed_losses(mean: float, items: float, margin: float) -> float:
    """Chance to see none of the total losses whose share brings the mean from where it is up to M.

    (1 − s)ⁿ for n independent items or clusters, s = (M − mean)/(1 − mean); 1 where the mean is M or more.
    """
    share = min(max((margin - mean) / (1.0 - mean), 0.0), 1.0) if mean < 1.0 else 0.0
    return float((1.0 - share) ** items)


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
        self.is_bounded = bool(np.isfinite(max_abs_difference))
        self._agree = self.standard_error <= ROUNDING * abs(self.mean)  # one mean of all, but for rounding

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

        P(t ≤ (mean − M)/SE) where scores have no bounds or clusters are unequal; where there are bounds it is
        at least that of `Differences`, of the means of the clusters, in which each deviates from M in
        proportion to its size. So losses that sit in whole clusters count, of which few or none were drawn.
        """
        if not np.isfinite(self.standard_error):
            return 1.0
        p = SMALLEST_P
        if self.is_bounded:
            size = float(self.sizes.mean())
            means = (self.sums - margin * (self.sizes - size)) / size
            p = Differences.of(means).p_noninferior(margin, scale)
        if self.is_bounded and bool((self.sizes == self.sizes[0]).all()):
            return p
        gap = (self.mean - margin) * np.sqrt(scale)
        if self._agree:
            return p if gap < 0.0 else 1.0
        return max(p, float(stdtr(self.freedom * scale, gap / self.standard_error)))

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
        if self.is_bounded:
            return low, upper_limit(self, tail)
        return low, self.mean + (0.0 if self._agree else self.half_width(tail))


class ProvenEvidence(ClusterEvidence):
    """The same with a certificate that holds for every distribution of independent blocks, by betting.

    Who stakes a share λ of the capital on every block in turn multiplies it by 1 + λ(M·size − sum)/(largest
    size), on average by at most 1 if the drop is M or more. So the capital ever exceeds 1/α with probability
    at most α (Ville 1939), whatever the stakes, if each is set before its block is seen: by the spread of
    those before it (Waudby-Smith & Ramdas 2024, §4). So it holds at all looks together, too. The largest
    cluster that is planned is taken for the largest there is.

    Args:
        sums, sizes, max_abs_difference: as above.
        planned: blocks in all and their largest size, if these are the first ones in an order that was drawn;
            by default they are all, and their order is drawn here.
    """

    def __init__(
        self,
        sums: Floats,
        sizes: Floats,
        max_abs_difference: float = 1.0,
        planned: tuple[int, float] | None = None,
    ) -> None:
        order = np.random.default_rng(0).permutation(sums.size) if planned is None else slice(None)
        super().__init__(sums[order], sizes[order], max_abs_difference)
        blocks, largest = planned or (sums.size, float(sizes.max()))
        self._losses, self._shares = self.sums / largest, self.sizes / largest
        count = np.arange(1.0, sums.size + 1.0)
        before = np.append(0.0, np.cumsum(self._losses)[:-1]) / np.maximum(count - 1.0, 1.0)
        squares = np.cumsum(np.append(0.25, (self._losses - before)[:-1] ** 2))
        self._stakes = STAKE / np.sqrt(blocks * squares / count)

    def p_noninferior(self, margin: float, scale: float = 1.0) -> float:
        """P-value of "the mean is at least the margin": 1/(largest capital).

        1 for scores without bounds, and where the mean found is itself not below the margin.
        """
        if not self.is_bounded or self.mean >= margin:
            return 1.0
        if margin >= 1.0:
            return SMALLEST_P
        stakes = np.minimum(self._stakes / np.sqrt(scale), LARGEST_STAKE / (1.0 - margin))
        logs = np.cumsum(np.log1p(stakes * (margin * self._shares - self._losses)))
        return max(float(np.exp(-scale * max(logs.max(), 0.0))), SMALLEST_P)


DropEvidence: TypeAlias = FlipEvidence | Differences | ClusterEvidence  # what is known of the mean difference


def evidence_of(tasks: Sequence[TaskScores], certificate: Certificate = "default") -> DropEvidence:
    """The evidence of all items of the given tasks together, for one kind of certificate."""
    if certificate == "proven":
        is_bounded = all(task.bounds is not None for task in tasks)
        return ProvenEvidence(*merged_blocks(tasks), 1.0 if is_bounded else float("inf"))
    together = clustered(tasks)
    if not together and all(task.binary for task in tasks):
        items = sum(task.differences.size for task in tasks)
        return FlipEvidence(sum(task.worse for task in tasks), sum(task.better for task in tasks), items)
    bounded = all(task.bounds is not None for task in tasks)
    if bounded and not together:
        return Differences.of(np.concatenate([task.differences for task in tasks]))
    return ClusterEvidence(*merged_blocks(tasks), 1.0 if bounded else float("inf"))


def block_evidence(
    sums: Floats, sizes: Floats, max_abs_difference: float, planned: tuple[int, float] | None = None
) -> DropEvidence:
    """The evidence of differences summed over each block, and its items, shape (G,) each.

    With the blocks and the largest size that are `planned` it is proven.
    """
    if planned is not None:
        return ProvenEvidence(sums, sizes, max_abs_difference, planned)
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
