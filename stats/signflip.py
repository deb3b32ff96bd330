"""The exact sign-flip test: is the variant worse than its baseline on paired items?

If the variant is not worse, swapping the two models' scores within an item changes nothing, so the sum of
the differences behaves like S = Σ εᵢdᵢ with independent fair signs. For right-or-wrong answers of one run
each it is McNemar's test, with the exact binomial tail: on HellaSwag a chi-square p of .049 was an exact
one of .054.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from stats.arrays import SMALLEST_P, Floats
from stats.distributions.nulls import DRAWS, drawn_sums, few_signs_log_tail, monte_carlo_p
from stats.distributions.splits import RunSplits
from stats.distributions.sums import LatticeSum, lattice_sum

Method: TypeAlias = Literal["exact", "monte-carlo"]


class SignFlipTest:
    """One-sided sign-flip test of "the variant is not worse", and the null distribution of S = Σ εᵢdᵢ.

    Exact on a lattice or for few blocks, otherwise simulated. Items with unequal numbers of runs add a random
    split of their runs instead of a random sign.

    Attributes:
        p: P(S ≥ observed) under the null, at least 1e-300.
        log_p: natural logarithm of the same, without that floor.
        log_tail: natural logarithm of P(S ≥ ·), ties counted.
        statistic: observed sum of baseline − variant, in units of the scores.
        method: "exact" or "monte-carlo".
        standard_error: of p when simulated, 0 when exact.
        blocks: items or clusters whose sign was flipped, those without a difference included.
        smallest_p: what p would be, had every difference pointed the same way.
    """

    def __init__(
        self, sums: Floats, draws: int = DRAWS, seed: int = 0, splits: RunSplits | None = None
    ) -> None:
        self.statistic: float = float(sums.sum())
        self.blocks, smallest = sums.size, float(np.exp2(-float(np.count_nonzero(sums))))
        if splits is not None:
            self.statistic += splits.observed
            self.blocks += splits.successes.size
            smallest *= float(np.exp(splits.log_largest))
        self.log_tail: Callable[[float], float]
        self.method: Method = "exact"
        self.standard_error = 0.0
        if (exact := lattice_sum(sums, splits)) is not None and exact[0].feasible:
            distribution, step, self.statistic = exact
            self.log_tail = lambda value: distribution.log_tail(int(np.ceil(value / step - 1e-6)))
        elif splits is None and (few := few_signs_log_tail(sums)) is not None:
            self.log_tail = few
        else:
            drawn = drawn_sums(sums, splits, draws, [seed])
            self.log_tail = lambda value: float(np.log(monte_carlo_p(drawn, value)))
            p = monte_carlo_p(drawn, self.statistic)
            self.method, self.standard_error = "monte-carlo", float(np.sqrt(p * (1.0 - p) / (draws + 1)))
            smallest = max(smallest, 1.0 / (draws + 1))
        self.log_p: float = self.log_tail(self.statistic)
        self.p: float = max(float(np.exp(self.log_p)), SMALLEST_P)
        self.smallest_p = max(smallest, SMALLEST_P)


def mcnemar_p(worse: int, better: int) -> float:
    """One-sided exact p-value of "as many flips to wrong (b) as to right (c)", P[Bin(b + c, ½) ≥ b].

    Raises ValueError if a count is negative.
    """
    if worse < 0 or better < 0:
        raise ValueError(f"Counts of flips must not be negative, but are {worse} and {better}.")
    distribution = LatticeSum(np.array([1]), np.array([worse + better]))
    return max(float(np.exp(distribution.log_tail(worse - better))), SMALLEST_P)
