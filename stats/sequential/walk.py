"""The exact group-sequential sign-flip test: may the variant be called worse before all items are in?

Under the null the signs of the differences are fair coins given their sizes, for any order of the items. The
sums at the looks are then a random walk whose distribution is computed, not simulated: the sub-density of the
sum over the paths that have not crossed is convolved with the distribution of the new items' sum; the
boundary is the smallest value whose upper tail, together with what was spent before, stays within the
spending function; the tail beyond it is cut off (Armitage, McPherson & Rowe 1969; Lan & DeMets 1983; Jennison
& Turnbull 2000, ch. 19). Only differences already seen decide, so that a look can be taken at any fraction,
or left out.

Several levels are followed at once, because a comparison may be given a higher one later
(`stats.sequential.holm`). The boundary of a level is never below that of a higher one: what crosses at a
level then also crosses at every higher one, which discrete distributions alone would not promise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from stats.arrays import Bools, Floats
from stats.distributions.lattice import GrowingLattice
from stats.distributions.sums import LatticeSum
from stats.sequential.boundaries import Spending

FLOOR = 1e-40
"""Probabilities below this are left out at either end of a distribution."""

DIRECT_WORK = 1 << 20
"""Multiplications up to which a convolution is made directly; a longer one by Fourier transform (1e-16)."""

SLACK = 1e-12
"""A tail that exceeds what may be spent by this share of it is rounding."""


@dataclass(frozen=True)
class LookTest:
    """What one look says, for every level.

    Attributes:
        statistic: standardised evidence of a drop; crosses where it is at least the boundary.
        boundary: on the same scale, infinite where nothing could cross, shape (L,).
        spent: probability under the null to have crossed by now, shape (L,).
        p_stagewise: P(crossed earlier, or now with at least this statistic), shape (L,).
        crossed: at this look, shape (L,).
        nominal: by the place of a level, the p-value of its boundary in a test that is made once, now.
    """

    statistic: float
    boundary: Floats
    spent: Floats
    p_stagewise: Floats
    crossed: Bools
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
            joined = np.maximum(fftconvolve(alive, chances[None, :], axes=1), 0.0)
        kept = np.flatnonzero(joined.max(axis=0) >= FLOOR)
        start, stop = (int(kept[0]), int(kept[-1]) + 1) if kept.size else (0, 1)
        self._alive = joined[:, start:stop]  # what any path reaches
        self._first = factor * self._first + (int(sums[0]) + new.span) // 2 + start
