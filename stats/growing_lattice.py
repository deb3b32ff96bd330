"""Differences as whole numbers while they come in.

Which step all differences are multiples of is only known once all are seen. A new look may bring a finer
step; sums of earlier looks are then multiples of it, too, and are multiplied up. Scores without a small
common denominator are rounded to a grid that is fine beside their spread. The sum of *rounded* differences is
another statistic, whose sign-flip law is as exact: rounding changes a sign with the sign of what is rounded.
"""

from dataclasses import dataclass, field

import numpy as np

from stats.arrays import Floats, Ints
from stats.lattice import to_lattice

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
