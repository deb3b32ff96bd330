"""The exact group-sequential sign-flip test: may the variant be called worse before all items are in?

Under the null the signs of the differences are fair coins given their sizes, for any order of the items.
The sums at the looks are then a random walk whose law is computed, not simulated: the sub-density of the sum
over the paths that have not crossed is convolved with the law of the new items' sum; the boundary is the
smallest value whose upper tail, together with what was spent before, stays within the spending function; the
tail beyond it is cut off (Armitage, McPherson & Rowe 1969; Lan & DeMets 1983; Jennison & Turnbull 2000,
ch. 19). Only differences already seen decide, so that a look can be taken at any fraction, or left out.

Several levels are followed at once, because a comparison may be given a higher one later (`stats.
sequential.holm`). The boundary of a level is never below that of a higher one: what crosses at a level then
also crosses at every higher one, which discrete laws alone would not promise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import fftconvolve

from stats.arrays import Bools, Floats, Ints
from stats.distributions.lattice import GrowingLattice
from stats.distributions.sums import SignFlipLaw
from stats.sequential.boundaries import Spending

FLOOR = 1e-40
"""Probabilities below this are left out at either end of a law."""

DIRECT_WORK = 1 << 20
"""Multiplications up to which a convolution is made directly; a longer one by Fourier transform (1e-16)."""

SLACK = 1e-12
"""A tail that exceeds what may be spent by this share of it is rounding."""


@dataclass(frozen=True)
class LookLaw:
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


@dataclass(frozen=True)
class SignFlipWalk:
    """Random walk of the sum of sign-flipped differences, stopped at the boundaries found so far.

    The sum is kept as units above its minimum: S = step·(2·units − reach).

    Attributes:
        spending: f.
        levels: α of each test, ascending, shape (L,).
        lattice: the step.
        sizes: all differences so far in steps.
        observed: the units found.
        reach: largest sum in steps.
        first: units that the first column of `alive` is for.
        alive: P(units and not crossed before), shape (L, width).
        spent: P(crossed before), shape (L,).
    """

    spending: Spending
    levels: Floats
    lattice: GrowingLattice
    sizes: Ints
    observed: int
    reach: int
    first: int
    alive: Floats
    spent: Floats

    @classmethod
    def start(cls, levels: Floats, spending: Spending) -> "SignFlipWalk":
        """The walk before the first look.

        Args:
            levels: ascending, shape (L,).
            spending: f, of all of them.
        """
        empty = np.zeros(0, dtype=np.int64)
        alive, spent = np.ones((levels.size, 1)), np.zeros(levels.size)
        return cls(spending, levels, GrowingLattice(), empty, 0, 0, 0, alive, spent)

    def look(self, fraction: float, values: Floats) -> tuple["SignFlipWalk", LookLaw]:
        """Take a look.

        Args:
            fraction: planned share t of the information, in (0, 1], larger than at the look before.
            values: differences of the items or clusters that are new since then, shape (g,); none is allowed.

        Returns:
            The walk after the look, and what the look says.
        """
        walk = self._joined(values)
        tails = np.cumsum(walk.alive[:, ::-1], axis=1)[:, ::-1]
        allowed = np.array([walk.spending(fraction, level) for level in walk.levels.tolist()])
        cuts = _cuts(tails, allowed - walk.spent + SLACK * allowed)
        padded = np.pad(tails, ((0, 0), (0, 1)))
        rows = np.arange(walk.levels.size)
        spent = walk.spent + padded[rows, cuts]
        alive = np.where(np.arange(walk.alive.shape[1]) < cuts[:, None], walk.alive, 0.0)
        place = min(max(walk.observed - walk.first, 0), walk.alive.shape[1])
        law = walk._said(cuts, spent, walk.spent + padded[:, place])
        return replace(walk, alive=alive, spent=spent), law

    def _joined(self, values: Floats) -> "SignFlipWalk":
        """The walk with the new differences, before anything is cut off."""
        lattice, factor, steps = self.lattice.extended(values)
        law = SignFlipLaw.of(steps)
        sums, chances = law.table(FLOOR)
        first = factor * self.first + (int(sums[0]) + law.reach) // 2
        alive, dropped = _trimmed(_convolved(_dilated(self.alive, factor), chances))
        return replace(
            self,
            lattice=lattice,
            sizes=np.concatenate([factor * self.sizes, np.abs(steps[steps != 0])]),
            observed=factor * self.observed + (int(steps.sum()) + law.reach) // 2,
            reach=factor * self.reach + law.reach,
            first=first + dropped,
            alive=alive,
        )

    def _said(self, cuts: Ints, spent: Floats, p_stagewise: Floats) -> LookLaw:
        """The look on the standardised scale."""
        law = SignFlipLaw.of(self.sizes)
        scale = law.scale or 1.0
        statistic = 2 * self.observed - self.reach
        limits = 2 * (self.first + cuts) - self.reach
        return LookLaw(
            statistic=statistic / scale,
            boundary=np.where(limits <= self.reach, limits / scale, np.inf),
            spent=spent,
            p_stagewise=np.minimum(p_stagewise, 1.0),
            crossed=statistic >= limits,
            nominal=lambda level: float(np.exp(law.log_tail(int(limits[level])))),
        )


def _cuts(tails: Floats, budgets: Floats) -> Ints:
    """First column of every row whose tail is within the budget, never before that of a later row."""
    cuts = (tails > budgets[:, None]).sum(axis=1)
    return np.maximum.accumulate(cuts[::-1])[::-1].astype(np.int64)


def _dilated(alive: Floats, factor: int) -> Floats:
    """The same law in steps of which `factor` make an old one."""
    if factor == 1:
        return alive
    spread = np.zeros((alive.shape[0], factor * (alive.shape[1] - 1) + 1))
    spread[:, ::factor] = alive
    return spread


def _convolved(alive: Floats, chances: Floats) -> Floats:
    """Every row convolved with one law."""
    if alive.shape[1] * chances.size <= DIRECT_WORK:
        return np.stack([np.convolve(row, chances) for row in alive])
    product: Floats = fftconvolve(alive, chances[None, :], axes=1)
    return np.maximum(product, 0.0)


def _trimmed(alive: Floats) -> tuple[Floats, int]:
    """Columns between the first and the last that any path reaches; how many were left out before."""
    kept = np.flatnonzero(alive.max(axis=0) >= FLOOR)
    if kept.size == 0:
        return alive[:, :1], 0
    return alive[:, kept[0] : kept[-1] + 1], int(kept[0])
