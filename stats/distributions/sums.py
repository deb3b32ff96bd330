"""The exact null distribution of a sum of independent whole numbers: sign flips, and splits of runs.

n items of size v contribute v·(2·Bin(n, ½) − n), so the distribution of S = Σ εᵢwᵢ is one convolution per
distinct size (Pagano & Tritchler 1983; Streitberg & Röhmel 1986). A single tail is convolved by FFT *after*
an exponential tilt that moves the mass to the observed value: an untilted FFT has an absolute error of
1e-16 and ruins small tails, a tilted one keeps nine digits. A whole table is convolved directly: nothing
cancels.

F1 scores have common denominators of up to 1e5, but nearly all of the millions of frequencies are empty:
with u the tilted chance of a sign, a = u(1 − u) and c = cos ωw, ln |φ(ω)| ≤ −Σ [a(1 − c) + a²(1 − c)²], and
that bound is computed for all frequencies at once. Where it is below −30 the transform is left out.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from operator import mul

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import expit

from stats.arrays import SMALLEST_P, Complexes, Floats, Ints
from stats.distributions.lattice import to_lattice
from stats.distributions.splits import Component, RunSplits

MAX_WORK = 1 << 24
"""Frequencies × distinct sizes beyond which the frequencies that matter are looked for first."""

MAX_FREQUENCIES = 1 << 22  # frequencies beyond which simulating is cheaper than the exact distribution
MAX_TABLE_WORK = 1e9  # multiplications beyond which a distribution is not tabulated (about a second)
FEW_SIGNS_WORK = 2e8  # the same for a table that serves a single tail
TABLE_FLOOR = 1e-290  # probabilities below this are left out of a table at either end
EMPTY = 30.0  # minus the logarithm of what a frequency contributes at most, to be left out
TILTED = 1e-6  # standard deviations from a value within which the tilted mean is at it
FEW_ATOMS = 4  # atoms of a summand up to which they are transformed one by one
CHUNK = 1 << 20  # frequencies × sizes that are multiplied at once


class TiltedAtoms:
    """The atoms of independent summands in one row, so that tilting them exponentially is one pass.

    Args:
        parts: values and log-probabilities of each summand, shape (k,) each.

    Attributes:
        starts: where the atoms of each summand begin, shape (P,).
        values: of all atoms, shape (A,); `logs` are the logarithms of their probabilities.
    """

    def __init__(self, parts: Sequence[tuple[Floats | Ints, Floats]]) -> None:
        sizes = [values.size for values, _ in parts]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self.values = np.concatenate([values for values, _ in parts])
        self.logs = np.concatenate([logs for _, logs in parts])
        self._owner = np.repeat(np.arange(len(parts)), sizes)

    def at(self, tilt: float) -> tuple[Floats, Floats]:
        """Tilted probabilities of all atoms, shape (A,), and the log moment of each summand, shape (P,)."""
        logs = self.logs + tilt * self.values
        top = np.maximum.reduceat(logs, self.starts)
        weights = np.exp(logs - top[self._owner])
        totals = np.add.reduceat(weights, self.starts)
        return weights / totals[self._owner], top + np.log(totals)

    def means(self, chances: Floats) -> Floats:
        """Mean of each summand, shape (P,)."""
        return np.add.reduceat(chances * self.values, self.starts)

    def variances(self, chances: Floats) -> Floats:
        """Variance of each summand, shape (P,)."""
        gaps = self.values - self.means(chances)[self._owner]
        return np.add.reduceat(chances * gaps**2, self.starts)


class LatticeSum:
    """The distribution of S = Σ εᵢwᵢ + Σ Xⱼ for whole numbers wᵢ > 0, fair signs and independent Xⱼ.

    S lies on least + unit × 0, 1, …, span; a sign flip of size w is a summand on {−w, w}.

    Args:
        sizes: distinct |wᵢ|, ascending, shape (k,).
        counts: how many items have each size, shape (k,).
        components: the Xⱼ, on whole numbers.

    Attributes:
        unit: common divisor of all distances within a summand.
        least: smallest value of S.
        span: largest value of (S − least)/unit; without components the largest value of S.
    """

    def __init__(self, sizes: Ints, counts: Ints, components: Sequence[Component] = ()) -> None:
        self.sizes, self.counts = sizes, counts
        moving = [part for part in components if part.values.size > 1]
        gaps = [np.gcd.reduce(np.diff(part.values)) for part in moving]
        self.unit = int(np.gcd.reduce([*(2 * sizes), *gaps])) if moving else 2
        self.least = sum(part.count * int(part.values[0]) for part in components) - int(sizes @ counts)
        self._steps = 2 * sizes // self.unit
        self._parts = [
            Component((part.values - part.values[0]) // self.unit, part.chances, part.count)
            for part in moving
        ]
        self._part_counts = np.array([part.count for part in moving], dtype=np.float64)
        ends = [int(part.values[-1]) for part in self._parts]
        self.span = int(self._steps @ counts) + sum(map(mul, (part.count for part in moving), ends))
        self._largest = max([int(self._steps.max(initial=0)), *ends])

    @classmethod
    def of(cls, integers: Ints, components: Sequence[Component] = ()) -> "LatticeSum":
        """With the sizes of the given differences; zeros carry no sign and drop out."""
        sizes, counts = np.unique(np.abs(integers[integers != 0]), return_counts=True)
        return cls(sizes.astype(np.int64), counts.astype(np.int64), components)

    @cached_property
    def scale(self) -> float:
        """Standard deviation of the sign flips, √Σwᵢ²."""
        return float(np.sqrt((self.sizes.astype(np.float64) ** 2) @ self.counts))

    @property
    def log_largest(self) -> float:
        """Natural logarithm of the probability of the largest value, the smallest possible p-value."""
        parts = sum(part.count * float(np.log(part.chances[-1])) for part in self._parts)
        return -int(self.counts.sum()) * float(np.log(2.0)) + parts

    @property
    def feasible(self) -> bool:
        """Whether a tail takes no more than about a second."""
        width = 2 * self.sizes.size + self._atoms.values.size if self._parts else self.sizes.size
        if self._period * width <= MAX_WORK:
            return True
        if not self._parts and self.table_work <= FEW_SIGNS_WORK:
            return True
        if self._parts or self._period > MAX_FREQUENCIES:
            return False
        kept = kept_frequencies(self.sizes, self.counts, np.full(self.sizes.size, 0.5), self._period)
        return kept.size * self.sizes.size <= MAX_WORK / 4

    def log_tail(self, value: int) -> float:
        """Natural logarithm of P(S ≥ value), relative error of P below 1e-9 on the smaller side."""
        ups = -((self.least - value) // self.unit)
        if ups > self._moments(0.0)[0]:
            return self._log_upper(ups)
        mirrored = self  # the distribution of −S
        if self._parts:
            turned = [Component(-p.values[::-1] * self.unit, p.chances[::-1], p.count) for p in self._parts]
            mirrored = LatticeSum(self.sizes, self.counts, turned)
        return float(np.log1p(-np.exp(mirrored._log_upper(self.span - ups + 1))))

    def table(self, floor: float = TABLE_FLOOR) -> tuple[Ints, Floats]:
        """Values of S in ascending order, and their probabilities, by direct convolution.

        Probabilities below the floor are left out at either end; a higher one is faster.
        """
        chances, first = np.ones(1), 0
        powers = [
            (step, *_fair_binomial(count, floor))
            for step, count in zip(self._steps.tolist(), self.counts.tolist(), strict=True)
        ]
        for part in self._parts:
            step = int(np.gcd.reduce(part.values))
            powers.append(
                (step, *_power((part.values // step).astype(np.int64), part.chances, part.count, floor))
            )
        for step, power, skipped in powers:
            chances, dropped = _trim(_dilated_convolution(chances, power, step), floor)
            first += step * skipped + dropped
        return self.least + self.unit * (first + np.arange(chances.size, dtype=np.int64)), chances

    @property
    def table_work(self) -> float:
        """Multiplications that `table` costs, about."""
        roots = 38.0 * np.sqrt(self.counts)
        if not self._parts:
            length = min(float(self.span), 38.0 * self.scale) + 1.0
            return length * float(np.minimum(self.counts, roots).sum())
        variances = self._atoms.variances(np.exp(self._atoms.logs))
        widths = [
            min(part.count * float(part.values[-1]), 38.0 * np.sqrt(part.count * variance))
            / int(np.gcd.reduce(part.values))
            for part, variance in zip(self._parts, variances.tolist(), strict=True)
        ]
        widths += np.minimum(self.counts, roots / 2).tolist()
        length = min(float(self.span), 38.0 * float(np.sqrt(self._moments(0.0)[1]))) + 1.0
        return length * float(sum(widths)) + float(sum(width * width for width in widths))

    @cached_property
    def _atoms(self) -> TiltedAtoms:
        return TiltedAtoms([(part.values, np.log(part.chances)) for part in self._parts])

    @cached_property
    def _period(self) -> int:
        """Frequencies of a transform that holds the distribution, untilted."""
        return int(min(2 * spread(self._moments(0.0)[1], self._largest), self.span))

    @cached_property
    def _tabulated(self) -> tuple[int, Floats] | None:
        """First value and tails of the table, where few signs on a wide lattice make it the quickest way."""
        wide = self._period * self.sizes.size > MAX_WORK
        if self._parts or not wide or self.table_work > FEW_SIGNS_WORK:
            return None
        values, chances = self.table()
        return (int(values[0]) - self.least) // self.unit, np.cumsum(chances[::-1])[::-1]

    def _log_upper(self, ups: int) -> float:
        """Ln P((S − least)/unit ≥ ups) for a value above the mean."""
        if ups > self.span:
            return -np.inf
        if ups == self.span:
            return self.log_largest
        if self._tabulated is not None:
            first, tails = self._tabulated
            place = max(ups - first, 0)
            if place < tails.size and tails[place] > 1e9 * TABLE_FLOOR:
                return min(0.0, float(np.log(tails[place])))
        tilt, variance = self._tilt(ups)
        log_moment = float(self.counts @ (np.logaddexp(0.0, tilt * self._steps) - np.log(2.0)))
        chances = None
        if self._parts:
            chances, moments = self._atoms.at(tilt)
            log_moment += float(self._part_counts @ moments)
        total = self._total_above(ups, tilt, variance, chances)
        return min(0.0, log_moment - tilt * ups + float(np.log(total)))

    def _tilt(self, ups: int) -> tuple[float, float]:
        """The exponential tilt that makes a value the mean, by Newton's method; the variance then.

        Every tilt gives the same tail; near this one it keeps its digits.
        """
        low, high, tilt = 0.0, np.inf, 0.0
        while True:
            mean, variance = self._moments(tilt)
            if abs(ups - mean) <= TILTED * np.sqrt(variance):
                return tilt, variance
            low, high = (tilt, high) if mean < ups else (low, tilt)
            tilt += (ups - mean) / max(variance, SMALLEST_P)
            if not low < tilt < high:
                tilt = (low + high) / 2.0 if np.isfinite(high) else 2.0 * low + 1.0 / self._largest
            if tilt in {low, high}:
                return tilt, variance

    def _moments(self, tilt: float) -> tuple[float, float]:
        """Mean and variance of the distribution tilted exponentially."""
        chance = expit(tilt * self._steps)
        means = chance * self._steps
        mean = float(means @ self.counts)
        variance = float((means * (self._steps - means)) @ self.counts)
        if self._parts:
            chances = self._atoms.at(tilt)[0]
            mean += float(self._part_counts @ self._atoms.means(chances))
            variance += float(self._part_counts @ self._atoms.variances(chances))
        return mean, variance

    def _total_above(self, ups: int, tilt: float, variance: float, chances: Floats | None) -> float:
        """Σ P(x)·exp(−tilt·(x − ups)) of the tilted distribution over x from its mean `ups` upwards."""
        width = spread(variance, self._largest)
        low, high = max(0, ups - width), min(self.span, ups + width)
        if not self._parts and (high - low + 1) * self.sizes.size > MAX_WORK:
            return sparse_total(self._steps, self.counts, tilt, ups, (low, high))
        period = next_fast_len(high - low + 1, real=True)
        roots = _roots_of_unity(period)
        frequencies = np.arange(period // 2 + 1)
        transform = roots[-frequencies * ups % period]
        chance = expit(tilt * self._steps).tolist()
        for step, count, up in zip(self._steps.tolist(), self.counts.tolist(), chance, strict=True):
            transform *= _complex_power((1.0 - up) + up * roots[frequencies * step % period], count)
        pieces = np.split(chances, self._atoms.starts[1:]) if chances is not None else []
        for part, mine in zip(self._parts, pieces, strict=True):
            if part.values.size > FEW_ATOMS:
                factor = rfft(np.bincount(part.values % period, mine, period))
            else:
                atoms = zip(part.values.tolist(), mine.tolist(), strict=True)
                factor = np.asarray(sum(up * roots[frequencies * place % period] for place, up in atoms))
            transform *= _complex_power(factor, part.count)
        offsets = np.arange(high - ups + 1)
        return float(irfft(transform, period)[: offsets.size] @ np.exp(-tilt * offsets))


def lattice_sum(sums: Floats, splits: RunSplits | None = None) -> tuple[LatticeSum, float, float] | None:
    """The distribution of differences per block whose signs are flipped, shape (G,), and of split items.

    Returns:
        The distribution of the sum in steps, the step, and the sum observed; None where the summands have no
        small lattice in common, or the splits are too many to count.
    """
    moving: list[Component] = []
    if splits is not None:
        if splits.components is None:
            return None
        moving = [part for part in splits.components if part.values.size > 1]
    lattice = to_lattice(np.concatenate([sums, *(part.values for part in moving)]))
    if lattice is None:
        return None
    step, integers = lattice
    ends = np.cumsum([sums.size, *(part.values.size for part in moving)])
    flips, *values = np.split(integers, ends[:-1])
    parts = [Component(whole, part.chances, part.count) for whole, part in zip(values, moving, strict=True)]
    observed = int(flips.sum()) * step if splits is None else float(sums.sum()) + splits.observed
    return LatticeSum.of(flips, parts), step, observed


def spread(variance: float, largest: int) -> int:
    """Distance beyond which a sum of bounded terms has mass below 1e-18 on either side (Bernstein)."""
    log_mass = 42.0
    third = log_mass * largest / 3
    return int(np.ceil(third + np.sqrt(third**2 + 2 * log_mass * variance)))


@lru_cache(maxsize=4)
def _roots_of_unity(period: int) -> Complexes:
    """All of them clockwise, shape (period,); limits ask for the same again and again."""
    return np.exp((-2j * np.pi / period) * np.arange(period))


def _complex_power(values: Complexes, exponent: int) -> Complexes:
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
    chances = np.concatenate([upper[: count % 2 : -1], upper])
    return _trim(chances / chances.sum(), floor)


def _power(places: Ints, chances: Floats, count: int, floor: float) -> tuple[Floats, int]:
    """Distribution of the sum of `count` summands by squaring, cut below the floor; the first value kept."""
    base = np.zeros(int(places[-1]) + 1)
    base[places] = chances
    power, start, base_start = np.ones(1), 0, 0
    while True:
        if count % 2:
            power, dropped = _trim(_convolved(power, base), floor)
            start += base_start + dropped
        count //= 2
        if not count:
            return power, start
        base, dropped = _trim(_convolved(base, base), floor)
        base_start = 2 * base_start + dropped


def _convolved(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.convolve(first, second), dtype=np.float64)


def _dilated_convolution(chances: Floats, power: Floats, step: int) -> Floats:
    """Convolve with a distribution whose unit is `step` steps, in as few passes as possible."""
    result = np.zeros(chances.size + step * (power.size - 1))
    phases = min(step, chances.size)
    if power.size <= phases:
        for number, chance in enumerate(power.tolist()):
            result[number * step : number * step + chances.size] += chance * chances
    else:
        for phase in range(phases):
            result[phase::step] = np.convolve(chances[phase::step], power)
    return result


def _trim(chances: Floats, floor: float) -> tuple[Floats, int]:
    """Cut what lies below the floor at both ends; denormal numbers would only be slow."""
    kept = np.flatnonzero(chances >= floor)
    return chances[kept[0] : kept[-1] + 1], int(kept[0])


def sparse_total(sizes: Ints, counts: Ints, tilt: float, ups: int, window: tuple[int, int]) -> float:
    """Σ P(U = x)·exp(−tilt·(x − ups)) over x from ups to the window's end, under the tilted distribution.

    U = Σ size × Bin(count, u) with u = expit(tilt × size), tilt ≥ 0; sizes are distinct, shape (k,), and the
    window holds the least and greatest value of U with any noticeable probability.
    """
    period = next_fast_len(window[1] - window[0] + 1, real=True)
    chance = expit(tilt * sizes)
    kept = kept_frequencies(sizes, counts, chance, period)
    transform = np.empty(kept.size, dtype=np.complex128)
    chunk = max(1, CHUNK // sizes.size)
    for start in range(0, kept.size, chunk):
        part = kept[start : start + chunk]
        turns = np.exp((-2j * np.pi / period) * (part[:, None] * sizes % period))
        with np.errstate(divide="ignore"):
            logs = np.log((1.0 - chance) + chance * turns)
        transform[start : start + chunk] = np.exp(logs @ counts)
    transform = transform * np.exp(1j * (2.0 * np.pi / period) * (kept * (ups % period) % period))
    exponents, terms = 1j * ((2.0 * np.pi / period) * kept) - tilt, window[1] - ups + 1
    single = exponents == 0.0
    safe = np.where(single, -1.0, exponents)
    geometric_sums = np.where(single, terms, np.expm1(terms * safe) / np.expm1(safe))
    twice = np.where((kept == 0) | (2 * kept == period), 1.0, 2.0)
    return (twice * (transform * geometric_sums).real).sum() / period


def kept_frequencies(sizes: Ints, counts: Ints, chance: Floats, period: int) -> Ints:
    """Frequencies of a transform of this period at which that of the distribution may differ from 0.

    The distribution is that of `sparse_total`, where a sign of each size is up with the given chance.
    """
    first, second = counts * chance * (1.0 - chance), counts * (chance * (1.0 - chance)) ** 2
    histogram = np.bincount(sizes % period, first + 2.0 * second, period)
    histogram -= np.bincount(2 * sizes % period, 0.5 * second, period)
    deficits = float((first + 1.5 * second).sum()) - rfft(histogram).real
    return np.flatnonzero(deficits < EMPTY).astype(np.int64)
