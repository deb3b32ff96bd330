"""From the course of a comparison and the items that count to the record that every analysis returns.

The looks have decided already. Nothing is tested here: the p-values of the tests that are made once, at the
end, are NaN, since they do not hold at a stop that the scores have chosen.
"""

from collections.abc import Sequence
from dataclasses import replace

from stats.conclusion import completed, describe, missing_code
from stats.results import NAN, Comparison, Settings
from stats.scores import MissingAnswers, TaskScores
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan
from stats.verdict import Code, Decider, Verdict


def conclude_course(
    tasks: Sequence[TaskScores],
    absent: Sequence[MissingAnswers],
    course: Course,
    plan: SequentialPlan,
    *,
    finished: bool = False,
) -> Comparison:
    """Describe the items that count, and add verdict and reasons from the looks.

    Args:
        tasks: the pairs of every task that count at the last look taken; at least one task.
        absent: what is missing of tasks on which nothing pairs.
        course: the looks.
        plan: what was fixed beforehand.
        finished: whether `tasks` holds all planned items, answered after the decision, too.

    Returns:
        The comparison; its verdict is inconclusive as long as there is none. Both intervals are the repeated
        one. The p-values of the fixed tests are NaN, and those of an undecided comparison, too.
    """
    parts = tuple(
        replace(_untested([task], (), plan), reason_codes=(Code.TASK_NOT_TESTED,), task=task.task)
        for task in tasks
    )
    limits = course.interval or (NAN, NAN)
    p_noninferior = NAN if course.p_noninferior is None else course.p_noninferior
    decided_by: Decider | None = "noninferiority" if course.verdict is Verdict.CERTIFIED else None
    if course.verdict is Verdict.DEGRADED:
        decided_by = "pooled" if plan.pooled else plan.combine
    decided = replace(
        _untested(tasks, absent, plan),
        verdict=course.verdict or Verdict.INCONCLUSIVE,
        drop_interval=limits,
        drop_interval_decision=limits,
        p_adjusted=NAN if course.p_adjusted is None else course.p_adjusted,
        p_noninferior=p_noninferior,
        p_noninferior_adjusted=p_noninferior,
        decided_by=decided_by,
        tasks=parts,
    )
    return replace(decided, reason_codes=tuple(_explain(course, decided, finished=finished)))


def _untested(
    tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], plan: SequentialPlan
) -> Comparison:
    filled = completed(tasks, absent, "best"), completed(tasks, absent, "worst")
    described = describe(tasks, absent, filled, Settings(alpha=plan.alpha, margin=plan.margin))
    return replace(described, method="exact" if plan.pooled else "monte-carlo")


def _explain(course: Course, comparison: Comparison, *, finished: bool) -> list[Code]:
    """What the verdict rests on, the deciding reason first."""
    is_degraded = course.verdict is Verdict.DEGRADED
    if course.verdict is None:
        codes = [Code.LOOKS_PENDING]
    else:
        stopped = Code.STOPPED_DEGRADED if is_degraded else Code.STOPPED_CERTIFIED
        codes = [stopped if course.stopped else Code.LAST_LOOK]
        codes.append(Code.SIGNIFICANT if is_degraded else Code.NOT_SIGNIFICANT)
        if comparison.margin is None:
            codes.append(Code.UNBOUNDED_WITHOUT_MARGIN)
        elif course.verdict is Verdict.INCONCLUSIVE:
            codes.append(Code.NOT_WITHIN_MARGIN)
        elif not is_degraded or (not comparison.gaps and comparison.drop_interval[1] < comparison.margin):
            codes.append(
                Code.WITHIN_MARGIN
            )  # the interval that holds at all looks ends below it, for example
    if comparison.gaps:
        codes.append(missing_code(comparison))
    if course.stopped:
        codes.append(Code.FINISHED_LATER if finished else Code.ESTIMATE_AFTER_STOP)
    return codes
