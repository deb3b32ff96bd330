"""The null distribution of one task's sum, as a table: what the combinations over tasks are made of.

Exact where the scores fit a small lattice or there are few blocks; otherwise the empirical distribution of
simulated sums with the observed one among them, so that every p-value read from it is a valid
(r + 1)/(B + 1).
"""

import numpy as np

from stats.arrays import SMALLEST_P, Floats, Ints
from stats.distributions.signs import MAX_ENUMERATED, TIE_TOLERANCE, all_signed_sums, monte_carlo_sums
from stats.distributions.splits import RunSplits
from stats.distributions.sums import MAX_TABLE_WORK, TABLE_FLOOR, lattice_sum

SPLIT_STREAM = 1 << 20
"""Added to a seed for the draws of splits, so that they are none of the signs'."""


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
