"""Is a mean of bounded differences below a margin? A test that rare large losses cannot deceive.

Student's t takes the spread of the sample at its word. Where a few items lose everything and the sample holds
none or few of them, it certifies a drop of the margin up to .15 of the time at .05. Three answers are
combined here by their maximum:

- *the score on the restricted likelihood*: the distribution that is most likely under "the mean is the
  margin", with the mass that this needs at the largest possible loss, gives the variance (Owen 2001; for
  right or wrong it is Tango's score). Unseen losses count in it, so it is as powerful as t and keeps the
  level;
- *missed losses*: the chance that the items miss every total loss that would bring the mean up to the margin;
- *Gaffke's bound* on the large losses alone (Gaffke 2005; Learned-Miller & Thomas 2020), where nothing but
  the jumps from one large loss to the next spreads the sum: a normal law knows no such jumps, and for right
  or wrong Gaffke's bound is that of Clopper & Pearson.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from stats.arrays import SMALLEST_P, Floats
from stats.drop.intervals import Interval

LARGE_LOSS = 0.25  # a loss this far above the mean, in shares of the range, is a jump of the sum

SMOOTH = 0.5
"""Sum of squares of all but the large losses, in squares of the largest, above which the sum has no jumps."""

INSIDE = 1.0 - 1e-12


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

    The largest of the three p-values of this module, at least 1e-300; the margin is in shares of the range.
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
