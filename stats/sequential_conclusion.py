"""From the course of a comparison and the items that count to the record that every analysis returns.

The looks have decided already. Nothing is tested here: the p-values of the tests that are made once, at the
end, are NaN, since they do not hold at a stop that the scores have chosen.
"""

from collections.abc import Sequence
from dataclasses import replace

from stats.certificate import Certificate, bounds_of_drop, completed, unit_of
from stats.conclusion import Measured, p_values, sizes
from stats.drop.evidence import clustered
from stats.drop.intervals import Interval
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers, TaskScores, lacking_of
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan
from stats.sequential_reasons import UNTESTED_TASK, course_reasons
from stats.sharing import merged_blocks
from stats.signflip import Method, SignFlipResult
from stats.tasks.combinations import COMBINATIONS
from stats.tasks.combine import Combined
from stats.verdict import Decider, Reason, Verdict

NAN = float("nan")
UNKNOWN = Interval(NAN, NAN)


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
    whole = _record(tasks, absent, course.interval or UNKNOWN, plan)
    parts = tuple(
        _explained(_record([task], (), UNKNOWN, plan), [UNTESTED_TASK], task=task.task) for task in tasks
    )
    decided = replace(
        whole,
        p_adjusted=_known(course.p_adjusted),
        p_noninferior=_known(course.p_noninferior),
        p_noninferior_adjusted=_known(course.p_noninferior),
        verdict=course.verdict or Verdict.INCONCLUSIVE,
        decided_by=_decider(course, plan),
        tasks=parts,
    )
    return _explained(decided, course_reasons(course, plan, decided, finished=finished))


def _explained(found: Comparison, reasons: Sequence[Reason], task: str | None = None) -> Comparison:
    return replace(
        found,
        reasons=tuple(reason.text for reason in reasons),
        reason_codes=tuple(reason.code.value for reason in reasons),
        task=task,
    )


def _record(
    tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], interval: Interval, plan: SequentialPlan
) -> Comparison:
    """The numbers that describe, without any test."""
    measured = _untested(tasks, absent, interval, plan)
    return Comparison(
        **sizes(measured),
        **p_values(measured),
        p_adjusted=NAN,
        p_noninferior_adjusted=NAN,
        mde=NAN,
        items_needed=None,
        verdict=Verdict.INCONCLUSIVE,
        decided_by=None,
        deciding_task=None,
        reasons=(),
        reason_codes=(),
    )


def _untested(
    tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], interval: Interval, plan: SequentialPlan
) -> Measured:
    lacking = tuple(found for found in (*map(lacking_of, tasks), *absent) if found is not None)
    unit, margin = unit_of(tasks, Settings(alpha=plan.alpha, margin=plan.margin))
    best, worst = (completed(tasks, absent, case) for case in ("best", "worst"))
    certificate = Certificate(
        interval=interval,
        decision=interval,
        p=NAN,
        p_paired=NAN,
        margin=margin,
        unit=unit,
        lacking=lacking,
        drop_bounds=bounds_of_drop(best, worst),
        p_pooled_bounds=(NAN, NAN),
        unbounded=worst is None,
        evidence=None,
    )
    sums = merged_blocks(tasks)[0] if clustered(tasks) else tasks[0].differences[:0]
    return Measured(tasks, absent, _no_test(plan), certificate, sums.size, 0.0)


def _no_test(plan: SequentialPlan) -> Combined:
    method: Method = "exact" if plan.pooled else "monte-carlo"
    pooled = SignFlipResult(NAN, NAN, NAN, method, 0.0, 0, NAN)
    return Combined(pooled, {combination.name: NAN for combination in COMBINATIONS}, NAN, method)


def _decider(course: Course, plan: SequentialPlan) -> Decider | None:
    if course.verdict is Verdict.DEGRADED:
        return "pooled" if plan.pooled else plan.combine
    return "noninferiority" if course.verdict is Verdict.CERTIFIED else None


def _known(p: float | None) -> float:
    return NAN if p is None else p
