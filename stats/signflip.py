"""The exact sign-flip test: is the variant worse than its baseline on paired items?

If the variant is not worse, swapping the two models' scores within an item changes nothing, so the sum of
the differences behaves like S = Σ εᵢdᵢ with independent fair signs. On whole numbers the law of S needs no
simulation (`stats.distributions.sums`), nor does it for up to 32 blocks of any size
(`stats.distributions.signs`). Many scores that fit no small lattice are simulated, and the result says so.

McNemar's test: the sign-flip test for right-or-wrong answers, one run each.

Only the flips count: b items the baseline has right and the variant wrong, c the other way round. We use
the exact binomial tail, never the chi-square: on HellaSwag a chi-square p of .049 was an exact one of .054.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import SMALLEST_P, Floats, as_scores, block_sums
from stats.distributions.lattice import to_lattice
from stats.distributions.nulls import drawn_sums
from stats.distributions.signs import DRAWS, EnumeratedLaw, monte_carlo_tail
from stats.distributions.splits import RunSplits
from stats.distributions.sums import MAX_WORK, SignFlipLaw, mixed_law

Method: TypeAlias = Literal["exact", "monte-carlo"]


class SignFlipNull:
    """The null distribution of Σ εᵢdᵢ: exact on a lattice or for few blocks, otherwise simulated.

    Items with unequal numbers of runs add a random split of their runs instead of a random sign.

    Attributes:
        observed: Σ dᵢ.
        method: "exact" or "monte-carlo".
        blocks: how many signs and splits there are, those of zero differences included.
        smallest_p: p if all differences pointed the same way, at least 1e-300.
    """

    def __init__(
        self, sums: Floats, draws: int = DRAWS, seed: int = 0, splits: RunSplits | None = None
    ) -> None:
        self.blocks = sums.size
        smallest = float(np.exp2(-float(np.count_nonzero(sums))))
        if splits is None:
            self.observed, log_tail = _exact_tail(sums)
        else:
            self.blocks += splits.items
            self.observed, log_tail = float(sums.sum()) + splits.observed, _mixed_tail(sums, splits)
            smallest *= float(np.exp(splits.log_largest))
        self.smallest_p = max(smallest, SMALLEST_P)
        self.method: Method = "exact"
        if log_tail is None:
            self.method = "monte-carlo"
            self.smallest_p = max(self.smallest_p, 1.0 / (draws + 1))
            self._drawn = drawn_sums(sums, splits, draws, [seed])
        self._log_tail = log_tail or self._simulated_log_tail

    def log_tail(self, value: float) -> float:
        """Natural logarithm of P(S ≥ value), ties counted."""
        return self._log_tail(value)

    def _simulated_log_tail(self, value: float) -> float:
        return float(np.log(monte_carlo_tail(self._drawn, value).p))

    def standard_error(self) -> float:
        """Of the p-value at the observed sum; 0 where it is exact."""
        return 0.0 if self.method == "exact" else monte_carlo_tail(self._drawn, self.observed).standard_error

    def result(self) -> "SignFlipResult":
        """The test of the observed sum."""
        log_p = self.log_tail(self.observed)
        p = max(float(np.exp(log_p)), SMALLEST_P)
        return SignFlipResult(
            p, log_p, self.observed, self.method, self.standard_error(), self.blocks, self.smallest_p
        )


def _exact_tail(sums: Floats) -> tuple[float, Callable[[float], float] | None]:
    """The observed sum, and ln P(S ≥ ·) where it can be had without simulation."""
    lattice = to_lattice(sums)
    if lattice is not None:
        law, step = SignFlipLaw.of(lattice.integers), lattice.step
        if law.feasible:
            return lattice.observed, lambda value: law.log_tail(int(np.ceil(value / step - 1e-6)))
    few = EnumeratedLaw.of(sums)
    return float(sums.sum()), None if few is None else few.log_tail


def _mixed_tail(sums: Floats, splits: RunSplits) -> Callable[[float], float] | None:
    """The same with splits, where a lattice is found."""
    mixed = mixed_law(sums, splits)
    return mixed.log_tail if mixed is not None and mixed.law.work <= MAX_WORK else None


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
    return SignFlipNull(block_sums(as_scores(differences, "differences"), clusters), draws, seed).result()


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
    law = SignFlipLaw(np.array([1]), np.array([worse + better]))
    net = worse - better
    log_p = law.log_tail(net)
    tail, beyond = np.exp(log_p), np.exp(law.log_tail(net + 2))
    mid = float(tail + beyond) / 2
    two = min(1.0, 2 * float(min(tail, 1.0 - beyond)))
    two_mid = min(1.0, 2 * min(mid, 1.0 - mid))
    return McNemarResult(_floor(float(tail)), log_p, _floor(mid), _floor(two), _floor(two_mid))


def _floor(p: float) -> float:
    return max(p, SMALLEST_P)
