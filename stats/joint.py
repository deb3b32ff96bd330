"""The joint decision: the smallest of three p-values, calibrated under the null of all three at once.

One sum per task is drawn from its exact law and the three tests are recomputed for every draw (Westfall &
Young 1993). Counting draws cannot resolve a p-value of 1e-15, so where the union bound (at most three times
the smallest) is already below what the draws resolve, that bound is reported: valid, at most a factor of
three too large, and free of simulation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stats.arrays import Bools, Floats
from stats.fisher import SumLaw
from stats.nulls import NullTable, max_drop_p
from stats.signflip import SignFlipNull

RESOLUTION = 20
"""Joint p-values worth fewer draws than this are bounded instead of counted."""


@dataclass(frozen=True)
class JointNull:
    """The common null distribution of the pooled sum, the largest standardised drop and Fisher's sum.

    Attributes:
        pooled: null of the pooled sum.
        tables: null laws of the tasks in which anything differs, at least two.
        fisher: null law of Fisher's sum.
    """

    pooled: SignFlipNull
    tables: list[NullTable]
    fisher: SumLaw

    def p_value(
        self,
        p_values: tuple[float, float, float],
        observed: tuple[float, float, float],
        draws: int,
        seed: int,
    ) -> float:
        """P(the smallest of the three is as small as found).

        Args:
            p_values: of pooled, max-drop and Fisher.
            observed: their statistics.
            draws: how many draws.
            seed: of numpy's default generator.

        Returns:
            (r + 1)/(B + 1), at least the smallest of the three; or the union bound where that is tiny.
        """
        smallest = min(p_values)
        bound = 3.0 * smallest
        if bound * (draws + 1) <= RESOLUTION:
            return bound
        drawn = self._draw(draws, seed)
        tails = (self._pooled_tail, self._max_drop_tail, self.fisher.tail_in_body)
        hits = np.zeros(draws, dtype=bool)
        for values, tail, p, found in zip(drawn, tails, p_values, observed, strict=True):
            hits |= _as_small(values, tail, smallest, found if p == smallest else None)
        return max((int(hits.sum()) + 1) / (draws + 1), smallest)

    def _draw(self, draws: int, seed: int) -> tuple[Floats, Floats, Floats]:
        """Draw the three statistics, shape (draws,) each."""
        rng = np.random.default_rng(seed)
        sums, largest, total = np.zeros(draws), np.full(draws, -np.inf), np.zeros(draws)
        for table in self.tables:
            places = table.draw(rng, draws)
            drawn = table.support[places]
            sums += drawn
            np.maximum(largest, drawn / table.scale, out=largest)
            total -= np.log(table.tails)[places]
        return sums, largest, total

    def _pooled_tail(self, value: float) -> float:
        return float(np.exp(self.pooled.log_tail(value)))

    def _max_drop_tail(self, value: float) -> float:
        return max_drop_p(self.tables, value)


def _as_small(drawn: Floats, tail: Callable[[float], float], smallest: float, found: float | None) -> Bools:
    """Which draws have a p-value of at most `smallest`; `tail` falls as the statistic rises."""
    limit = found if found is not None else _critical(np.sort(drawn), tail, smallest)
    hits: Bools = (
        drawn >= limit - 1e-9 * max(1.0, abs(limit)) if np.isfinite(limit) else np.zeros(drawn.shape, bool)
    )
    return hits


def _critical(ordered: Floats, tail: Callable[[float], float], smallest: float) -> float:
    """The smallest drawn value whose p-value is at most `smallest`, by bisection; infinite if none."""
    low, high = 0, ordered.size
    while low < high:
        middle = (low + high) // 2
        if tail(float(ordered[middle])) <= smallest * (1.0 + 1e-9):
            high = middle
        else:
            low = middle + 1
    return float(ordered[low]) if low < ordered.size else np.inf
