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
        shown: all tasks, or of each degraded comparison those that lost points, ten at most. A task's
            p-value is not adjusted for the number of variants, so where the whole is not degraded a single
            task's is not a finding.
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
    if comparison.verdict is not Verdict.DEGRADED:
        return ()
    return tuple(task for task in ordered[:MOST] if task.drop > 0.0)
