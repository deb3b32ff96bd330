"""The null distribution of a sum of sign-flipped differences: on a lattice, of all sign vectors, or drawn.

Clustered data often have a dozen blocks whose sums are averages with no small common denominator. Drawing
signs at random would then spend more work, and bring noise, where all of them can be enumerated. A single
tail needs only the sums of two halves (Horowitz & Sahni 1974), so twice as many blocks are within reach.

A simulated p-value is (r + 1)/(B + 1), which is valid for every B (Phipson & Smyth 2010): the observed sum is
one of them. Sums are compared up to a tolerance, so that ties which only rounding separates still count.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stats.arrays import SMALLEST_P, Floats, Ints
from stats.distributions.splits import RunSplits
from stats.distributions.sums import MAX_TABLE_WORK, TABLE_FLOOR, lattice_sum

DRAWS = 20_000
SIGN_VECTORS = 20_000
SLICE_BYTES = 1 << 24
TIE_TOLERANCE = 1e-9

MAX_ENUMERATED = 16
"""Blocks whose 65,536 sign vectors are enumerated one by one: no more work than simulating."""

SPLIT_STREAM = 1 << 20  # added to a seed for the draws of splits, so that they are none of the signs'


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


class NullTable:
    """Distribution of a sum S of one task's differences under the null, with the value found.

    Args:
        sums: difference per item or cluster, shape (G,), whose signs are flipped.
        draws: sign vectors where the distribution has to be simulated.
        seed: of those.
        floor: smallest probability of a value that is kept.
        splits: further items, whose runs are split.

    Attributes:
        support: values of S, ascending, shape (k,).
        chances: their probabilities, shape (k,).
        tails: P(S ≥ support), shape (k,).
        observed: the value found.
        scale: standard deviation of S under the null, 0 where nothing differs.
        exact: False where the distribution was simulated.
        tolerance: distance below which two sums are a tie.
    """

    def __init__(
        self,
        sums: Floats,
        draws: int,
        seed: list[int],
        floor: float = TABLE_FLOOR,
        splits: RunSplits | None = None,
    ) -> None:
        extra, squares = (splits.observed, splits.variance) if splits is not None else (0.0, 0.0)
        self.observed, self.scale = float(sums.sum()) + extra, float(np.sqrt(sums @ sums + squares))
        self.exact = True
        if (exact := lattice_sum(sums, splits)) is not None and exact[0].table_work <= MAX_TABLE_WORK:
            distribution, step, self.observed = exact
            values, self.chances = distribution.table(floor)
            self.support = np.asarray(values * step, dtype=np.float64)
        else:
            moving = sums[sums != 0.0]
            self.exact = splits is None and moving.size <= MAX_ENUMERATED
            if self.exact:
                reached = all_signed_sums(moving)
            else:
                reached = np.append(drawn_sums(sums, splits, draws, seed), self.observed)
            ordered = np.sort(reached)
            apart = np.append(True, np.diff(ordered) > TIE_TOLERANCE * float(np.abs(ordered).max()))
            firsts = np.flatnonzero(apart)  # values that only rounding separates are merged
            self.support = ordered[firsts]
            self.chances = np.asarray(np.diff(np.append(firsts, ordered.size)) / ordered.size, np.float64)
        self.tails = np.minimum(np.cumsum(self.chances[::-1])[::-1], 1.0)
        self.tolerance = TIE_TOLERANCE * max(float(np.abs(self.support).max()), abs(self.observed))

    def tail(self, value: float) -> float:
        """P(S ≥ value), ties within the tolerance counted."""
        place = int(np.searchsorted(self.support, value - self.tolerance))
        return float(self.tails[place]) if place < self.support.size else 0.0

    def log_tails(self, places: Ints) -> Floats:
        """Logarithms of P(S ≥ ·) at positions in the support; one beyond its end counts as the last."""
        return np.log(self.tails)[np.minimum(places, self.tails.size - 1)]

    @property
    def p(self) -> float:
        """P(S ≥ observed), at least 1e-300."""
        return max(self.tail(self.observed), SMALLEST_P)

    def draw(self, rng: np.random.Generator, draws: int) -> Ints:
        """Draw positions in the support, shape (draws,): how often each, then in random order."""
        times = rng.multinomial(draws, self.chances / self.chances.sum())
        places: Ints = np.repeat(np.arange(self.support.size), times)
        rng.shuffle(places)
        return places


def drawn_sums(sums: Floats, splits: RunSplits | None, draws: int, seed: list[int]) -> Floats:
    """Draw sums of sign-flipped blocks and split items, shape (draws,)."""
    flipped = monte_carlo_sums(sums, draws, seed)
    return flipped if splits is None else flipped + splits.draw(draws, [*seed, SPLIT_STREAM])
