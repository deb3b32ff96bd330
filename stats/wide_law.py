"""One tail of a sum of sign-flipped whole numbers on a lattice of millions of values.

F1 scores have common denominators of up to 1e5, and multiplying a transform of millions of frequencies size
by size takes minutes. But nearly all of these frequencies are empty: with u the tilted chance of a sign,
a = u(1 − u) and c = cos ωw, ln |φ(ω)| = ½ Σ ln(1 − 2a(1 − c)) ≤ −Σ [a(1 − c) + a²(1 − c)²], and that bound is
had for all frequencies at once by one transform of the weights. Where it lies below e^−30 the transform is
left out; the rest, some hundreds, is summed in closed form.
"""

import numpy as np
from scipy.fft import next_fast_len, rfft
from scipy.special import expit

from stats.arrays import Complexes, Floats, Ints

EMPTY = 30.0
"""Minus the logarithm of what a frequency contributes at most, to be left out."""

CHUNK = 1 << 20
"""Frequencies × sizes that are multiplied at once."""


def sparse_total(sizes: Ints, counts: Ints, tilt: float, ups: int, window: tuple[int, int]) -> float:
    """Σ P(U = x)·exp(−tilt·(x − ups)) over x from ups to the window's end, under the tilted law.

    Args:
        sizes: distinct sizes, shape (k,).
        counts: how many signs have each, shape (k,).
        tilt: of the law of U = Σ size × Bin(count, u), u = expit(tilt × size); not negative.
        ups: where the sum starts.
        window: least and greatest value of U with any noticeable probability.
    """
    period = next_fast_len(window[1] - window[0] + 1, real=True)
    chance = expit(tilt * sizes)
    kept = kept_frequencies(sizes, counts, chance, period)
    angles = (2.0 * np.pi / period) * kept
    shifts = (2.0 * np.pi / period) * (kept * (ups % period) % period)
    values = _transform(sizes, counts, chance, kept, period) * np.exp(1j * shifts)
    sums = _geometric_sums(1j * angles - tilt, window[1] - ups + 1)
    twice = np.where((kept == 0) | (2 * kept == period), 1.0, 2.0)
    total: float = (twice * (values * sums).real).sum() / period
    return total


def kept_frequencies(sizes: Ints, counts: Ints, chance: Floats, period: int) -> Ints:
    """Frequencies of a transform of this period at which that of the law may differ from 0.

    Args:
        sizes: distinct sizes, shape (k,).
        counts: how many signs have each, shape (k,).
        chance: of their being up, shape (k,).
        period: length of the transform.
    """
    first, second = counts * chance * (1.0 - chance), counts * (chance * (1.0 - chance)) ** 2
    histogram = np.bincount(sizes % period, first + 2.0 * second, period)
    histogram -= np.bincount(2 * sizes % period, 0.5 * second, period)
    deficits = float((first + 1.5 * second).sum()) - rfft(histogram).real
    kept: Ints = np.flatnonzero(deficits < EMPTY).astype(np.int64)
    return kept


def _transform(sizes: Ints, counts: Ints, chance: Floats, kept: Ints, period: int) -> Complexes:
    """Π (1 − u + u·exp(−iωw))^count at the kept frequencies."""
    found = np.empty(kept.size, dtype=np.complex128)
    step = max(1, CHUNK // sizes.size)
    for start in range(0, kept.size, step):
        part = kept[start : start + step]
        turns = np.exp((-2j * np.pi / period) * (part[:, None] * sizes % period))
        with np.errstate(divide="ignore"):
            logs = np.log((1.0 - chance) + chance * turns)
        found[start : start + step] = np.exp(logs @ counts)
    return found


def _geometric_sums(exponents: Complexes, terms: int) -> Complexes:
    """Σ exp(exponent × j) over j from 0 to terms − 1."""
    single = exponents == 0.0
    safe = np.where(single, -1.0, exponents)
    found: Complexes = np.where(single, terms, np.expm1(terms * safe) / np.expm1(safe))
    return found
