"""The exact null law of a sum of sign-flipped whole numbers and of randomly split runs.

The same two ways as in `stats.law`, for summands of any law on whole numbers: a single tail by a Fourier
transform after an exponential tilt that moves the mass to the observed value, a whole table by direct
convolution. Summands with equal laws are raised to a power instead of being taken one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import irfft, next_fast_len
from scipy.optimize import brentq

from stats.arrays import Floats, Ints
from stats.lattice import to_lattice
from stats.law import TABLE_FLOOR, SignFlipLaw, complex_power, dilated_convolution, spread, trim
from stats.splits import RunSplits


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
