"""The sentences that say why a comparison that was followed over looks ended as it did."""

from stats.results import Comparison
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan
from stats.verdict import Code, Reason, Verdict, missing_reason, size_text

UNTESTED_TASK = Reason(
    Code.TASK_NOT_TESTED, "The looks decide about all tasks together; single tasks are described, not tested."
)


def course_reasons(
    course: Course, plan: SequentialPlan, found: Comparison, *, finished: bool
) -> tuple[Reason, ...]:
    """Sentences that say what the verdict rests on, the deciding one first.

    Args:
        course: the looks.
        plan: what was fixed beforehand.
        found: the numbers of the items that count.
        finished: whether all planned samples were answered after the decision, too.
    """
    reasons = [_end(course, plan)]
    if course.verdict is not None:
        reasons += [_significance(course, plan, found), *_acceptability(course, plan, found)]
    gaps = sum((*found.missing_answers, *found.failed_answers))
    if gaps:
        shares = found.margin_unit == "share"
        counted = "all planned items" if finished or not course.stopped else "the items that count"
        reasons.append(missing_reason(gaps, found.drop_bounds, shares=shares, items=counted))
    if course.stopped:
        reasons.append(_estimate(course, finished=finished))
    return tuple(reasons)


def _end(course: Course, plan: SequentialPlan) -> Reason:
    looks, share = plan.stopping.looks, f"{100 * course.share_used:.0f} % of the planned samples"
    if course.verdict is None:
        taken = f"{len(course.looks)} of {looks} looks were taken, with {share}"
        said = f"No verdict yet: {taken}. Submit the sweep again to go on."
        return Reason(Code.LOOKS_PENDING, said)
    if not course.stopped:
        return Reason(Code.LAST_LOOK, f"Decided at the last of {looks} looks, with all planned samples.")
    at = f"Stopped at look {len(course.looks)} of {looks}, with {share}"
    if course.verdict is Verdict.DEGRADED:
        return Reason(Code.STOPPED_DEGRADED, f"{at}, because damage was found.")
    return Reason(Code.STOPPED_CERTIFIED, f"{at}, because a drop as large as the margin is ruled out.")


def _significance(course: Course, plan: SequentialPlan, found: Comparison) -> Reason:
    drop = size_text(found.drop, shares=found.margin_unit == "share")
    if course.verdict is Verdict.DEGRADED:
        text = f"Significantly worse: p = {course.p_adjusted:.3g} ≤ {plan.alpha:g}, drop {drop}."
        return Reason(Code.SIGNIFICANT, text)
    text = f"Not significantly worse: p = {course.p_adjusted:.3g} > {plan.alpha:g}, drop {drop}."
    return Reason(Code.NOT_SIGNIFICANT, text)


def _acceptability(course: Course, plan: SequentialPlan, found: Comparison) -> list[Reason]:
    """About the margin; nothing about a degraded variant unless its interval ends below."""
    if found.margin is None:
        text = "The scores have no known range, so a margin as a share of it is undefined."
        return [Reason(Code.UNBOUNDED_WITHOUT_MARGIN, text)]
    margin = size_text(found.margin, shares=True)
    p = f"non-inferiority p = {course.p_noninferior:.3g}"
    if course.verdict is Verdict.CERTIFIED:
        text = f"The drop is within the margin of {margin}: {p} ≤ {plan.alpha:g}."
        return [Reason(Code.WITHIN_MARGIN, text)]
    if course.verdict is Verdict.INCONCLUSIVE:
        text = f"The drop was not shown to be within the margin of {margin}: {p} > {plan.alpha:g}."
        return [Reason(Code.NOT_WITHIN_MARGIN, text)]
    if within_margin(course, found):
        text = f"The drop is within the margin of {margin}: the repeated interval ends below it."
        return [Reason(Code.WITHIN_MARGIN, text)]
    return []


def within_margin(course: Course, found: Comparison) -> bool:
    """Whether the interval that holds at all looks ends below the margin, with no answer missing."""
    gaps = sum((*found.missing_answers, *found.failed_answers))
    if course.interval is None or found.margin is None or gaps:
        return False
    return course.interval.high < found.margin


def _estimate(course: Course, *, finished: bool) -> Reason:
    if finished:
        text = (
            "The numbers count all planned samples, answered after the decision; the verdict is still that "
            f"of look {len(course.looks)}."
        )
        return Reason(Code.FINISHED_LATER, text)
    size = "larger" if course.verdict is Verdict.DEGRADED else "smaller"
    text = f"Estimates after such an early stop are {size} than the true drop on average."
    return Reason(Code.ESTIMATE_AFTER_STOP, text)
