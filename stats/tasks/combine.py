"""Many tasks, one decision.

Damage is sometimes spread over all tasks and sometimes sits in one. The pooled test sees the first, the
largest standardised drop the second, Fisher's combination what lies between. The smallest of the three is
calibrated under the null of all three at once: one sum per task is drawn from its exact distribution and
the three tests are recomputed for every draw (Westfall & Young 1993). Where the union bound (at most three
times the smallest) is already below what the draws resolve, that bound is reported: valid, at most a factor
of three too large, and free of simulation.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from stats.arrays import SMALLEST_P, Floats
from stats.distributions.nulls import DRAWS, NullTable
from stats.distributions.splits import RunSplits, join_splits
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks
from stats.signflip import Method, SignFlipTest
from stats.tasks.combinations import COMBINATIONS, SMALLEST_OF, STATISTICS, Combine, smallest
from stats.tasks.fisher import FisherSum, chi_square_p, term_of
from stats.tasks.rows import RESOLUTION, StatisticRows


@dataclass(frozen=True)
class Combined:
    """The p-values of one variant over all its tasks."""

    pooled: SignFlipTest  # sign-flip test on all items together
    p: Mapping[Combine, float]  # of every combination, by name
    p_fisher_chi2: float  # of Fisher's sum under χ² with 2T degrees of freedom, conservative
    method: Method  # "monte-carlo" where a distribution had to be simulated


def combine_scores(tasks: Sequence[TaskScores], draws: int = DRAWS, seed: int = 0) -> Combined:
    """Test all tasks of one variant together.

    Items with unequal numbers of runs can be random in two ways: the two models are exchangeable (signs
    flip), or the runs are (they are split at random). The first is off where a mean over few runs meets one
    over many, the second where a variant differs on single items in both directions without being worse. Of
    each p-value the larger of the two counts. The same seed gives the same p-values.
    """
    flipped = _combined(tasks, draws, seed, split=False)
    if all(task.splits is None for task in tasks):
        return flipped
    split = _combined(tasks, draws, seed, split=True)
    pooled = max(flipped.pooled, split.pooled, key=lambda test: test.log_p)
    p = {name: max(flipped.p[name], split.p[name]) for name in flipped.p} | {"pooled": pooled.p}
    p["any"] = smallest(p)
    p["joint"] = max(p["joint"], p["any"])
    exact = (flipped.method, split.method) == ("exact", "exact")
    chi_square = max(flipped.p_fisher_chi2, split.p_fisher_chi2)
    return Combined(pooled, p, chi_square, "exact" if exact else "monte-carlo")


def _combined(tasks: Sequence[TaskScores], draws: int, seed: int, *, split: bool) -> Combined:
    """The combination under one null; where tasks share blocks, under common signs."""
    splits = [task.splits if split else None for task in tasks]
    if not links_tasks(tasks):
        sums = [task.even_sums if split else task.block_sums for task in tasks]
        return combine_tasks(sums, draws, seed, splits)
    pooled = SignFlipTest(merged_blocks(tasks, split=split)[0], draws, seed, join_splits(splits))
    rows = StatisticRows([[task] for task in tasks], draws, seed, split=split)
    p = {name: float(rows.p_values(name)[0, 0]) for name in STATISTICS} | {"pooled": pooled.p}
    least = smallest(p)
    bound = len(SMALLEST_OF) * least
    resolved = rows.exact or bound * rows.rows > RESOLUTION
    p |= {"joint": max(float(rows.p_values("joint")[0, 0]), least) if resolved else bound, "any": least}
    return Combined(pooled, p, p["fisher"], pooled.method if rows.exact else "monte-carlo")


def combine_tasks(
    sums: Sequence[Floats],
    draws: int = DRAWS,
    seed: int = 0,
    splits: Sequence[RunSplits | None] | None = None,
) -> Combined:
    """Test all tasks of one variant together, tasks that share nothing, under one null.

    Where at most one task differs, all p-values are the pooled one.

    Args:
        sums: per task the differences (baseline − variant) of its items or clusters, shape (G_t,) each.
        draws: of the joint null, and of distributions that have to be simulated.
        seed: of those draws; the same input gives the same p-values.
        splits: per task its items whose runs are split; None where signs are all that is random.
    """
    split = list(splits or [None] * len(sums))
    pooled = SignFlipTest(np.concatenate(list(sums)), draws, seed, join_splits(split))
    moving = [
        task for task, part in enumerate(split) if sums[task].any() or (part is not None and part.variance)
    ]
    if len(moving) <= 1:
        alike = {combination.name: pooled.p for combination in COMBINATIONS}
        return Combined(pooled, alike, chi_square_p(-pooled.log_p, len(sums)), pooled.method)
    tables = [NullTable(sums[task], draws, [seed, task], splits=split[task]) for task in moving]
    fisher = FisherSum([term_of(table.tails, table.chances) for table in tables])
    fisher_sum = -float(np.log([table.p for table in tables]).sum())
    drop, drop_tail = max(table.observed / table.scale for table in tables), partial(_max_drop_tail, tables)
    p: dict[Combine, float] = {
        "pooled": pooled.p,
        "max-drop": drop_tail(drop),
        "fisher": fisher.tail(fisher_sum),
    }
    found: dict[Combine, tuple[float, Callable[[float], float]]] = {
        "pooled": (pooled.statistic, lambda value: float(np.exp(pooled.log_tail(value)))),
        "max-drop": (drop, drop_tail),
        "fisher": (fisher_sum, fisher.tail_in_body),
    }
    p |= {"joint": _joint_p_value(tables, found, p, draws, seed), "any": smallest(p)}
    exact = pooled.method == "exact" and all(table.exact for table in tables)
    return Combined(pooled, p, chi_square_p(fisher_sum, len(sums)), "exact" if exact else "monte-carlo")


def _max_drop_tail(tables: Sequence[NullTable], largest: float) -> float:
    """P(max_t Z_t ≥ largest) = 1 − Π_t P(Z_t < largest), with Z_t = S_t/√Σd²."""
    with np.errstate(divide="ignore"):
        below = [np.log1p(-min(1.0, table.tail(largest * table.scale))) for table in tables]
    return max(float(-np.expm1(sum(map(float, below)))), SMALLEST_P)


def _joint_p_value(
    tables: Sequence[NullTable],
    found: Mapping[Combine, tuple[float, Callable[[float], float]]],
    p_values: Mapping[Combine, float],
    draws: int,
    seed: int,
) -> float:
    """P(the smallest of the p-values of pooled, max-drop and Fisher is as small as found).

    (r + 1)/(B + 1), at least the smallest of the three; or the union bound where that is tiny. Of each test
    there is the statistic found, and the p-value of any other.
    """
    least = smallest(p_values)
    bound = len(SMALLEST_OF) * least
    if bound * (draws + 1) <= RESOLUTION:
        return bound
    rng = np.random.default_rng(seed)
    drawn = {name: np.full(draws, STATISTICS[name].start) for name in SMALLEST_OF}
    for table in tables:
        places = table.draw(rng, draws)
        log_tails = partial(table.log_tails, places)
        for name, values in drawn.items():
            STATISTICS[name].add(values, table.support[places], table.scale, log_tails)
    hits = np.zeros(draws, dtype=bool)
    for name, (observed, tail) in found.items():
        limit = observed if p_values[name] == least else _critical(drawn[name], tail, least)
        if np.isfinite(limit):
            hits |= drawn[name] >= limit - 1e-9 * max(1.0, abs(limit))
    return max((int(hits.sum()) + 1) / (draws + 1), least)


def _critical(drawn: Floats, tail: Callable[[float], float], least: float) -> float:
    """The smallest drawn value whose p-value is at most `least`; infinite if none."""
    ordered, enough = np.sort(drawn), least * (1.0 + 1e-9)
    first = bisect_left(ordered, True, key=lambda value: tail(float(value)) <= enough)
    return float(ordered[first]) if first < ordered.size else np.inf
