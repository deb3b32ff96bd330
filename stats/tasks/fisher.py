"""Fisher's combination of per-task p-values, with its exact null distribution.

X = −2Σ ln p_t is χ² with 2T degrees of freedom only for continuous p-values, and conservative for discrete
ones. Each term is discrete with known atoms, so the distribution of the sum can be computed: by enumeration
of two halves where they are small, else on a grid, tilted to the observed value so that small tails keep
their digits.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
from scipy.fft import irfft, rfft
from scipy.optimize import brentq
from scipy.special import gammaincc, gammainccinv

from stats.arrays import SMALLEST_P, Floats
from stats.distributions.nulls import TIE_TOLERANCE
from stats.distributions.sums import TiltedAtoms

MAX_HALF = 1 << 16
GRID = 1 << 14

Term: TypeAlias = tuple[Floats, Floats]
"""One summand −ln p: its values and their log-probabilities, shape (k,) each."""


def term_of(tails: Floats, chances: Floats) -> Term:
    """The summand of a task from the tails P(S ≥ s) and probabilities P(S = s) over its support."""
    kept = chances > 0.0
    return -np.log(np.maximum(tails[kept], SMALLEST_P)), np.log(chances[kept])


def chi_square_p(total: float, tasks: int) -> float:
    """P(χ²_{2T} ≥ 2·total) of T tasks with total Σ −ln p_t: conservative for discrete tests."""
    return max(float(gammaincc(tasks, total)), SMALLEST_P) if tasks else 1.0


class FisherSum:
    """Null distribution of Σ −ln p_t over independent tasks."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = [term for term in terms if term[0].size > 1]
        self._halves = _halves(self.terms)

    def tail(self, total: float) -> float:
        """P(Σ ≥ total), ties counted, at least 1e-300.

        Exact where the support could be enumerated; on the grid the relative error is below 1e-3.
        """
        if not self.terms:
            return 1.0
        total -= TIE_TOLERANCE * max(total, 1.0)
        if self._halves is None:
            return max(self._tilted_tail(total), SMALLEST_P)
        (left, left_logs), (right, right_logs) = self._halves
        tails = np.append(np.cumsum(np.exp(right_logs)[::-1])[::-1], 0.0)
        places = np.searchsorted(right, total - left)
        return max(min(1.0, float(np.exp(left_logs) @ tails[places])), SMALLEST_P)

    def tail_in_body(self, total: float) -> float:
        """The same with an absolute error of about 1e-4 of itself down to 1e-10, for many quick look-ups."""
        if self._halves is not None or not self.terms:
            return self.tail(total)
        step, tails = self._body
        return float(np.interp(total / step + 0.5, np.arange(tails.size), tails))

    @cached_property
    def _body(self) -> tuple[float, Floats]:
        """Grid step and P(Σ ≥ (i − ½) steps); the sum is stochastically at most Gamma(T)."""
        step = float(gammainccinv(len(self.terms), 1e-17)) / (GRID - 1)
        chances = _gridded([(values, np.exp(logs)) for values, logs in self.terms], step)
        return step, np.cumsum(chances[::-1])[::-1]

    def _tilted_tail(self, total: float) -> float:
        """P(Σ ≥ total) by a grid around `total` under the exponential tilt that makes `total` the mean."""
        atoms, tilt = TiltedAtoms(self.terms), 0.0

        def excess(tilt: float) -> float:
            return float(atoms.means(atoms.at(tilt)[0]).sum()) - total

        if excess(0.0) < 0.0:
            tilt = 1.0
            while excess(tilt) < 0.0 and tilt <= 64.0:
                tilt *= 2.0
            if excess(tilt) >= 0.0:
                tilt = float(brentq(excess, 0.0, tilt, xtol=1e-6))
        chances, log_moments = atoms.at(tilt)
        means = atoms.means(chances)
        squares = float((chances * atoms.values * atoms.values).sum())
        mean, variance = float(means.sum()), max(squares - float((means * means).sum()), 0.0)
        half = 10.0 * np.sqrt(variance) + 45.0 * max(mean, 1.0) / len(self.terms) + abs(total - mean)
        step = 2.0 * half / GRID
        pieces = np.split(chances, atoms.starts[1:])
        grid = _gridded([(term[0], piece) for term, piece in zip(self.terms, pieces, strict=True)], step)
        start = total / step
        cells = int(np.ceil(start)) + np.arange(GRID // 2)
        weights = np.exp(-tilt * (cells * step - total))
        weights[0] *= 0.5 + (cells[0] - start)
        above = float(grid[cells % GRID] @ weights)
        return min(1.0, float(np.exp(float(log_moments.sum()) - tilt * total)) * above)


def _halves(terms: list[Term]) -> tuple[Term, Term] | None:
    """Enumerate the sums of two groups of terms, or None where one group has too many."""
    left = right = (np.zeros(1), np.zeros(1))
    for values, logs in sorted(terms, key=lambda term: -term[0].size):
        left, right = sorted((left, right), key=lambda term: term[0].size)
        if left[0].size * values.size > 4 * MAX_HALF:
            return None
        sums = np.add.outer(left[0], values).ravel()
        order = np.argsort(sums, kind="stable")
        sums, sum_logs = sums[order], np.add.outer(left[1], logs).ravel()[order]
        firsts = np.flatnonzero(np.append(True, np.diff(sums) > 1e-12 * np.maximum(sums[1:], 1.0)))
        left = sums[firsts], np.logaddexp.reduceat(sum_logs, firsts)  # equal sums merged
        if firsts.size > MAX_HALF:
            return None
    return left, right


def _gridded(terms: Sequence[Term], step: float) -> Floats:
    """Cyclic distribution of the sum from values and chances; an atom between two cells keeps its mean."""
    transform = np.ones(GRID // 2 + 1, dtype=np.complex128)
    for values, chances in terms:
        place = values / step
        cell = np.floor(place).astype(np.int64)
        part = place - cell
        shared = np.bincount(cell % GRID, chances * (1.0 - part), GRID)
        shared += np.bincount((cell + 1) % GRID, chances * part, GRID)
        transform *= rfft(shared)
    return irfft(transform, GRID)
