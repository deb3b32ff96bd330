"""From floating-point scores to whole numbers, so that ties are ties.

0.1 + 0.2 is not 0.3, and a permutation test that compares float sums counts such ties by luck: the same data
rescaled by ten gave p = .469 and .537. Scores are nearly always fractions with a small denominator (right or
wrong, a mean over reruns, a mean over references), so we recover the fractions once and compute with integers
ever after. Recovery is relative to the largest value, hence independent of the unit of the scores. Where no
small common denominator exists (BLEU, log-probabilities) the answer is None and the caller simulates.

Differences as whole numbers while they come in.

Which step all differences are multiples of is only known once all are seen. A new look may bring a finer
step; sums of earlier looks are then multiples of it, too, and are multiplied up. Scores without a small
common denominator are rounded to a grid that is fine beside their spread. The sum of *rounded* differences is
another statistic, whose sign-flip law is as exact: rounding changes a sign with the sign of what is rounded.
"""

from dataclasses import dataclass, field
from math import gcd, lcm

import numpy as np

from stats.arrays import Floats, Ints

MAX_DENOMINATOR = 100_000
MAX_DISTINCT = 4_096
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Lattice:
    """Values as whole multiples of one step: value = step × integer.

    Attributes:
        step: the common unit, positive.
        integers: shape of the values they stand for.
    """

    step: float
    integers: Ints

    @property
    def observed(self) -> float:
        """The sum of the values, without rounding on the way."""
        return int(self.integers.sum()) * self.step


def to_lattice(values: Floats, max_denominator: int = MAX_DENOMINATOR) -> Lattice | None:
    """Find a step of which all values are whole multiples.

    Args:
        values: shape (n,).
        max_denominator: largest integer that the largest value may become.

    Returns:
        The lattice, or None where none is that coarse. All zeros lie on every lattice; the step is then 1.
    """
    sizes = np.abs(values)
    top = float(sizes.max(initial=0.0))
    if top == 0.0:
        return Lattice(1.0, np.zeros(values.shape, dtype=np.int64))
    distinct = np.unique(sizes)
    if distinct.size > MAX_DISTINCT:
        return None
    levels = _common_levels(distinct / top, max_denominator)
    if levels is None:
        return None
    step = top / levels
    integers: Ints = np.rint(values / step).astype(np.int64)
    return Lattice(step, integers)


def _common_levels(ratios: Floats, limit: int) -> int | None:
    """Smallest L ≤ limit such that every ratio in [0, 1] is a multiple of 1/L, up to the tolerance."""
    denominators = _denominators(ratios, limit)
    if denominators is None:
        return None
    levels = lcm(*(int(q) for q in np.unique(denominators)))
    if levels > limit:
        return None
    whole = np.rint(ratios * levels)
    if np.abs(ratios - whole / levels).max() > TOLERANCE:
        return None
    return levels // gcd(*(int(k) for k in whole))


def _denominators(ratios: Floats, limit: int) -> Ints | None:
    """Denominators of the first continued-fraction convergents within the tolerance of each ratio."""
    rest = ratios.copy()
    before, now = np.zeros(ratios.size), np.ones(ratios.size)
    while True:
        near = np.abs(ratios - np.rint(ratios * now) / now) <= TOLERANCE
        if near.all():
            return now.astype(np.int64)
        fraction = rest - np.floor(rest)
        rest = np.where(near, rest, 1.0 / np.where(near, 1.0, np.maximum(fraction, 1e-300)))
        before, now = np.where(near, before, now), np.where(near, now, np.floor(rest) * now + before)
        if now.max() > limit:
            return None


FINEST = 2_000
"""Largest whole number that the largest difference may become without being rounded."""

ROUNDED_SPREAD = 32
"""Steps that make up the root mean square of differences that have to be rounded."""


@dataclass(frozen=True)
class GrowingLattice:
    """The step that the differences seen so far are multiples of.

    Attributes:
        step: in units of the scores.
        rounded: whether differences were rounded; from then on the step stays.
        seen: distinct sizes of the differences so far, zero left out.
    """

    step: float = 1.0
    rounded: bool = False
    seen: Floats = field(default_factory=lambda: np.zeros(0))

    def extended(self, values: Floats) -> tuple["GrowingLattice", int, Ints]:
        """Take in new differences.

        Args:
            values: any shape.

        Returns:
            The lattice with them, how many new steps make one old step, and the values in new steps.
        """
        sizes = np.unique(np.append(self.seen, np.abs(values[values != 0.0])))
        if sizes.size == 0:
            return self, 1, np.zeros(values.shape, dtype=np.int64)
        found = None if self.rounded else to_lattice(sizes, FINEST)
        step = self._rounded_step(values) if found is None else found.step
        factor = round(self.step / step) if self.seen.size else 1
        whole: Ints = np.rint(values / step).astype(np.int64)
        return GrowingLattice(step, found is None, sizes), factor, whole

    def _rounded_step(self, values: Floats) -> float:
        """The step so far, or a whole part of it that is fine beside the values."""
        if self.rounded:
            return self.step
        moving = values[values != 0.0]
        wanted = float(np.sqrt(np.mean(moving**2))) / ROUNDED_SPREAD
        return self.step / int(np.ceil(self.step / wanted)) if self.seen.size else wanted
