"""Which tasks a reader has to see: those behind a degradation, the most damaged first.

A sweep of five variants at two temperatures on forty tasks has four hundred task rows, nearly all of which
say that nothing was found. The files hold them all; a terminal shows where the damage sits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from jobs.analysis.compare import Analysis, VariantResult
from stats.results import Comparison
from stats.verdict import Verdict

MOST = 10
"""Tasks shown of one comparison unless all are asked for."""


class Tasks(StrEnum):
    """Which tasks are shown."""

    WORST = "worst"
    ALL = "all"


@dataclass(frozen=True)
class TaskGroup:
    """The tasks of one comparison that are shown, the most damaged first."""

    result: VariantResult
    tasks: tuple[Comparison, ...]


def task_groups(analysis: Analysis, shown: Tasks) -> list[TaskGroup]:
    """The tasks to show, by comparison; comparisons without any are left out.

    Args:
        analysis: what was found.
        shown: all tasks, or of each comparison the tasks found worse and, where it is degraded as a whole,
            those that lost points; ten at most.
    """
    groups = [TaskGroup(result, _chosen(result.comparison, shown)) for result in analysis.results]
    return [group for group in groups if group.tasks]


def hidden_tasks(analysis: Analysis, groups: Sequence[TaskGroup]) -> int:
    """How many task rows are not among those shown."""
    every = sum(len(result.comparison.tasks) for result in analysis.results)
    return every - sum(len(group.tasks) for group in groups)


def _chosen(comparison: Comparison, shown: Tasks) -> tuple[Comparison, ...]:
    ordered = sorted(comparison.tasks, key=lambda task: (task.verdict is not Verdict.DEGRADED, -task.drop))
    if shown is Tasks.ALL:
        return tuple(ordered)
    whole = comparison.verdict is Verdict.DEGRADED
    telling = [t for t in ordered if t.verdict is Verdict.DEGRADED or (whole and t.drop > 0.0)]
    return tuple(telling[:MOST])
