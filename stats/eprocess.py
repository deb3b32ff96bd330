"""Looking while the runs come in: an e-process on the stream of flips.

The fixed test may be looked at once; peeking every 50 flips gives a nominal .05 a rate of 22.6 % false
alarms. An e-process may be looked at after every flip and acted upon at any time: under the null it ever
reaches 1/α with probability at most α (Ville's inequality). Flips must come in random item order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln

from stats.arrays import Floats

CONCENTRATION = 50.0
"""Parameter a of the Beta(a, a) mixture; 50 suits shares of flips to wrong near .5 to .6."""

SERIES_TERMS = 400


@dataclass(frozen=True)
class EProcess:
    """Evidence against "not worse" after each flip.

    Attributes:
        log_e: natural logarithm of the e-value after each flip, shape (m,).
        threshold: ln(1/α); stop when it is reached.
        stopped_at: number of flips at which it was first reached, None if never.
    """

    log_e: Floats
    threshold: float
    stopped_at: int | None


def log_e_value(
    worse: ArrayLike, better: ArrayLike, concentration: float = CONCENTRATION
) -> NDArray[np.float64]:
    """Ln E = m ln 2 + ln B(b + a, c + a) − ln B(a, a) + ln 2 + ln P[Beta(b + a, c + a) > ½].

    The likelihood ratio of the flips under a share q ~ Beta(a, a) cut to (½, 1], against q = ½.

    Args:
        worse: b so far, any shape.
        better: c so far, the same shape.
        concentration: a.
    """
    first = np.asarray(worse, dtype=np.float64) + concentration
    second = np.asarray(better, dtype=np.float64) + concentration
    flips = first + second - 2.0 * concentration
    prior = betaln(concentration, concentration)
    upper = _log_upper_half(first, second)
    result: Floats = (flips + 1.0) * np.log(2.0) + betaln(first, second) - prior + upper
    return result


def e_process(flips: ArrayLike, alpha: float = 0.05, concentration: float = CONCENTRATION) -> EProcess:
    """Follow the evidence along a stream of flips.

    Args:
        flips: True where the variant went wrong, False where it went right; in random item order, shape (m,).
        alpha: probability of ever stopping if the variant is not worse.
        concentration: a.
    """
    wrong = np.asarray(flips, dtype=bool)
    worse = np.cumsum(wrong)
    log_e = log_e_value(worse, np.arange(1, wrong.size + 1) - worse, concentration)
    threshold = float(-np.log(alpha))
    reached = np.flatnonzero(log_e >= threshold)
    return EProcess(log_e, threshold, int(reached[0]) + 1 if reached.size else None)


def _log_upper_half(first: Floats, second: Floats) -> Floats:
    """Ln P[Beta(first, second) > ½], by a series of positive terms where the probability underflows."""
    chance = np.asarray(betainc(second, first, 0.5))
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(chance)
    if (tiny := chance <= 1e-200).any():
        logs = np.where(tiny, _log_lower_half_series(second, first), logs)
    return logs


def _log_lower_half_series(first: Floats, second: Floats) -> Floats:
    """Ln P[Beta(first, second) < ½] for first ≫ second: 2^−(A+B)/(A·B(A, B))·₂F₁(A + B, 1; A + 1; ½)."""
    total, term = np.ones_like(first), np.ones_like(first)
    for step in range(SERIES_TERMS):
        term = np.where(first > second, term * 0.5 * (first + second + step) / (first + 1.0 + step), 0.0)
        total = total + term
    lead = -(first + second) * np.log(2.0) - np.log(first) - betaln(first, second)
    result: Floats = lead + np.log(total)
    return result
