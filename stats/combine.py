"""Many tasks, one decision.

Damage is sometimes spread over all tasks and sometimes sits in one. The pooled test sees the first, the
largest standardised drop the second, Fisher's combination what lies between. Taking any of the three that
rejects (the rule of Kübler et al. 2026) has up to three times the level; we take the smallest of the three
and calibrate it under the null in which the tasks' sums are drawn from their exact laws (Westfall & Young
1993), which keeps the level and loses little of the power.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stats.arrays import Floats
from stats.combinations import COMBINATIONS, SMALLEST_OF, STATISTICS, Combine, smallest
from stats.fisher import chi_square_p
from stats.joint import RESOLUTION, joint_p_value
from stats.montecarlo import DRAWS
from stats.nulls import null_table
from stats.rows import statistic_rows
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks
from stats.signflip import Method, SignFlipNull, SignFlipResult
from stats.splits import RunSplits, join_splits
from stats.task_laws import TaskLaws


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
