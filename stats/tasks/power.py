"""The power of the tests over tasks: how often each rejects if the tasks have given drops.

Tasks are drawn again and again, with as many differences as they show, and tested. Flips to wrong and to
right are Poisson numbers, sums of many items are normal. What a test says depends on the sizes drawn with a
sum, as in the tests themselves: exactly where a task has few flips, else by the normal distribution with a
correction for kurtosis (Cornish & Fisher 1938). Draws are a Latin hypercube with a fixed seed, the same for
every drop, so that power grows with the drop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import bdtrc, gammaincc, log_ndtr, ndtr, ndtri

from stats.arrays import Floats, Ints
from stats.distributions.lattice import to_lattice
from stats.tasks.combinations import Combine, parts_of

FEW_FLIPS = 60  # expected flips of a task up to which they are counted
MOST_TABLED = 160  # as many never come where so few are expected
DRAWN, NULL_DRAWN = 40_000, 400_000  # task sums that are drawn for a power, and most for a critical value
LEAST_ROWS = 2_048
REJECTED = 500  # draws that a critical value rejects, if they are not too many


@dataclass(frozen=True)
class TaskShape:
    """How many differences of what size there are, whatever their signs.

    With few blocks that differ, or of one size only, they are flips: as many of one size as have the same
    Σd² and Σd⁴. Otherwise they are sums of many, taken as normal.
    """

    items: float  # the sum of all differences for a drop of 1
    unit: float  # size of a flip, or standard deviation of a block
    count: float  # flips, or blocks
    is_flips: bool = True
    step: float = 1.0  # of the lattice on which the sum of the differences lies, in units

    @classmethod
    def of(cls, sums: Floats, items: float) -> "TaskShape":
        """The shape of the differences of items or clusters, shape (G,)."""
        sizes = np.abs(sums[sums != 0.0])
        if not sizes.size:
            return cls(items, items / sums.size, 0.0)
        largest = float(sizes.max())  # whatever the unit, no power overflows
        squares, fourth = float(np.sum((sizes / largest) ** 2)), float(np.sum((sizes / largest) ** 4))
        if 2 * sizes.size < sums.size or np.ptp(sizes) <= 1e-9 * sizes[0]:
            return cls(items, largest * float(np.sqrt(fourth / squares)), squares**2 / fourth)
        blocks = min(float(sums.size), 3.0 * squares**2 / fourth)
        unit, lattice = float(sums.std(ddof=1) * np.sqrt(sums.size / blocks)), to_lattice(sizes)
        return cls(items, unit, blocks, is_flips=False, step=0.0 if lattice is None else lattice[0] / unit)

    def scaled(self, factor: float) -> "TaskShape":
        """The same with so many times the items."""
        return replace(self, items=self.items * factor, count=self.count * factor)

    def rates(self, drop: float) -> tuple[float, float]:
        """Expected flips to wrong and to right, no fewer than the drop needs."""
        net = self.items * drop / self.unit
        flips = max(self.count, abs(net))
        return (flips + net) / 2.0, (flips - net) / 2.0


@dataclass(frozen=True, eq=False)
class DrawnTask:
    """A task in every draw, in units of its shape."""

    unit: float
    net: Floats  # Σd, shape (rows,)
    squares: Floats  # Σd², shape (rows,)
    kurtosis: Floats | float  # Σd⁴/(Σd²)²
    step: float = 0.0  # of the lattice of Σd: half of the distance of two sums
    is_counted: bool = False  # whether Σd is a whole number

    @cached_property
    def z(self) -> Floats:
        """Σd/√Σd², −∞ where nothing differs."""
        no = np.full_like(self.net, -np.inf)
        return np.divide(self.net, np.sqrt(self.squares), out=no, where=self.squares > 0.0)

    def log_tail(self, z: Floats) -> Floats:
        """Ln P(Σd/√Σd² ≥ z) under fair signs."""
        if not self.is_counted:
            return _log_tail(z, self.kurtosis)
        flips = self.squares.astype(np.int64)
        least = np.ceil((flips + np.where(flips, z, 0.0) * np.sqrt(flips)) / 2.0 - 1e-9).astype(np.int64)
        return np.asarray(_binomial_tails()[0][flips, least.clip(0, flips + 1)])


def power_over_tasks(
    shapes: Sequence[TaskShape], drops: float | Floats, level: float, combine: Combine
) -> float:
    """Power of a test over tasks, which share no items, if all have one drop or each its own, shape (T,)."""
    if len(shapes) == 1:
        combine = "pooled"  # all tests are the same
    rows = max(DRAWN // len(shapes), LEAST_ROWS)
    p_values = statistics(_draw(tuple(shapes), np.broadcast_to(drops, len(shapes)), rows), combine)
    return float((p_values <= critical_p(tuple(shapes), level, combine)).mean())


def critical_p(shapes: tuple[TaskShape, ...], level: float, combine: Combine) -> float:
    """The smallest p-value of the three tests that "joint" takes for its level; the level itself for others.

    It hardly depends on the shapes, which are rounded, so that many comparisons share it.
    """
    if combine != "joint":
        return level
    rounded = [replace(s, items=1.0, unit=_near(s.unit), count=_near(s.count)) for s in shapes]
    return _calibrated(tuple(sorted(rounded, key=repr)), level)


def _near(number: float) -> float:
    steps = 4.0 if number < FEW_FLIPS else 1.0  # to a doubling
    return float(2.0 ** (np.rint(steps * np.log2(number)) / steps)) if number > 0.0 else 0.0


@lru_cache(maxsize=1024)
def _calibrated(shapes: tuple[TaskShape, ...], level: float) -> float:
    rows = int(min(REJECTED / level, NULL_DRAWN / len(shapes)))
    drawn = statistics(_draw(shapes, np.zeros(len(shapes)), max(rows, LEAST_ROWS)), "any")
    return max(level / 3.0, min(level, float(np.quantile(drawn, level))))


def statistics(drawn: Sequence[DrawnTask], combine: Combine) -> Floats:
    """The p-value of a test in every draw, of "joint" and "any" the smallest of the three, shape (rows,)."""
    parts, found = parts_of(combine), list[Floats]()
    if "pooled" in parts:
        net = sum(task.unit * task.net for task in drawn) - min(task.unit * task.step for task in drawn)
        squares = sum(task.unit**2 * task.squares for task in drawn)
        squares = np.where(squares > 0.0, squares, drawn[0].unit ** 2)
        fourth = sum(task.unit**4 * task.squares**2 * task.kurtosis for task in drawn)
        found.append(np.exp(_log_tail(net / np.sqrt(squares), fourth / squares**2)))
    if "max-drop" in parts:
        largest, below = np.max([task.z for task in drawn], axis=0), np.zeros_like(drawn[0].net)
        for task in drawn:
            half = 0.0 if task.is_counted else task.step / np.sqrt(task.squares)  # for continuity
            tail = np.exp(task.log_tail(largest - np.where(task.z == largest, half, 0.0)))
            below += np.log1p(-np.where(task.squares > 0.0, tail, 0.0).clip(max=1.0 - 1e-15))
        found.append(-np.expm1(below))
    if "fisher" in parts:
        logs = -sum(task.log_tail(task.z) for task in drawn)
        moments = sum(
            _binomial_tails()[1][:, task.squares.astype(np.int64)] if task.is_counted else np.ones((2, 1))
            for task in drawn
        )
        mean, variance = np.maximum(moments, 1e-9)
        shape = mean**2 / variance  # of the gamma distribution with these moments, by Wilson & Hilferty
        found.append(ndtr(3.0 * np.sqrt(shape) * (1.0 - 1.0 / (9.0 * shape) - np.cbrt(logs / mean))))
    return np.minimum.reduce(found)


def _log_tail(z: Floats, kurtosis: Floats | float) -> Floats:
    return np.asarray(log_ndtr(-(z + kurtosis * (z**3 - 3.0 * z) / 12.0)))


@lru_cache(maxsize=1)
def _binomial_tails() -> tuple[Floats, Floats]:
    """Ln P(Bin(m, ½) ≥ k) by m and k, and mean and variance of −ln p under the null by m, shape (2, …)."""
    flips, worse = np.ogrid[: MOST_TABLED + 1, : MOST_TABLED + 2]
    tails = np.where(worse > flips, 0.0, bdtrc(worse - 1.0, np.maximum(flips, worse), 0.5))
    tails[:, 0] = 1.0
    with np.errstate(divide="ignore"):
        logs = np.log(tails)
    chances, values = -np.diff(tails, axis=1), np.where(tails > 0.0, -logs, 0.0)[:, :-1]
    means = (chances * values).sum(axis=1)
    return logs, np.stack([means, (chances * values**2).sum(axis=1) - means**2])


def _draw(shapes: tuple[TaskShape, ...], drops: Floats, rows: int) -> list[DrawnTask]:
    grid, drawn = _normal_grid(rows), list[DrawnTask]()
    for shape, drop, places in zip(shapes, drops.tolist(), _orders(len(shapes), rows), strict=True):
        rates = shape.rates(drop)
        if shape.is_flips:
            is_counted = sum(rates) <= FEW_FLIPS
            worse, better = (
                _poisson(rate, rows)[own] if is_counted else rate + np.sqrt(rate) * grid[own]
                for rate, own in zip(rates, places, strict=True)
            )
            drawn.append(of_flips(shape, worse, better, is_counted=is_counted))
        else:
            net = rates[0] - rates[1] + np.sqrt(shape.count) * grid[places[0]]
            others = 2.0 / (9.0 * max(shape.count - 1.0, 1.0))  # χ² by Wilson & Hilferty
            root = (1.0 - others + np.sqrt(others) * grid[places[1]]).clip(0.0)
            squares, kurtosis = net**2 / shape.count + (shape.count - 1.0) * root**3, 3.0 / shape.count
            drawn.append(DrawnTask(shape.unit, net, squares, kurtosis, shape.step))
    return drawn


def of_flips(shape: TaskShape, worse: Floats, better: Floats, *, is_counted: bool) -> DrawnTask:
    """A task of flips to wrong and to right."""
    flips = worse + better
    return DrawnTask(shape.unit, worse - better, flips, 1.0 / flips.clip(1.0), 1.0, is_counted)


def _poisson(rate: float, rows: int) -> Floats:
    """Quantiles of the Poisson distribution, in order."""
    if rate <= 0.0:
        return np.zeros(rows)
    heights = gammaincc(np.arange(1.0, rate + 12.0 * np.sqrt(rate) + 12.0), rate)
    return np.searchsorted(heights, (np.arange(rows) + 0.5) / rows).astype(np.float64)


@lru_cache(maxsize=16)
def _normal_grid(rows: int) -> Floats:
    return np.asarray(ndtri((np.arange(rows) + 0.5) / rows))


@lru_cache(maxsize=8)
def _orders(tasks: int, rows: int) -> Ints:
    """Two orders of the draws for every task, shape (T, 2, rows)."""
    order = np.tile(np.arange(rows), (tasks, 2, 1))
    return np.random.default_rng(0).permuted(order, axis=2)
