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
from stats.nulls import max_drop_p, null_table
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


def combine_tasks(sums: Sequence[Floats], draws: int = DRAWS, seed: int = 0) -> Combination:
    """Test all tasks of one variant together.

    Args:
        sums: per task the differences (baseline − variant) of its items or clusters, shape (G_t,) each.
        draws: draws of the joint null, and of laws that have to be simulated.
        seed: of those draws; the same input gives the same p-values.

    Returns:
        Every combination, each with its own p-value; where at most one task differs, all are the pooled one.
    """
    pooled = SignFlipNull(np.concatenate(list(sums)), draws, seed)
    result = pooled.result()
    if sum(bool(values.any()) for values in sums) <= 1:
        chi2 = chi_square_p(-result.log_p, len(sums))
        return Combination(result, result.p, result.p, chi2, result.p, result.p, result.method)
    tables = [null_table(values, draws, [seed, task]) for task, values in enumerate(sums) if values.any()]
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
