"""The exact sign-flip test: is the variant worse than its baseline on paired items?

If the variant is not worse, swapping the two models' scores within an item changes nothing, so the sum of
the differences behaves like S = Σ εᵢdᵢ with independent fair signs. On whole numbers its distribution needs
no simulation (`stats.distributions.sums`), nor does it for up to 32 blocks of any size
(`stats.distributions.signs`). Many scores that fit no small lattice are simulated, and the result says so.

For right-or-wrong answers of one run each it is McNemar's test. Only the flips count: b items the baseline
has right and the variant wrong, c the other way round. We use the exact binomial tail, never the chi-square:
on HellaSwag a chi-square p of .049 was an exact one of .054.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import SMALLEST_P, Floats, as_scores, block_sums
from stats.distributions.nulls import drawn_sums
from stats.distributions.signs import DRAWS, few_signs_log_tail, monte_carlo_p
from stats.distributions.splits import RunSplits
from stats.distributions.sums import LatticeSum, lattice_sum

Method: TypeAlias = Literal["exact", "monte-carlo"]


@dataclass(frozen=True)
class SignFlipResult:
    """One-sided sign-flip test of "the variant is not worse".

    Attributes:
        p: P(S ≥ observed) under the null, at least 1e-300.
        log_p: natural logarithm of the same, without that floor.
        statistic: observed sum of baseline − variant, in units of the scores.
        method: "exact" or "monte-carlo".
        standard_error: of p when simulated, 0 when exact.
        blocks: items or clusters whose sign was flipped, those without a difference included.
        smallest_p: what p would be, had every difference pointed the same way.
    """

    p: float
    log_p: float
    statistic: float
    method: Method
    standard_error: float
    blocks: int
    smallest_p: float


class SignFlipNull:
    """The null distribution of Σ εᵢdᵢ: exact on a lattice or for few blocks, otherwise simulated.

    Items with unequal numbers of runs add a random split of their runs instead of a random sign.

    Attributes:
        observed: Σ dᵢ.
        log_tail: natural logarithm of P(S ≥ ·), ties counted.
        result: the test of the observed sum.
    """

    def __init__(
        self, sums: Floats, draws: int = DRAWS, seed: int = 0, splits: RunSplits | None = None
    ) -> None:
        self.observed = float(sums.sum())
        blocks, smallest = sums.size, float(np.exp2(-float(np.count_nonzero(sums))))
        if splits is not None:
            self.observed += splits.observed
            blocks += splits.items
            smallest *= float(np.exp(splits.log_largest))
        self.log_tail: Callable[[float], float]
        method: Method = "exact"
        error = 0.0
        if (exact := lattice_sum(sums, splits)) is not None and exact[0].feasible:
            distribution, step, self.observed = exact
            self.log_tail = lambda value: distribution.log_tail(int(np.ceil(value / step - 1e-6)))
        elif splits is None and (few := few_signs_log_tail(sums)) is not None:
            self.log_tail = few
        else:
            drawn = drawn_sums(sums, splits, draws, [seed])
            self.log_tail = lambda value: float(np.log(monte_carlo_p(drawn, value)))
            p = monte_carlo_p(drawn, self.observed)
            method, error = "monte-carlo", float(np.sqrt(p * (1.0 - p) / (draws + 1)))
            smallest = max(smallest, 1.0 / (draws + 1))
        log_p, smallest = self.log_tail(self.observed), max(smallest, SMALLEST_P)
        p = max(float(np.exp(log_p)), SMALLEST_P)
        self.result = SignFlipResult(p, log_p, self.observed, method, error, blocks, smallest)


def sign_flip_test(
    differences: Floats,
    clusters: NDArray[np.generic] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> SignFlipResult:
    """Test H₀ "swapping the two models changes nothing" against "the variant is worse".

    Args:
        differences: baseline − variant per item (means over reruns), shape (n,); higher is better.
        clusters: one label per item where items share a passage, subject or template; their differences
            are added and flipped as one block.
        draws: sign vectors to draw where there is neither a small lattice nor few blocks.
        seed: of those draws.

    Returns:
        The p-value with the method it was found by.

    Raises:
        EvidenceError: if there are no differences, or some are not finite.
    """
    return SignFlipNull(block_sums(as_scores(differences, "differences"), clusters), draws, seed).result


@dataclass(frozen=True)
class McNemarResult:
    """Exact McNemar test of b against c flips.

    Attributes:
        p: one-sided, P[Bin(b + c, ½) ≥ b]; 1 where nothing flipped.
        log_p: its natural logarithm, without a floor.
        p_mid: one-sided mid-p (half of the probability of the observed count left out).
        p_two_sided: twice the smaller tail, at most 1.
        p_two_sided_mid: twice the smaller mid-p tail, at most 1.
    """

    p: float
    log_p: float
    p_mid: float
    p_two_sided: float
    p_two_sided_mid: float


def mcnemar_test(worse: int, better: int) -> McNemarResult:
    """Test "as many flips to wrong as to right" against "more to wrong".

    Args:
        worse: b, items with baseline right and variant wrong.
        better: c, items with baseline wrong and variant right.

    Returns:
        The exact p-values (Fay 2010 for the two-sided ones).

    Raises:
        ValueError: if a count is negative.
    """
    if worse < 0 or better < 0:
        raise ValueError(f"Counts of flips must not be negative, but are {worse} and {better}.")
    if worse + better == 0:
        return McNemarResult(1.0, 0.0, 1.0, 1.0, 1.0)
    distribution = LatticeSum(np.array([1]), np.array([worse + better]))
    net = worse - better
    log_p = distribution.log_tail(net)
    tail, beyond = float(np.exp(log_p)), float(np.exp(distribution.log_tail(net + 2)))
    mid = (tail + beyond) / 2
    two, two_mid = min(1.0, 2 * min(tail, 1.0 - beyond)), min(1.0, 2 * min(mid, 1.0 - mid))
    p, mid, two, two_mid = (max(value, SMALLEST_P) for value in (tail, mid, two, two_mid))
    return McNemarResult(p, log_p, mid, two, two_mid)
