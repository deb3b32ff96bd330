"""The exact null law of a sum of sign-flipped whole numbers.

n items of size v contribute v·(2·Bin(n, ½) − n), so the law of S = Σ εᵢwᵢ is one convolution per distinct
size (Pagano & Tritchler 1983; Streitberg & Röhmel 1986). A single tail is convolved by FFT *after* an
exponential tilt that moves the mass to the observed value: an untilted FFT has an absolute error of 1e-16
and ruins small tails, a tilted one keeps nine digits however small the tail. A whole table is convolved
directly from non-negative numbers, which never cancel.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import irfft, next_fast_len
from scipy.optimize import brentq
from scipy.special import expit

from stats.arrays import Complexes, Floats, Ints
from stats.wide_law import kept_frequencies, sparse_total

MAX_WORK = 1 << 24
"""Frequencies × distinct sizes beyond which the frequencies that matter are looked for first."""

MAX_FREQUENCIES = 1 << 22
"""Frequencies beyond which simulating is cheaper than the exact law."""

MAX_TABLE_WORK = 1e9
"""Multiplications beyond which a law is not tabulated (about a second)."""

FEW_SIGNS_WORK = 2e8
"""The same for a table that serves a single tail."""

TABLE_FLOOR = 1e-290
"""Probabilities below this are left out of a table at either end."""


@dataclass(frozen=True)
class SignFlipLaw:
    """The law of S = Σ εᵢwᵢ for whole numbers wᵢ > 0 and fair signs, stored as (size, how many) pairs.

    Attributes:
        sizes: distinct |wᵢ|, shape (k,), ascending.
        counts: how many items have each size, shape (k,).
    """

    sizes: Ints
    counts: Ints

    @classmethod
    def of(cls, integers: Ints) -> "SignFlipLaw":
        """The law of the given differences; zeros carry no sign and drop out."""
        sizes, counts = np.unique(np.abs(integers[integers != 0]), return_counts=True)
        return cls(sizes.astype(np.int64), counts.astype(np.int64))

    @cached_property
    def reach(self) -> int:
        """Largest value S can take."""
        return int(self.sizes @ self.counts)

    @cached_property
    def blocks(self) -> int:
        """Number of signs; the smallest possible p-value is 2 to the minus this."""
        return int(self.counts.sum())

    @cached_property
    def scale(self) -> float:
        """Standard deviation of S, √Σwᵢ²."""
        return float(np.sqrt((self.sizes.astype(np.float64) ** 2) @ self.counts))

    @property
    def feasible(self) -> bool:
        """Whether a tail takes no more than about a second."""
        period = self._period
        if period * self.sizes.size <= MAX_WORK or self.table_work <= FEW_SIGNS_WORK:
            return True
        if period > MAX_FREQUENCIES:
            return False
        kept = kept_frequencies(self.sizes, self.counts, np.full(self.sizes.size, 0.5), period)
        return kept.size * self.sizes.size <= MAX_WORK / 4

    def log_tail(self, value: int) -> float:
        """Natural logarithm of P(S ≥ value), relative error of P below 1e-9.

        Works on the number of units above the minimum, (S + reach)/2 = Σ size × Bin(count, ½). The lower half
        of the law mirrors the upper one, which is the one that is computed.
        """
        if value <= 0:
            return float(np.log1p(-np.exp(self.log_tail(1 - value))))
        ups = -((-value - self.reach) // 2)
        if ups > self.reach:
            return -np.inf
        if ups == self.reach:
            return -self.blocks * float(np.log(2.0))
        if self._tabulated is not None:
            values, tails = self._tabulated
            place = int(np.searchsorted(values, value))
            if place < values.size and tails[place] > 1e9 * TABLE_FLOOR:
                return min(0.0, float(np.log(tails[place])))
        tilt = self._tilt(ups)
        log_moment = float(self.counts @ (np.logaddexp(0.0, tilt * self.sizes) - np.log(2.0)))
        total = self._total_above(ups, tilt)
        return min(0.0, log_moment - tilt * ups + float(np.log(total)))

    def table(self, floor: float = TABLE_FLOOR) -> tuple[Ints, Floats]:
        """The whole law by direct convolution of non-negative numbers, which never cancels.

        Args:
            floor: probabilities below it are left out at either end; a higher one is faster.

        Returns:
            Values of S in ascending order, and their probabilities.
        """
        law, first = np.ones(1), 0
        for size, count in zip(self.sizes.tolist(), self.counts.tolist(), strict=True):
            flips, skipped = _fair_binomial(count, floor)
            law, dropped = trim(dilated_convolution(law, flips, size), floor)
            first += size * skipped + dropped
        return 2 * (first + np.arange(law.size, dtype=np.int64)) - self.reach, law

    @property
    def _period(self) -> int:
        """Frequencies of a transform that holds the law, untilted."""
        width = spread(self.scale**2 / 4, int(self.sizes.max(initial=0)))
        return int(min(2 * width, self.reach))

    @cached_property
    def _tabulated(self) -> tuple[Ints, Floats] | None:
        """Values and their tails, where few signs on a wide lattice make the table the quickest way."""
        if self._period * self.sizes.size <= MAX_WORK or self.table_work > FEW_SIGNS_WORK:
            return None
        values, law = self.table()
        return values, np.cumsum(law[::-1])[::-1]

    @property
    def table_work(self) -> float:
        """Multiplications that `table` costs, about."""
        length = min(float(self.reach), 38.0 * self.scale) + 1.0
        return length * float(np.minimum(self.counts, 38.0 * np.sqrt(self.counts)).sum())

    def _tilt(self, ups: int) -> float:
        """The exponent under which the mean number of units is `ups`, more than half of all."""

        def excess(tilt: float) -> float:
            return float((self.sizes * self.counts) @ expit(tilt * self.sizes)) - ups

        high = 1.0 / float(self.sizes[-1])
        while excess(high) < 0.0:
            high *= 2.0
        return float(brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-12))

    def _total_above(self, ups: int, tilt: float) -> float:
        """Σ P(x)·exp(−tilt·(x − ups)) of the tilted law over x from its mean `ups` upwards."""
        chance = expit(tilt * self.sizes)
        variance = float((self.sizes.astype(np.float64) ** 2 * chance * (1 - chance)) @ self.counts)
        width = spread(variance, int(self.sizes[-1]))
        low, high = max(0, ups - width), min(self.reach, ups + width)
        if (high - low + 1) * self.sizes.size > MAX_WORK:
            return sparse_total(self.sizes, self.counts, tilt, ups, (low, high))
        law = self._tilted_law(ups, chance, next_fast_len(high - low + 1, real=True))
        offsets = np.arange(high - ups + 1)
        return float(law[: offsets.size] @ np.exp(-tilt * offsets))

    def _tilted_law(self, ups: int, chance: Floats, period: int) -> Floats:
        """The tilted law from `ups` upwards, cyclic."""
        roots = np.exp((-2j * np.pi / period) * np.arange(period))
        frequencies = np.arange(period // 2 + 1)
        transform = roots[-frequencies * ups % period]
        for size, count, up in zip(self.sizes.tolist(), self.counts.tolist(), chance.tolist(), strict=True):
            transform *= complex_power((1.0 - up) + up * roots[frequencies * size % period], count)
        law: Floats = irfft(transform, period)
        return law


def spread(variance: float, largest: int) -> int:
    """Distance beyond which a sum of bounded terms has mass below 1e-18 on either side (Bernstein)."""
    log_mass = 42.0
    return int(
        np.ceil(log_mass * largest / 3 + np.sqrt((log_mass * largest / 3) ** 2 + 2 * log_mass * variance))
    )


def complex_power(values: Complexes, exponent: int) -> Complexes:
    """A whole power, at least the first, by squaring; numpy's way is that of logarithms."""
    result = values if exponent % 2 else np.ones_like(values)
    while exponent := exponent // 2:
        values = values * values
        if exponent % 2:
            result = result * values
    return result


def _fair_binomial(count: int, floor: float) -> tuple[Floats, int]:
    """Probabilities of Bin(count, ½) above the floor, by ratios from the middle; the first number kept."""
    middle = count // 2
    above = np.arange(middle, count, dtype=np.float64)
    upper = np.concatenate([np.ones(1), np.cumprod((count - above) / (above + 1.0))])
    law = np.concatenate([upper[: count % 2 : -1], upper])
    return trim(law / law.sum(), floor)


def dilated_convolution(law: Floats, flips: Floats, size: int) -> Floats:
    """Convolve a law with a binomial whose unit is `size` steps, in as few passes as possible."""
    result = np.zeros(law.size + size * (flips.size - 1))
    phases = min(size, law.size)
    if flips.size <= phases:
        for number, chance in enumerate(flips.tolist()):
            result[number * size : number * size + law.size] += chance * law
    else:
        for phase in range(phases):
            result[phase::size] = np.convolve(law[phase::size], flips)
    return result


def trim(law: Floats, floor: float) -> tuple[Floats, int]:
    """Cut what lies below the floor at both ends; denormal numbers would only be slow."""
    kept = np.flatnonzero(law >= floor)
    return law[kept[0] : kept[-1] + 1], int(kept[0])
