"""Sums of sign-flipped numbers that fit no small lattice: drawn, or all of them where there are few.

A simulated p-value is (r + 1)/(B + 1), which is valid for every B (Phipson & Smyth 2010) but can never be
smaller than 1/(B + 1). Signs are drawn in slices, so memory does not grow with items × draws.

Clustered data often have a dozen blocks whose sums are averages with no small common denominator. Drawing
signs at random would then spend more work, and bring noise, where all of them can be enumerated. A single
tail needs only the sums of two halves (Horowitz & Sahni 1974), so twice as many blocks are within reach.

Sums are compared up to a tolerance, so that ties which only rounding separates still count as ties.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stats.arrays import Floats

DRAWS = 20_000
SIGN_VECTORS = 20_000
SLICE_BYTES = 1 << 24
TIE_TOLERANCE = 1e-9

MAX_ENUMERATED = 16
"""Blocks whose 65,536 sign vectors are enumerated one by one: no more work than simulating."""


def monte_carlo_p(sums: Floats, observed: float) -> float:
    """The share (r + 1)/(B + 1) of simulated sums, shape (B,), at or above the observed one, it included."""
    tolerance = TIE_TOLERANCE * max(float(np.abs(sums).max(initial=0.0)), abs(observed))
    return (int(np.count_nonzero(sums >= observed - tolerance)) + 1) / (sums.size + 1)


def monte_carlo_sums(values: Floats, draws: int, seed: int | list[int]) -> Floats:
    """Draw S = Σ εᵢvᵢ with fair signs, shape (draws,); the seed is that of numpy's default generator."""
    moving = values[values != 0.0]
    total = float(moving.sum())
    parts = [total - 2.0 * (flips @ moving) for flips in flip_slices(moving.size, draws, seed)]
    return np.concatenate(parts) if parts else np.zeros(0)


def flip_slices(
    items: int, draws: int, seed: int | list[int], dtype: DTypeLike = np.float64
) -> Iterator[NDArray[np.floating]]:
    """Draw rows of random flips in slices of bounded memory.

    Yields:
        Arrays of 0 and 1 (the sign is changed), shape (rows of this slice, items).
    """
    rng = np.random.default_rng(seed)
    rows = max(1, SLICE_BYTES // (np.dtype(dtype).itemsize * max(items, 1)))
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(count * (-(-items // 8))), dtype=np.uint8))
        yield bits.reshape(count, -1)[:, :items].astype(dtype)


def all_signed_sums(values: Floats) -> Floats:
    """Σ ε × values for every sign vector, the one without a flip first.

    Shape (2ⁿ,) of one number per block, shape (n,); (2ⁿ, k), with the same signs in every column, of (n, k).
    """
    sums = np.zeros((1, *values.shape[1:]))
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def few_signs_log_tail(values: Floats) -> Callable[[float], float] | None:
    """Ln P(Σ εᵢvᵢ ≥ ·), ties counted, −∞ beyond the largest sum; None for too many values but 0."""
    moving = values[values != 0.0]
    if moving.size > 2 * MAX_ENUMERATED:
        return None
    half = moving.size // 2
    left, right = np.sort(all_signed_sums(moving[:half])), np.sort(all_signed_sums(moving[half:]))

    def log_tail(value: float) -> float:
        least = value - TIE_TOLERANCE * float(left[-1] + right[-1]) - left
        hits = left.size * right.size - int(np.searchsorted(right, least).sum())
        return float(np.log(hits / (left.size * right.size))) if hits else -np.inf

    return log_tail
