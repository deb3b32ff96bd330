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
from stats.joint import JointNull
from stats.montecarlo import DRAWS
from stats.nulls import NullTable, max_drop_p, null_table
from stats.signflip import Method, SignFlipNull, SignFlipResult

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
        task_p: sign-flip p-value of each task, shape (T,).
        method: "monte-carlo" where a law had to be simulated.
    """

    pooled: SignFlipResult
    p_max_drop: float
    p_fisher: float
    p_fisher_chi2: float
    p_joint: float
    p_any: float
    task_p: Floats
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


def combine_tasks(sums: Sequence[Floats], draws: int = DRAWS, seed: int = 0) -> Combination:
    """Test all tasks of one variant together.

    Args:
        sums: per task the differences (baseline − variant) of its items or clusters, shape (G_t,) each.
        draws: draws of the joint null, and of laws that have to be simulated.
        seed: of those draws; the same input gives the same p-values.

    Returns:
        Every combination, each with its own p-value.
    """
    pooled = SignFlipNull(np.concatenate(list(sums)), draws, seed)
    tables = [null_table(values, draws, [seed, task]) for task, values in enumerate(sums)]
    task_p = np.array([table.p for table in tables])
    simulated = pooled.method == "monte-carlo" or not all(table.exact for table in tables)
    total = -float(np.log(task_p).sum())
    p_max, p_fisher, p_joint = _three(pooled, [t for t in tables if t.scale > 0.0], total, draws, seed)
    result = pooled.result()
    return Combination(
        pooled=result,
        p_max_drop=p_max,
        p_fisher=p_fisher,
        p_fisher_chi2=chi_square_p(total, len(tables)),
        p_joint=p_joint,
        p_any=min(result.p, p_max, p_fisher),
        task_p=task_p,
        method="monte-carlo" if simulated else "exact",
    )


def _three(
    pooled: SignFlipNull, moving: list[NullTable], total: float, draws: int, seed: int
) -> tuple[float, float, float]:
    """Max-drop, Fisher and joint p-value; with a single task that differs they are the pooled one."""
    p_pooled = pooled.result().p
    if len(moving) <= 1:
        return p_pooled, p_pooled, p_pooled
    largest = max(table.observed / table.scale for table in moving)
    fisher = SumLaw([term_of(table.tails, table.chances) for table in moving])
    three = (p_pooled, max_drop_p(moving, largest), fisher.tail(total))
    null = JointNull(pooled, moving, fisher)
    return three[1], three[2], null.p_value(three, (pooled.observed, largest, total), draws, seed)
