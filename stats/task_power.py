"""Power of the combinations over tasks, simulated all at once for tasks with equally many flips.

With m flips in every task the null laws are one binomial table, so that thousands of sweeps are simulated by
looking tails up instead of testing each; `stats.tasks.combine` does the latter for real scores.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from stats.arrays import Floats, Ints

DRAWS = 20_000


@dataclass(frozen=True)
class TaskPower:
    """Share of simulated sweeps in which each test rejects.

    Attributes:
        pooled: all items together.
        max_drop: the largest standardised drop of a task.
        fisher: Fisher's combination.
        joint: the smallest of the three, calibrated.
    """

    pooled: float
    max_drop: float
    fisher: float
    joint: float


def task_power(
    flips: int, shares: Floats, alpha: float = 0.05, draws: int = DRAWS, seed: int = 0
) -> TaskPower:
    """Simulate sweeps over tasks and count rejections.

    Args:
        flips: m, flips in every task.
        shares: share q_t of flips that go from right to wrong, by task, shape (T,).
        alpha: level.
        draws: simulated sweeps, under the null and under the alternative.
        seed: of both.

    Returns:
        Power of the pooled and the max-drop test from their exact laws; of Fisher's and of the joint test
        with critical values from the simulated null. With one task all four are the same test.
    """
    rng = np.random.default_rng(seed)
    null = _log_p_values(rng.binomial(flips, 0.5, (draws, shares.size)), flips)
    found = _log_p_values(rng.binomial(flips, shares, (draws, shares.size)), flips)
    if shares.size == 1:
        same = float((found[0] <= np.log(alpha)).mean())
        return TaskPower(same, same, same, same)
    fisher_null = np.sort(null[2])
    ranks = [_log_rank(fisher_null, values[2]) for values in (null, found)]
    joint_null, joint = (
        np.minimum.reduce([v[0], v[1], rank]) for v, rank in zip((null, found), ranks, strict=True)
    )
    level = float(np.log(alpha)) + 1e-9
    return TaskPower(
        pooled=float((found[0] <= level).mean()),
        max_drop=float((found[1] <= level).mean()),
        fisher=float((ranks[1] <= level).mean()),
        joint=float((_log_rank(np.sort(joint_null), joint) <= level).mean()),
    )


def _log_p_values(worse: Ints, flips: int) -> tuple[Floats, Floats, Floats]:
    """Logarithms: p pooled, ln p max-drop, and Fisher's Σ ln p_t; shape (draws,) each."""
    tasks = worse.shape[1]
    tail = binom.logsf(np.arange(flips + 1) - 1, flips, 0.5)
    pooled: Floats = binom.logsf(worse.sum(axis=1) - 1, flips * tasks, 0.5)
    with np.errstate(divide="ignore"):
        largest = np.log(-np.expm1(tasks * np.log1p(-np.exp(tail[worse.max(axis=1)]))))
    return pooled, largest, tail[worse].sum(axis=1)


def _log_rank(null: Floats, values: Floats) -> Floats:
    """Logarithm of (r + 1)/(B + 1), r the sorted null draws that are as small, rounding apart."""
    rank = np.searchsorted(null, values + 1e-9 * (1.0 + np.abs(values)), side="right")
    ranks: Floats = np.log((rank + 1.0) / (null.size + 1.0))
    return ranks
