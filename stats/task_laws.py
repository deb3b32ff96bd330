"""The null laws of tasks that share nothing, from which every combination over tasks takes its p-value."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stats.fisher import SumLaw, term_of
from stats.nulls import NullTable
from stats.signflip import SignFlipNull


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

    @cached_property
    def largest_drop(self) -> float:
        """The largest standardised drop max_t S_t/√Σd² found."""
        return max(table.observed / table.scale for table in self.tables)

    @cached_property
    def fisher_sum(self) -> float:
        """Fisher's sum Σ −ln p_t found."""
        return -float(np.log([table.p for table in self.tables]).sum())
