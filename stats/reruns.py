"""What one model does when it is run again: the noise floor of every comparison.

Two runs of the same model under the same settings disagree on some items. Their flip rate, estimated from all
pairs of R runs, is what a lossless variant would show; only what goes beyond it is the variant's doing.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from stats.arrays import Bools, EvidenceError, Floats
from stats.flips import Churn, churn
from stats.intervals import t_interval
from stats.variance import run_variance


@dataclass(frozen=True)
class Estimate:
    """A number with its two-sided interval.

    Attributes:
        value: the estimate.
        low: lower limit.
        high: upper limit.
    """

    value: float
    low: float
    high: float


def item_flip_rates(right: ArrayLike) -> Floats:
    """Chance, per item, that two of its runs disagree: 2k(R − k)/(R(R − 1)) for k successes in R runs.

    Args:
        right: whether the answer is right, shape (n, R) with R ≥ 2.

    Returns:
        Unbiased for 2π(1 − π) whatever R, so that numbers from few and from many runs compare; shape (n,).

    Raises:
        EvidenceError: if there are no items or fewer than two runs.
    """
    answers: Bools = np.asarray(right, dtype=bool)
    if answers.ndim != 2 or answers.shape[0] == 0 or answers.shape[1] < 2:
        raise EvidenceError(
            f"A flip rate of reruns needs items and at least two runs, but the shape is {answers.shape}."
        )
    runs = answers.shape[1]
    successes = answers.sum(axis=1)
    rates: Floats = 2.0 * successes * (runs - successes) / (runs * (runs - 1))
    return rates


def mean_share(values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean of one share per item, with Student's interval over items cut to [0, 1].

    Args:
        values: shape (n,), each in [0, 1].
        alpha: 1 − confidence.
    """
    interval = t_interval(values, alpha=alpha)
    return Estimate(float(values.mean()), max(interval.low, 0.0), min(interval.high, 1.0))


def rerun_churn(answers: NDArray[np.generic], right: Bools) -> Churn:
    """Changed answers over all pairs of runs of one model.

    Args:
        answers: the answers, or a number for each distinct one, shape (n, R) with R ≥ 2.
        right: whether they are right, shape (n, R).

    Returns:
        Counts over all pairs of runs; its `items` are items × pairs.
    """
    scores = right.astype(np.float64)
    pairs = combinations(range(scores.shape[1]), 2)
    return total_churn([churn(answers[:, i], answers[:, j], scores[:, i], scores[:, j]) for i, j in pairs])


def total_churn(parts: list[Churn]) -> Churn:
    """Counts of several comparisons added up."""
    return Churn(
        changed=sum(part.changed for part in parts),
        changed_same_score=sum(part.changed_same_score for part in parts),
        wrong_to_different_wrong=sum(part.wrong_to_different_wrong for part in parts),
        items=sum(part.items for part in parts),
    )


@dataclass(frozen=True)
class VarianceSplit:
    """Variance of one model's scores by source, each with an interval.

    Attributes:
        item: between items.
        temperature: between temperatures of one item; zero where there is only one.
        seed: between seeds of one item at one temperature.
    """

    item: Estimate
    temperature: Estimate
    seed: Estimate


def variance_split(scores: Floats, alpha: float = 0.05) -> VarianceSplit:
    """`run_variance` with jackknife intervals over items, which are what was drawn at random.

    Args:
        scores: shape (n items, temperatures, seeds), at least three items and two seeds.
        alpha: 1 − confidence.

    Returns:
        Student's intervals of the jackknife's pseudo-values (Tukey 1958), cut at 0.

    Raises:
        EvidenceError: if there are too few items or seeds.
    """
    count = scores.shape[0]
    if count < 3:
        raise EvidenceError("Intervals of variances need at least three items.")
    found = run_variance(scores)
    whole, without = _components(scores)
    pseudo = count * whole - (count - 1) * without
    spread = stdtrit(count - 1, 1.0 - alpha / 2) * pseudo.std(axis=1, ddof=1) / np.sqrt(count)
    low, high = (np.maximum(whole[:, 0] + sign * spread, 0.0).tolist() for sign in (-1, 1))
    temperature = (
        Estimate(found.temperature, low[1], high[1]) if scores.shape[1] > 1 else Estimate(0.0, 0.0, 0.0)
    )
    return VarianceSplit(
        Estimate(found.item, low[0], high[0]), temperature, Estimate(found.seed, low[2], high[2])
    )


def _components(scores: Floats) -> tuple[Floats, Floats]:
    """The three components uncut, shape (3, 1), and again without each item in turn, shape (3, n)."""
    count, temperatures, seeds = scores.shape
    cells = scores.mean(axis=2)
    noise = scores.var(axis=2, ddof=1).mean(axis=1)
    spread = cells.var(axis=1, ddof=1) if temperatures > 1 else noise / seeds
    means = cells.mean(axis=1)
    between = float(means.var(ddof=1))
    fewer = ((count - 1) * between - count / (count - 1) * (means - means.mean()) ** 2) / (count - 2)

    def split(item: Floats, cell: Floats, seed: Floats) -> Floats:
        return np.stack([item - cell / temperatures, cell - seed / seeds, seed])

    whole = split(np.array([between]), spread.mean(keepdims=True), noise.mean(keepdims=True))
    return whole, split(fewer, _leave_one_out(spread), _leave_one_out(noise))


def _leave_one_out(values: Floats) -> Floats:
    means: Floats = (values.sum() - values) / (values.size - 1)
    return means
