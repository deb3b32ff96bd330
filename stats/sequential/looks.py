"""The test of a look: may the variant be called worse before all items are in?

Under the null the signs of the differences are fair coins given their sizes, for any order of the items. Only
differences already seen decide, so that a look can be taken at any fraction, or left out. Several levels are
followed at once, because a comparison may be given a higher one later (`holm_rounds`): what crosses at a
level also crosses at every higher one.

The sum over all items at the looks is a random walk whose distribution is computed exactly: the sub-density
of the sum over the paths that have not crossed is convolved with the distribution of the new items' sum; the
boundary is the smallest value whose upper tail, together with what was spent before, stays within the
spending function; the tail beyond it is cut off (Armitage, McPherson & Rowe 1969; Lan & DeMets 1983;
Jennison & Turnbull 2000, ch. 19).

Pooled sum, largest standardised drop and Fisher's sum have no common random walk, so their distribution over
looks comes from sign vectors that all looks and tasks share. The observed signs are one row more. At every
look the most extreme rows that have not crossed before cross, as many as the spending function allows
together with those that did. Which rows cross depends on nothing that tells the observed row from the others
under the null, so the probability that it is among them is at most what was spent, for any number of rows
(Westfall & Young 1993; Phipson & Smyth 2010).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

from stats.arrays import Bools, Floats, Ints
from stats.distributions.lattice import GrowingLattice
from stats.distributions.nulls import flip_slices
from stats.distributions.sums import LatticeSum
from stats.sequential.boundaries import Spending
from stats.sequential.plan import SequentialPlan
from stats.tasks.combinations import STATISTICS, Combine, parts_of

FLOOR = 1e-40  # probabilities below this are left out at either end of a distribution

DIRECT_WORK = 1 << 20
"""Multiplications up to which a convolution is made directly; a longer one by Fourier transform (1e-16)."""

SLACK = 1e-12  # a tail that exceeds what may be spent by this share of it is rounding
DRAWN_FLOOR = 1e-20  # probabilities below this are left out of a distribution that is drawn from
COUNTED_WIDTH = 1 << 20  # whole numbers within such a range are ranked by counting instead of sorting


@dataclass(frozen=True)
class LookTest:
    """What one look says, for every level."""

    statistic: float  # standardised evidence of a drop; crosses where it is at least the boundary
    boundary: Floats  # on the same scale, infinite where nothing could cross, shape (L,)
    spent: Floats  # probability under the null to have crossed by now, shape (L,)
    p_stagewise: Floats  # P(crossed earlier, or now with at least this statistic), shape (L,)
    crossed: Bools  # at this look, shape (L,)
    # by the place of a level, the p-value of its boundary in a test that is made once, now
    nominal: Callable[[int], float]


class SignFlipWalk:
    """Random walk of the sum of sign-flipped differences, stopped at the boundaries found so far.

    The sum is kept as units above its minimum: S = step·(2·units − largest sum).

    Args:
        levels: α of each test, ascending, shape (L,).
        spending: f, of all of them.
    """

    def __init__(self, levels: Floats, spending: Spending) -> None:
        self._levels, self._spending, self._lattice = levels, spending, GrowingLattice()
        self._sizes = np.zeros(0, dtype=np.int64)  # all differences so far in steps
        self._observed = self._largest = 0  # units found, and largest sum in steps
        self._first = 0  # units that the first column of _alive is for
        self._alive = np.ones((levels.size, 1))  # P(units and not crossed before), shape (L, width)
        self._spent = np.zeros(levels.size)  # P(crossed before), shape (L,)

    def look(self, fraction: float, values: Floats) -> LookTest:
        """Take a look.

        Args:
            fraction: planned share t of the information, in (0, 1], larger than at the look before.
            values: differences of the items or clusters that are new since then, shape (g,); none is allowed.
        """
        self._join(values)
        tails = np.cumsum(self._alive[:, ::-1], axis=1)[:, ::-1]
        allowed = np.array([self._spending(fraction, level) for level in self._levels.tolist()])
        budgets = allowed - self._spent + SLACK * allowed
        cuts = (tails > budgets[:, None]).sum(axis=1)
        cuts = np.maximum.accumulate(cuts[::-1])[::-1].astype(np.int64)  # never before that of a higher level
        padded = np.pad(tails, ((0, 0), (0, 1)))
        width = self._alive.shape[1]
        p_stagewise = self._spent + padded[:, min(max(self._observed - self._first, 0), width)]
        self._spent = self._spent + padded[np.arange(self._levels.size), cuts]
        self._alive = np.where(np.arange(width) < cuts[:, None], self._alive, 0.0)
        distribution = LatticeSum.of(self._sizes)
        scale = distribution.scale or 1.0
        statistic, limits = 2 * self._observed - self._largest, 2 * (self._first + cuts) - self._largest
        return LookTest(
            statistic=statistic / scale,
            boundary=np.where(limits <= self._largest, limits / scale, np.inf),
            spent=self._spent,
            p_stagewise=np.minimum(p_stagewise, 1.0),
            crossed=statistic >= limits,
            nominal=lambda level: float(np.exp(distribution.log_tail(int(limits[level])))),
        )

    def _join(self, values: Floats) -> None:
        """Take in the new differences, before anything is cut off."""
        factor, steps = self._lattice.extend(values)
        new = LatticeSum.of(steps)
        sums, chances = new.table(FLOOR)
        self._sizes = np.concatenate([factor * self._sizes, np.abs(steps[steps != 0])])
        self._observed = factor * self._observed + (int(steps.sum()) + new.span) // 2
        self._largest = factor * self._largest + new.span
        alive = self._alive
        if factor > 1:  # in steps of which `factor` make an old one
            alive = np.zeros((len(alive), factor * (alive.shape[1] - 1) + 1))
            alive[:, ::factor] = self._alive
        if alive.shape[1] * chances.size <= DIRECT_WORK:
            joined = np.stack([np.convolve(row, chances) for row in alive])
        else:
            width = alive.shape[1] + chances.size - 1
            period = next_fast_len(width, real=True)
            joined = irfft(rfft(alive, period) * rfft(chances, period), period)[:, :width]
            joined = np.maximum(joined, 0.0)
        kept = np.flatnonzero(joined.max(axis=0) >= FLOOR)
        start, stop = (int(kept[0]), int(kept[-1]) + 1) if kept.size else (0, 1)
        self._alive = joined[:, start:stop]  # what any path reaches
        self._first = factor * self._first + (int(sums[0]) + new.span) // 2 + start


class SignVectors:
    """Sums of every task under common sign vectors, and which of them have crossed.

    Args:
        plan: with the statistic over tasks, of which "any" is calibrated here like "joint".

    Attributes:
        sums: in steps, the observed ones in row 0, shape (vectors + 1, T).
        squares: Σd² of each task in steps², shape (T,).
        crossed: rows that crossed before, by level, shape (L, vectors + 1).
    """

    def __init__(self, plan: SequentialPlan) -> None:
        self._plan, self._levels, self._looks, self._lattice = plan, plan.levels, 0, GrowingLattice()
        rows, tasks = plan.sign_vectors + 1, len(plan.tasks)
        self.sums = np.zeros((rows, tasks), dtype=np.int64)
        self.squares = np.zeros(tasks)
        self.crossed = np.zeros((self._levels.size, rows), dtype=bool)

    def look(self, fraction: float, values: Floats) -> LookTest:
        """As `SignFlipWalk.look`, with the differences of the new blocks in every task, shape (g, T).

        Statistic and boundary are on the normal scale of the p-value in a test that is made once, now.
        """
        self._join(values)
        ranks = _extreme_ranks(self.sums, self.squares, self._plan.combine)
        p_values = np.cumsum(np.bincount(ranks)) / ranks.size
        earlier = self.crossed.sum(axis=1)
        as_extreme = (~self.crossed & (ranks <= ranks[0])).sum(axis=1)
        limits, laxest = np.zeros(self._levels.size, dtype=np.int64), ranks.size
        for place in reversed(range(self._levels.size)):
            allowed = (
                self._plan.stopping.degraded(fraction, float(self._levels[place]))
                * (1.0 + SLACK)
                * ranks.size
            )
            free = np.cumsum(np.bincount(ranks[~self.crossed[place]], minlength=p_values.size))
            laxest = min(laxest, int(np.searchsorted(free, allowed - earlier[place], side="right")))
            limits[place] = laxest
            self.crossed[place] |= ranks < laxest
        nominal = np.append(0.0, p_values)[limits]
        return LookTest(
            statistic=-float(ndtri(p_values[ranks[0]])),
            boundary=-ndtri(nominal),
            spent=self.crossed.mean(axis=1),
            p_stagewise=(earlier + as_extreme) / ranks.size,
            crossed=ranks[0] < limits,
            nominal=lambda place: float(nominal[place]),
        )

    def _join(self, values: Floats) -> None:
        """Take in the signed sums of the new blocks."""
        factor, steps = self._lattice.extend(values)
        rows, seed = self.sums.shape[0] - 1, [self._plan.seed, self._looks]
        signed = np.zeros((rows, steps.shape[1]), dtype=np.int64)
        tasks_of_block = np.count_nonzero(steps, axis=1)
        if len(shared := steps[tasks_of_block > 1]):  # blocks of several tasks need their signs one by one
            slices = flip_slices(len(shared), rows, [*seed, 0])
            flipped = np.concatenate([flips @ shared.astype(np.float64) for flips in slices])
            signed += shared.sum(axis=0) - 2 * np.rint(flipped).astype(np.int64)
        for task, column in enumerate(steps[tasks_of_block == 1].T):
            if column.any():  # the signs of the others serve nothing else, so their sums can be drawn
                sums, chances = LatticeSum.of(column).table(DRAWN_FLOOR)
                heights = np.cumsum(chances)
                drawn = np.random.default_rng([*seed, 1, task]).random(rows) * heights[-1]
                places = np.searchsorted(heights, drawn, side="right")
                signed[:, task] += sums[places.clip(max=sums.size - 1)]
        self._looks += 1
        self.sums = factor * self.sums + np.concatenate([steps.sum(axis=0, keepdims=True), signed])
        self.squares = factor**2 * self.squares + (steps.astype(np.float64) ** 2).sum(axis=0)


class DamageTest:
    """The tests of one comparison: of sums of blocks, and of sums over size^0.6 where blocks are unequal.

    A few large clusters decide a sum, and signs that flip say little of them; so damage is found when both
    tests have crossed. The p-value is the larger one; the rest is that of the test which crosses last.
    """

    def __init__(self, tests: Sequence[SignFlipWalk | SignVectors]) -> None:
        self._tests, self._p = tests, np.full((len(tests), 1), np.nan)  # p-values of those that have crossed

    def look(self, fraction: float, values: Sequence[Floats]) -> LookTest:
        """As `SignFlipWalk.look`, with the differences that each of the tests takes, crossed by now."""
        found = [test.look(fraction, own) for test, own in zip(self._tests, values, strict=False)]
        p, crossed = (
            np.stack([getattr(test, name) for test in found]) for name in ("p_stagewise", "crossed")
        )
        before = ~np.isnan(self._p)
        last = int(np.where(before, -1.0, p)[:, 0].argmax())
        p, crossed = np.where(before, self._p, p), before | crossed
        self._p = np.where(crossed, p, np.nan)
        return replace(found[last], p_stagewise=p.max(axis=0), crossed=crossed.all(axis=0))


def _extreme_ranks(sums: Ints, squares: Floats, combine: Combine) -> Ints:
    """Rank of every row, 0 for the most extreme; ties share one, and none is left out.

    The smallest of three p-values, which are ranks themselves, is the same for rows that lead in different
    statistics; the larger standardised drop then tells them apart.
    """
    moving = squares > 0.0
    if not moving.any():
        return np.zeros(sums.shape[0], dtype=np.int64)
    sums, scales, shares = sums[:, moving], np.sqrt(squares[moving]), []
    for statistic in (STATISTICS[name] for name in parts_of(combine)):
        terms = [
            statistic.term(task, float(scale), partial(_log_shares, task))
            for task, scale in zip(sums.T, scales, strict=True)
        ]
        shares.append(_shares(statistic.join.reduce(terms).round(9)))
    p_values = np.minimum.reduce(shares)
    drop = np.maximum(sums.sum(axis=1) / np.sqrt(squares.sum()), (sums / scales).max(axis=1)).round(9)
    if combine in STATISTICS:
        drop = np.zeros_like(p_values)
    order = np.lexsort((-drop, p_values))
    apart = (np.diff(p_values[order]) > 0.0) | (np.diff(drop[order]) != 0.0)
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[order] = np.append(0, np.cumsum(apart))
    return ranks


def _log_shares(values: Ints) -> Floats:
    return np.log(_shares(values))


def _shares(values: Ints | Floats) -> Floats:
    """Share of the rows that are at least as large, ties counted."""
    width = int(values.max() - values.min()) + 1
    if values.dtype.kind == "i" and width <= COUNTED_WIDTH:
        counts = np.bincount(values - values.min(), minlength=width)
        return np.cumsum(counts[::-1])[::-1][values - values.min()] / values.size
    return (values.size - np.searchsorted(np.sort(values), values)) / values.size
