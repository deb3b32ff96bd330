"""Many tasks, one decision.

Damage is sometimes spread over all tasks and sometimes sits in one. The pooled test sees the first, the
largest standardised drop the second, Fisher's combination what lies between. Taking any of the three that
rejects (the rule of Kübler et al. 2026) has up to three times the level; we take the smallest of the three
and calibrate it under the null in which the tasks' sums are drawn from their exact laws (Westfall & Young
1993), which keeps the level and loses little of the power.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from stats.arrays import Floats
from stats.fisher import SumLaw, chi_square_p, term_of
from stats.joint import RESOLUTION, JointNull
from stats.montecarlo import DRAWS
from stats.nulls import max_drop_p, null_table
from stats.rows import statistic_rows
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks
from stats.signflip import Method, SignFlipNull, SignFlipResult
from stats.splits import RunSplits, join_splits

Combine: TypeAlias = Literal["joint", "pooled", "max-drop", "fisher", "any"]


@dataclass(frozen=True)
class Combination:
    """The p-values of one variant over all its tasks.

    Attributes:
        pooled: sign-flip test on all items together.
        p_max_drop: of the largest standardised drop of a task.
        p_fisher: of Fisher's sum under its exact null law.
        p_fisher_chi2: of the same sum under χ² with 2T degrees of freedom, conservative.
        p_joint: of the smallest of pooled, max-drop and Fisher, calibrated jointly.
        p_any: the smallest of the three as it is; its level is up to three times the nominal one.
        method: "monte-carlo" where a law had to be simulated.
    """

    pooled: SignFlipResult
    p_max_drop: float
    p_fisher: float
    p_fisher_chi2: float
    p_joint: float
    p_any: float
    method: Method

    def p_value(self, combine: Combine) -> float:
        """The p-value that the named combination decides by."""
        return {
            "joint": self.p_joint,
            "pooled": self.pooled.p,
            "max-drop": self.p_max_drop,
            "fisher": self.p_fisher,
            "any": self.p_any,
        }[combine]


def combine_scores(tasks: Sequence[TaskScores], draws: int = DRAWS, seed: int = 0) -> Combination:
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


def _combined(tasks: Sequence[TaskScores], draws: int, seed: int, *, split: bool) -> Combination:
    """The combination under one null; where tasks share blocks, under common signs."""
    splits = [task.splits if split else None for task in tasks]
    if not links_tasks(tasks):
        sums = [task.even_sums if split else task.block_sums for task in tasks]
        return combine_tasks(sums, draws, seed, splits)
    merged, _ = merged_blocks(tasks, split=split)
    pooled = SignFlipNull(merged, draws, seed, join_splits([part for part in splits if part is not None]))
    result = pooled.result()
    rows = statistic_rows([[task] for task in tasks], draws, seed, split=split)
    p_max_drop, p_fisher, p_joint = (
        float(rows.p_values(name)[0, 0]) for name in ("max-drop", "fisher", "joint")
    )
    smallest = min(result.p, p_max_drop, p_fisher)
    resolved = rows.exact or 3.0 * smallest * rows.rows > RESOLUTION
    return Combination(
        pooled=result,
        p_max_drop=p_max_drop,
        p_fisher=p_fisher,
        p_fisher_chi2=p_fisher,
        p_joint=max(p_joint, smallest) if resolved else 3.0 * smallest,
        p_any=smallest,
        method=result.method if rows.exact else "monte-carlo",
    )


def _larger(first: Combination, second: Combination) -> Combination:
    """Of every p-value the larger one."""
    pooled = max(first.pooled, second.pooled, key=lambda result: result.log_p)
    three = [max(getattr(first, name), getattr(second, name)) for name in ("p_max_drop", "p_fisher")]
    p_any = min(pooled.p, *three)
    return Combination(
        pooled=pooled,
        p_max_drop=three[0],
        p_fisher=three[1],
        p_fisher_chi2=max(first.p_fisher_chi2, second.p_fisher_chi2),
        p_joint=max(first.p_joint, second.p_joint, p_any),
        p_any=p_any,
        method="monte-carlo" if "monte-carlo" in (first.method, second.method) else "exact",
    )


def combine_tasks(
    sums: Sequence[Floats],
    draws: int = DRAWS,
    seed: int = 0,
    splits: Sequence[RunSplits | None] | None = None,
) -> Combination:
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
        chi2 = chi_square_p(-result.log_p, len(sums))
        return Combination(result, result.p, result.p, chi2, result.p, result.p, result.method)
    tables = [null_table(sums[task], draws, [seed, task], splits=split[task]) for task in moving]
    simulated = result.method == "monte-carlo" or not all(table.exact for table in tables)
    largest = max(table.observed / table.scale for table in tables)
    total = -float(np.log([table.p for table in tables]).sum())
    fisher = SumLaw([term_of(table.tails, table.chances) for table in tables])
    three = (result.p, max_drop_p(tables, largest), fisher.tail(total))
    null = JointNull(pooled, tables, fisher)
    return Combination(
        pooled=result,
        p_max_drop=three[1],
        p_fisher=three[2],
        p_fisher_chi2=chi_square_p(total, len(sums)),
        p_joint=null.p_value(three, (pooled.observed, largest, total), draws, seed),
        p_any=min(three),
        method="monte-carlo" if simulated else "exact",
    )
