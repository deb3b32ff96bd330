"""McNemar's test: the sign-flip test for right-or-wrong answers, one run each.

Only the flips count: b items the baseline has right and the variant wrong, c the other way round. We use
the exact binomial tail, never the chi-square: on HellaSwag a chi-square p of .049 was an exact one of .054.
"""

from dataclasses import dataclass

import numpy as np

from stats.arrays import SMALLEST_P
from stats.law import SignFlipLaw


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
