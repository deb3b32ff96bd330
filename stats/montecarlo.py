"""Simulated sign flips, for scores that fit no small lattice.

A simulated p-value is (r + 1)/(B + 1), which is valid for every B (Phipson & Smyth 2010) but can never be
smaller than 1/(B + 1); it comes with its standard error. Sums are compared up to a tolerance, so that ties
which only rounding separates still count as ties. Signs are drawn in slices, so memory does not grow with
items × draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stats.arrays import Floats

DRAWS = 20_000
SLICE_BYTES = 1 << 26
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
    parts = [signs @ moving for signs in sign_slices(moving.size, draws, seed)]
    return np.concatenate(parts) if parts else np.zeros(0)


def sign_slices(items: int, draws: int, seed: int | list[int]) -> Iterator[Floats]:
    """Yield random signs in slices of bounded memory.

    Args:
        items: signs per draw.
        draws: rows in all.
        seed: of numpy's default generator.

    Yields:
        Arrays of −1 and +1, shape (rows of this slice, items).
    """
    rng = np.random.default_rng(seed)
    rows = max(1, SLICE_BYTES // (8 * max(items, 1)))
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        bits = np.unpackbits(np.frombuffer(rng.bytes(count * (-(-items // 8))), dtype=np.uint8))
        yield 1.0 - 2.0 * bits.reshape(count, -1)[:, :items].astype(np.float64)
