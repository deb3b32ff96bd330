"""The exact null distribution of a sum of independent whole numbers: sign flips, and splits of runs.

n items of size v contribute v·(2·Bin(n, ½) − n), so the law of S = Σ εᵢwᵢ is one convolution per distinct
size (Pagano & Tritchler 1983; Streitberg & Röhmel 1986). A single tail is convolved by FFT *after* an
exponential tilt that moves the mass to the observed value: an untilted FFT has an absolute error of 1e-16
and ruins small tails, a tilted one keeps nine digits however small the tail. A whole table is convolved
directly from non-negative numbers, which never cancel.

F1 scores have common denominators of up to 1e5, and multiplying a transform of millions of frequencies size
by size takes minutes. But nearly all of these frequencies are empty: with u the tilted chance of a sign,
a = u(1 − u) and c = cos ωw, ln |φ(ω)| = ½ Σ ln(1 − 2a(1 − c)) ≤ −Σ [a(1 − c) + a²(1 − c)²], and that bound is
had for all frequencies at once by one transform of the weights. Where it lies below e^−30 the transform is
left out; the rest, some hundreds, is summed in closed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import brentq
from scipy.special import expit

from stats.arrays import Complexes, Floats, Ints
from stats.distributions.lattice import to_lattice
from stats.distributions.splits import RunSplits

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


EMPTY = 30.0
"""Minus the logarithm of what a frequency contributes at most, to be left out."""

CHUNK = 1 << 20
"""Frequencies × sizes that are multiplied at once."""


def sparse_total(sizes: Ints, counts: Ints, tilt: float, ups: int, window: tuple[int, int]) -> float:
    """Σ P(U = x)·exp(−tilt·(x − ups)) over x from ups to the window's end, under the tilted law.

    Args:
        sizes: distinct sizes, shape (k,).
        counts: how many signs have each, shape (k,).
        tilt: of the law of U = Σ size × Bin(count, u), u = expit(tilt × size); not negative.
        ups: where the sum starts.
        window: least and greatest value of U with any noticeable probability.
    """
    period = next_fast_len(window[1] - window[0] + 1, real=True)
    chance = expit(tilt * sizes)
    kept = kept_frequencies(sizes, counts, chance, period)
    angles = (2.0 * np.pi / period) * kept
    shifts = (2.0 * np.pi / period) * (kept * (ups % period) % period)
    values = _transform(sizes, counts, chance, kept, period) * np.exp(1j * shifts)
    sums = _geometric_sums(1j * angles - tilt, window[1] - ups + 1)
    twice = np.where((kept == 0) | (2 * kept == period), 1.0, 2.0)
    total: float = (twice * (values * sums).real).sum() / period
    return total


def kept_frequencies(sizes: Ints, counts: Ints, chance: Floats, period: int) -> Ints:
    """Frequencies of a transform of this period at which that of the law may differ from 0.

    Args:
        sizes: distinct sizes, shape (k,).
        counts: how many signs have each, shape (k,).
        chance: of their being up, shape (k,).
        period: length of the transform.
    """
    first, second = counts * chance * (1.0 - chance), counts * (chance * (1.0 - chance)) ** 2
    histogram = np.bincount(sizes % period, first + 2.0 * second, period)
    histogram -= np.bincount(2 * sizes % period, 0.5 * second, period)
    deficits = float((first + 1.5 * second).sum()) - rfft(histogram).real
    kept: Ints = np.flatnonzero(deficits < EMPTY).astype(np.int64)
    return kept


def _transform(sizes: Ints, counts: Ints, chance: Floats, kept: Ints, period: int) -> Complexes:
    """Π (1 − u + u·exp(−iωw))^count at the kept frequencies."""
    found = np.empty(kept.size, dtype=np.complex128)
    step = max(1, CHUNK // sizes.size)
    for start in range(0, kept.size, step):
        part = kept[start : start + step]
        turns = np.exp((-2j * np.pi / period) * (part[:, None] * sizes % period))
        with np.errstate(divide="ignore"):
            logs = np.log((1.0 - chance) + chance * turns)
        found[start : start + step] = np.exp(logs @ counts)
    return found


def _geometric_sums(exponents: Complexes, terms: int) -> Complexes:
    """Σ exp(exponent × j) over j from 0 to terms − 1."""
    single = exponents == 0.0
    safe = np.where(single, -1.0, exponents)
    found: Complexes = np.where(single, terms, np.expm1(terms * safe) / np.expm1(safe))
    return found


@dataclass(frozen=True)
class Component:
    """Independent summands with one law.

    Attributes:
        values: whole numbers, ascending, shape (k,).
        chances: their probabilities, positive, shape (k,).
        count: how many summands.
    """

    values: Ints
    chances: Floats
    count: int


class MixedLaw:
    """The law of S = Σ εᵢwᵢ + Σ Xⱼ with fair signs and independent Xⱼ.

    Attributes:
        unit: greatest common divisor of all distances within a component; S lies on least + unit × 0, 1, ...
        least: smallest value of S.
        reach: largest value of (S − least)/unit.
    """

    def __init__(self, integers: Ints, components: Sequence[Component]) -> None:
        """The law of sign-flipped `integers` (zeros carry no sign) and further components."""
        flips = SignFlipLaw.of(integers)
        pairs = zip(flips.sizes.tolist(), flips.counts.tolist(), strict=True)
        signs = [Component(np.array([-size, size]), np.full(2, 0.5), count) for size, count in pairs]
        self._parts = [part for part in (*signs, *components) if part.values.size > 1]
        self.least = sum(part.count * int(part.values[0]) for part in (*signs, *components))
        self.unit = int(np.gcd.reduce([np.gcd.reduce(np.diff(part.values)) for part in self._parts] or [1]))
        self._offsets = [(part.values - part.values[0]) // self.unit for part in self._parts]
        self.reach = sum(p.count * int(o[-1]) for p, o in zip(self._parts, self._offsets, strict=True))

    def log_tail(self, value: int) -> float:
        """Natural logarithm of P(S ≥ value), relative error of P below 1e-9 on the smaller side."""
        ups = -((self.least - value) // self.unit)
        if ups <= 0:
            return 0.0
        if ups > self.reach:
            return -np.inf
        if ups <= self._upper.mean:
            return float(np.log1p(-np.exp(self._lower.log_tail(self.reach - ups + 1))))
        return self._upper.log_tail(ups)

    @property
    def log_largest(self) -> float:
        """Natural logarithm of the probability of the largest value, the smallest possible p-value."""
        return float(sum(part.count * np.log(part.chances[-1]) for part in self._parts))

    @cached_property
    def work(self) -> float:
        """Cost of one tail: frequencies of the transform × values of all components."""
        return self._upper.work if self._parts else 0.0

    @cached_property
    def table_work(self) -> float:
        """Multiplications that `table` costs, about."""
        if not self._parts:
            return 0.0
        widths = [
            min(part.count * float(places[-1]), 38.0 * np.sqrt(part.count * variance)) / step
            for part, places, variance, step in zip(
                self._parts, self._offsets, self._upper.variances, self._steps, strict=True
            )
        ]
        length = min(float(self.reach), 38.0 * float(np.sqrt(self._upper.variance))) + 1.0
        return length * float(sum(widths)) + float(sum(width * width for width in widths))

    def table(self, floor: float = TABLE_FLOOR) -> tuple[Ints, Floats]:
        """The whole law by direct convolution of non-negative numbers, which never cancels.

        Args:
            floor: probabilities below it are left out at either end; a higher one is faster.

        Returns:
            Values of S in ascending order, and their probabilities.
        """
        law, start = np.ones(1), 0
        for part, places, step in zip(self._parts, self._offsets, self._steps, strict=True):
            power, skipped = _power_law(places // step, part.chances, part.count, floor)
            law, dropped = trim(dilated_convolution(law, power, step), floor)
            start += step * skipped + dropped
        return self.least + self.unit * (start + np.arange(law.size, dtype=np.int64)), law

    @cached_property
    def _steps(self) -> list[int]:
        return [int(np.gcd.reduce(places)) for places in self._offsets]

    @cached_property
    def _upper(self) -> "_Tilted":
        parts = zip(self._parts, self._offsets, strict=True)
        return _Tilted([(places, part.chances, part.count) for part, places in parts])

    @cached_property
    def _lower(self) -> "_Tilted":
        """The law of reach − (S − least)/unit."""
        parts = zip(self._parts, self._offsets, strict=True)
        return _Tilted(
            [(places[-1] - places[::-1], part.chances[::-1], part.count) for part, places in parts]
        )


@dataclass(frozen=True)
class ScaledLaw:
    """A law on whole multiples of a step.

    Attributes:
        law: of the whole numbers.
        step: the common unit of the scores.
    """

    law: MixedLaw
    step: float

    def log_tail(self, value: float) -> float:
        """Natural logarithm of P(S ≥ value), ties counted."""
        return self.law.log_tail(int(np.ceil(value / self.step - 1e-6)))


def mixed_law(sums: Floats, splits: RunSplits) -> ScaledLaw | None:
    """The law of sign-flipped sums and split items, or None where they have no small lattice in common.

    Args:
        sums: differences per block whose signs are flipped, shape (G,).
        splits: the items whose runs are split.
    """
    laws = splits.laws
    if laws is None:
        return None
    moving = [law for law in laws if law.values.size > 1]
    lattice = to_lattice(np.concatenate([sums, *(law.values for law in moving)]))
    if lattice is None:
        return None
    ends = np.cumsum([sums.size, *(law.values.size for law in moving)])
    flips, *values = np.split(lattice.integers, ends[:-1])
    components = [Component(whole, law.chances, law.count) for whole, law in zip(values, moving, strict=True)]
    return ScaledLaw(MixedLaw(flips, components), lattice.step)


class _Tilted:
    """A sum of components that all start at 0, under exponential tilts."""

    def __init__(self, parts: list[tuple[Ints, Floats, int]]) -> None:
        self._parts = parts
        sizes = [places.size for places, _, _ in parts]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._owner = np.repeat(np.arange(len(parts)), sizes)
        self._places = np.concatenate([places for places, _, _ in parts])
        self._logs = np.log(np.concatenate([chances for _, chances, _ in parts]))
        self._counts = np.array([count for _, _, count in parts], dtype=np.float64)
        self._largest = max(int(places[-1]) for places, _, _ in parts)
        self.reach = int(sum(count * int(places[-1]) for places, _, count in parts))
        self.mean, self.variances = self._moments(self._at(0.0)[0])
        self.variance = float(self._counts @ self.variances)

    @property
    def work(self) -> float:
        return min(2.0 * spread(self.variance, self._largest), float(self.reach)) * self._places.size

    def log_tail(self, ups: int) -> float:
        """Natural logarithm of P(S ≥ ups) for a value above the mean."""
        if ups == self.reach:
            return float(self._counts @ self._logs[np.append(self._starts[1:], self._logs.size) - 1])
        tilt = self._saddle(ups)
        chances, log_moments = self._at(tilt)
        width = spread(float(self._counts @ self._moments(chances)[1]), self._largest)
        low, high = max(0, ups - width), min(self.reach, ups + width)
        law = self._law_from(ups, chances, next_fast_len(high - low + 1, real=True))
        offsets = np.arange(high - ups + 1)
        total = float(law[: offsets.size] @ np.exp(-tilt * offsets))
        return min(0.0, float(self._counts @ log_moments) - tilt * ups + float(np.log(total)))

    def _at(self, tilt: float) -> tuple[Floats, Floats]:
        """Tilted probabilities of all places, and the log moment of one summand of each component."""
        logs = self._logs + tilt * self._places
        top = np.maximum.reduceat(logs, self._starts)
        weights = np.exp(logs - top[self._owner])
        totals = np.add.reduceat(weights, self._starts)
        return weights / totals[self._owner], top + np.log(totals)

    def _moments(self, chances: Floats) -> tuple[float, Floats]:
        """Mean of the sum, and the variance of one summand of each component."""
        means = np.add.reduceat(chances * self._places, self._starts)
        spreads = chances * (self._places - means[self._owner]) ** 2
        return float(self._counts @ means), np.add.reduceat(spreads, self._starts)

    def _saddle(self, ups: int) -> float:
        """The exponent under which the mean of the sum is `ups`."""

        def excess(tilt: float) -> float:
            return self._moments(self._at(tilt)[0])[0] - ups

        high = 1.0 / self._largest
        while excess(high) < 0.0:
            high *= 2.0
        return float(brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-12))

    def _law_from(self, ups: int, chances: Floats, period: int) -> Floats:
        """The tilted law from `ups` upwards, cyclic."""
        roots = np.exp((-2j * np.pi / period) * np.arange(period))
        frequencies = np.arange(period // 2 + 1)
        transform = roots[-frequencies * ups % period]
        for (places, _, count), mine in zip(self._parts, np.split(chances, self._starts[1:]), strict=True):
            factor = sum(
                chance * roots[frequencies * place % period]
                for place, chance in zip(places.tolist(), mine.tolist(), strict=True)
            )
            transform *= complex_power(np.asarray(factor), count)
        law: Floats = irfft(transform, period)
        return law


def _power_law(places: Ints, chances: Floats, count: int, floor: float) -> tuple[Floats, int]:
    """Law of the sum of `count` summands by squaring, cut below the floor; the first value kept."""
    base = np.zeros(int(places[-1]) + 1)
    base[places] = chances
    law, start, base_start = np.ones(1), 0, 0
    while True:
        if count % 2:
            law, dropped = trim(_convolved(law, base), floor)
            start += base_start + dropped
        count //= 2
        if not count:
            return law, start
        base, dropped = trim(_convolved(base, base), floor)
        base_start = 2 * base_start + dropped


def _convolved(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.convolve(first, second), dtype=np.float64)
