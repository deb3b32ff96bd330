"""Simulated sign flips, for scores that fit no small lattice.

A simulated p-value is (r + 1)/(B + 1), which is valid for every B (Phipson & Smyth 2010) but can never be
smaller than 1/(B + 1); it comes with its standard error. Sums are compared up to a tolerance, so that ties
which only rounding separates still count as ties. Signs are drawn in slices, so memory does not grow with
items × draws.

The exact law of a sum of few sign-flipped numbers that fit no lattice, by going through all signs.

Clustered data often have a dozen blocks whose sums are averages with no small common denominator. Drawing
signs at random would then spend more work, and bring noise, where all of them can be had. A single tail
needs only the sums of two halves (Horowitz & Sahni 1974), so twice as many blocks are within reach. Sums are
compared up to a tolerance, so that ties which only rounding separates still count as ties.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stats.arrays import Floats

DRAWS = 20_000
SLICE_BYTES = 1 << 24
TIE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class MonteCarloTail:
    """A simulated p-value and its standard error."""

    p: float
    standard_error: float


def monte_carlo_tail(sums: Floats, observed: float) -> MonteCarloTail:
    """The share of simulated sums at or above the observed one, the observed one counted among them.

    Args:
        sums: simulated values of the statistic under the null, shape (B,).
        observed: the value found.

    Returns:
        p = (r + 1)/(B + 1) and √(p(1 − p)/(B + 1)).
    """
    tolerance = TIE_TOLERANCE * max(float(np.abs(sums).max(initial=0.0)), abs(observed))
    p = (int(np.count_nonzero(sums >= observed - tolerance)) + 1) / (sums.size + 1)
    return MonteCarloTail(p, float(np.sqrt(p * (1.0 - p) / (sums.size + 1))))


def monte_carlo_sums(values: Floats, draws: int, seed: int | list[int]) -> Floats:
    """Draw S = Σ εᵢvᵢ with fair signs.

    Args:
        values: shape (n,).
        draws: how many sums.
        seed: of numpy's default generator.

    Returns:
        Shape (draws,).
    """
    moving = values[values != 0.0]
    total = float(moving.sum())
    parts = [total - 2.0 * (flips @ moving) for flips in flip_slices(moving.size, draws, seed)]
    return np.concatenate(parts) if parts else np.zeros(0)


def flip_slices(
    items: int, draws: int, seed: int | list[int], dtype: DTypeLike = np.float64
) -> Iterator[NDArray[np.floating]]:
    """Yield random flips in slices of bounded memory.

    Args:
        items: flips per draw.
        draws: rows in all.
        seed: of numpy's default generator.
        dtype: of the result.

    Yields:
        Arrays of 0 and 1 (the sign is changed), shape (rows of this slice, items).
    """
    rng = np.random.default_rng(seed)
    rows = max(1, SLICE_BYTES // (np.dtype(dtype).itemsize * max(items, 1)))
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(count * (-(-items // 8))), dtype=np.uint8))
        yield bits.reshape(count, -1)[:, :items].astype(dtype)


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
