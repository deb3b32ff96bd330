"""Many tasks, one decision.

Damage is sometimes spread over all tasks and sometimes sits in one. The pooled test sees the first, the
largest standardised drop the second, Fisher's combination what lies between. Taking any of the three that
rejects (the rule of Kübler et al. 2026) has up to three times the level; we take the smallest of the three
and calibrate it under the null in which the tasks' sums are drawn from their exact laws (Westfall & Young
1993), which keeps the level and loses little of the power.

The joint decision: the smallest of three p-values, calibrated under the null of all three at once.

One sum per task is drawn from its exact law and the three tests are recomputed for every draw (Westfall &
Young 1993). Counting draws cannot resolve a p-value of 1e-15, so where the union bound (at most three times
the smallest) is already below what the draws resolve, that bound is reported: valid, at most a factor of
three too large, and free of simulation.

The null laws of tasks that share nothing, from which every combination over tasks takes its p-value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from stats.arrays import SMALLEST_P, Bools, Floats
from stats.distributions.nulls import NullTable, null_table
from stats.distributions.signs import DRAWS
from stats.distributions.splits import RunSplits, join_splits
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks
from stats.signflip import Method, SignFlipNull, SignFlipResult
from stats.tasks.combinations import COMBINATIONS, SMALLEST_OF, STATISTICS, Combine, smallest
from stats.tasks.fisher import SumLaw, chi_square_p, term_of
from stats.tasks.rows import statistic_rows


@dataclass(frozen=True)
class TaskLaws:
    """The laws of the sums of independent tasks, with the statistics found.

    Attributes:
        pooled: null of the sum over all tasks.
        p_pooled: P(that sum ≥ the one found).
        tables: null laws of the tasks in which anything differs, at least two.
    """

    pooled: SignFlipNull
    p_pooled: float
    tables: list[NullTable]

    @cached_property
    def fisher(self) -> SumLaw:
        """Null law of Fisher's sum."""
        return SumLaw([term_of(table.tails, table.chances) for table in self.tables])

    def max_drop_p(self, largest: float) -> float:
        """P(max_t Z_t ≥ largest) = 1 − Π_t P(Z_t < largest), with Z_t = S_t/√Σd²."""
        with np.errstate(divide="ignore"):
            below = sum(
                float(np.log1p(-min(1.0, table.tail(largest * table.scale)))) for table in self.tables
            )
        return max(float(-np.expm1(below)), SMALLEST_P)

    @cached_property
    def largest_drop(self) -> float:
        """The largest standardised drop max_t S_t/√Σd² found."""
        return max(table.observed / table.scale for table in self.tables)

    @cached_property
    def fisher_sum(self) -> float:
        """Fisher's sum Σ −ln p_t found."""
        return -float(np.log([table.p for table in self.tables]).sum())


@dataclass(frozen=True)
class Combined:
    """The p-values of one variant over all its tasks.

    Attributes:
        pooled: sign-flip test on all items together.
        p: of every combination, by name.
        p_fisher_chi2: of Fisher's sum under χ² with 2T degrees of freedom, conservative.
        method: "monte-carlo" where a law had to be simulated.
    """

    pooled: SignFlipResult
    p: Mapping[Combine, float]
    p_fisher_chi2: float
    method: Method


def combine_scores(tasks: Sequence[TaskScores], draws: int = DRAWS, seed: int = 0) -> Combined:
    """Test all tasks of one variant together.

    Items with unequal numbers of runs can be random in two ways: the two models are exchangeable (signs
    flip), or the runs are (they are split at random). The first is off where a mean over few runs meets one
    over many, the second where a variant differs on single items in both directions without being worse. Of
    each p-value the larger of the two counts.

    Args:
        tasks: the paired scores of every task.
        draws: draws of the joint null, and of laws that have to be simulated.
        seed: of those draws; the same input gives the same p-values.
    """
    flipped = _combined(tasks, draws, seed, split=False)
    if all(task.splits is None for task in tasks):
        return flipped
    return _larger(flipped, _combined(tasks, draws, seed, split=True))


def _combined(tasks: Sequence[TaskScores], draws: int, seed: int, *, split: bool) -> Combined:
    """The combination under one null; where tasks share blocks, under common signs."""
    splits = [task.splits if split else None for task in tasks]
    if not links_tasks(tasks):
        sums = [task.even_sums if split else task.block_sums for task in tasks]
        return combine_tasks(sums, draws, seed, splits)
    merged, _ = merged_blocks(tasks, split=split)
    pooled = SignFlipNull(merged, draws, seed, join_splits([part for part in splits if part is not None]))
    result = pooled.result()
    rows = statistic_rows([[task] for task in tasks], draws, seed, split=split)
    p = {name: float(rows.p_values(name)[0, 0]) for name in STATISTICS} | {"pooled": result.p}
    least = smallest(p)
    bound = len(SMALLEST_OF) * least
    resolved = rows.exact or bound * rows.rows > RESOLUTION
    p["joint"] = max(float(rows.p_values("joint")[0, 0]), least) if resolved else bound
    p["any"] = least
    return Combined(result, p, p["fisher"], result.method if rows.exact else "monte-carlo")


def _larger(first: Combined, second: Combined) -> Combined:
    """Of every p-value the larger one."""
    pooled = max(first.pooled, second.pooled, key=lambda result: result.log_p)
    p = {name: max(first.p[name], second.p[name]) for name in first.p} | {"pooled": pooled.p}
    p["any"] = smallest(p)
    p["joint"] = max(p["joint"], p["any"])
    simulated = "monte-carlo" in (first.method, second.method)
    return Combined(
        pooled,
        p,
        max(first.p_fisher_chi2, second.p_fisher_chi2),
        "monte-carlo" if simulated else "exact",
    )


def combine_tasks(
    sums: Sequence[Floats],
    draws: int = DRAWS,
    seed: int = 0,
    splits: Sequence[RunSplits | None] | None = None,
) -> Combined:
    """Test all tasks of one variant together, tasks that share nothing, under one null.

    Args:
        sums: per task the differences (baseline − variant) of its items or clusters, shape (G_t,) each.
        draws: draws of the joint null, and of laws that have to be simulated.
        seed: of those draws; the same input gives the same p-values.
        splits: per task its items whose runs are split; None where signs are all that is random.

    Returns:
        Every combination, each with its own p-value; where at most one task differs, all are the pooled one.
    """
    split = list(splits or [None] * len(sums))
    whole = join_splits([part for part in split if part is not None])
    pooled = SignFlipNull(np.concatenate(list(sums)), draws, seed, whole)
    result = pooled.result()
    moving = [
        task for task, part in enumerate(split) if sums[task].any() or (part is not None and part.variance)
    ]
    if len(moving) <= 1:
        alike = {combination.name: result.p for combination in COMBINATIONS}
        return Combined(result, alike, chi_square_p(-result.log_p, len(sums)), result.method)
    tables = [null_table(sums[task], draws, [seed, task], splits=split[task]) for task in moving]
    simulated = result.method == "monte-carlo" or not all(table.exact for table in tables)
    laws = TaskLaws(pooled, result.p, tables)
    p = {name: statistic.p_value(laws) for name, statistic in STATISTICS.items()}
    p["joint"] = joint_p_value(laws, p, draws, seed)
    p["any"] = smallest(p)
    return Combined(
        result, p, chi_square_p(laws.fisher_sum, len(sums)), "monte-carlo" if simulated else "exact"
    )


RESOLUTION = 20
"""Joint p-values worth fewer draws than this are bounded instead of counted."""


def joint_p_value(laws: TaskLaws, p_values: Mapping[Combine, float], draws: int, seed: int) -> float:
    """P(the smallest of the p-values of pooled, max-drop and Fisher is as small as found).

    Args:
        laws: of the tasks.
        p_values: of the three statistics.
        draws: how many draws.
        seed: of numpy's default generator.

    Returns:
        (r + 1)/(B + 1), at least the smallest of the three; or the union bound where that is tiny.
    """
    least = smallest(p_values)
    bound = len(SMALLEST_OF) * least
    if bound * (draws + 1) <= RESOLUTION:
        return bound
    tails: dict[Combine, tuple[float, Callable[[float], float]]] = {
        "pooled": (laws.pooled.observed, lambda value: float(np.exp(laws.pooled.log_tail(value)))),
        "max-drop": (laws.largest_drop, laws.max_drop_p),
        "fisher": (laws.fisher_sum, laws.fisher.tail_in_body),
    }
    drawn = _draw(laws.tables, draws, seed)
    hits = np.zeros(draws, dtype=bool)
    for name, (found, tail) in tails.items():
        hits |= _as_small(drawn[name], tail, least, found if p_values[name] == least else None)
    return max((int(hits.sum()) + 1) / (draws + 1), least)


def _draw(tables: Sequence[NullTable], draws: int, seed: int) -> dict[Combine, Floats]:
    """Draw the three statistics, shape (draws,) each."""
    rng = np.random.default_rng(seed)
    drawn = {name: np.full(draws, STATISTICS[name].start) for name in SMALLEST_OF}
    for table in tables:
        places = table.draw(rng, draws)
        log_tails = partial(table.log_tails, places)
        for name, values in drawn.items():
            STATISTICS[name].add(values, table.support[places], table.scale, log_tails)
    return drawn


def _as_small(drawn: Floats, tail: Callable[[float], float], least: float, found: float | None) -> Bools:
    """Which draws have a p-value of at most `least`; `tail` falls as the statistic rises."""
    limit = found if found is not None else _critical(np.sort(drawn), tail, least)
    hits: Bools = (
        drawn >= limit - 1e-9 * max(1.0, abs(limit)) if np.isfinite(limit) else np.zeros(drawn.shape, bool)
    )
    return hits


def _critical(ordered: Floats, tail: Callable[[float], float], least: float) -> float:
    """The smallest drawn value whose p-value is at most `least`, by bisection; infinite if none."""
    low, high = 0, ordered.size
    while low < high:
        middle = (low + high) // 2
        if tail(float(ordered[middle])) <= least * (1.0 + 1e-9):
            high = middle
        else:
            low = middle + 1
    return float(ordered[low]) if low < ordered.size else np.inf
