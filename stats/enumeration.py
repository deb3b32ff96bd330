"""The exact law of a sum of few sign-flipped numbers that fit no lattice, by going through all signs.

Clustered data often have a dozen blocks whose sums are averages with no small common denominator. Drawing
signs at random would then spend more work, and bring noise, where all of them can be had. A single tail
needs only the sums of two halves (Horowitz & Sahni 1974), so twice as many blocks are within reach. Sums are
compared up to a tolerance, so that ties which only rounding separates still count as ties.
"""

from dataclasses import dataclass

import numpy as np

from stats.arrays import Floats
from stats.montecarlo import TIE_TOLERANCE

MAX_ENUMERATED = 16
"""Blocks whose 65,536 sign vectors are gone through one by one: no more work than simulating."""


def all_signed_sums(values: Floats) -> Floats:
    """Σ ε × values for every sign vector, the one without a flip first.

    Args:
        values: one number per block, shape (n,), or one per block and column, shape (n, k).

    Returns:
        Shape (2ⁿ,), or (2ⁿ, k): the same signs in every column.
    """
    sums = np.zeros((1, *values.shape[1:]))
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@dataclass(frozen=True)
class EnumeratedLaw:
    """The law of S = Σ εᵢvᵢ as the sum of two halves.

    Attributes:
        left: all sums of the first half, ascending, at most 2¹⁶.
        right: the same of the second half.
    """

    left: Floats
    right: Floats

    @classmethod
    def of(cls, values: Floats) -> "EnumeratedLaw | None":
        """The law of the given differences, or None where there are too many; zeros carry no sign."""
        moving = values[values != 0.0]
        if moving.size > 2 * MAX_ENUMERATED:
            return None
        half = moving.size // 2
        return cls(np.sort(all_signed_sums(moving[:half])), np.sort(all_signed_sums(moving[half:])))

    def log_tail(self, value: float) -> float:
        """Natural logarithm of P(S ≥ value), ties counted; −∞ beyond the largest sum."""
        reach = float(self.left[-1] + self.right[-1])
        least = value - TIE_TOLERANCE * reach - self.left
        hits = self.left.size * self.right.size - int(np.searchsorted(self.right, least).sum())
        chance = hits / (self.left.size * self.right.size)
        return float(np.log(chance)) if hits else -np.inf
