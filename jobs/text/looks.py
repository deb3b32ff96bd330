"""What the verdicts of a run that stops early mean, in plain words, and the columns about looks."""

import math

from jobs.analysis.compare import Analysis, VariantResult
from jobs.text.format import amount, amount_text, clean, p_text
from stats.results import Comparison, Settings
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan
from stats.verdict import Code, Verdict

LOOK_HEADER = ("look", "samples %")


def look_cells(result: VariantResult) -> tuple[str, str]:
    """Looks taken, of those planned, and the share of the samples that they used."""
    taken = 0 if result.course is None else len(result.course.looks)
    share = 0.0 if result.course is None else result.course.share_used
    return f"{taken}/{result.looks_planned}", f"{100 * share:.0f}"


def look_terms(plan: SequentialPlan, settings: Settings) -> str:
    """Level, adjustment, intervals and looks, for the head of the verdicts."""
    count, stopping = len(plan.comparisons), plan.stopping
    p = f"p adjusted by {settings.adjust} over {count} comparisons" if count > 1 else "p unadjusted"
    level = f"level {plan.alpha:g}, {p}, repeated {100 * (1 - 2 * plan.alpha):g} % intervals"
    return f"{level}; {stopping.looks} looks, each comparison until {stopping.until}"


def limit_text(end: float, comparison: Comparison) -> str:
    """An end of the interval that decides; a dash where looks set no limit before scores end."""
    if math.isnan(comparison.p_pooled) and not abs(end) < 1.0 and comparison.margin_unit == "share":
        return "–"
    return amount(end, comparison.margin_unit, sign=False)


def look_meaning(subject: str, result: VariantResult, course: Course, analysis: Analysis, margin: str) -> str:
    """What the verdict on a variant means.

    Args:
        subject: the variant and its temperature.
        result: the numbers.
        course: the looks.
        analysis: for the baseline and the settings.
        margin: with its unit.
    """
    taken, planned = len(course.looks), result.looks_planned
    when = f"at look {taken} of {planned}, after {100 * course.share_used:.0f} % of its samples"
    if course.verdict is None:
        return f"{subject} has no verdict yet: {taken} of {planned} looks were taken."
    if course.verdict is Verdict.DEGRADED:
        return (
            f"{subject} is worse than {clean(analysis.baseline)}: {when}, {_damage(result, analysis, margin)}"
        )
    if course.verdict is Verdict.CERTIFIED:
        p = p_text(result.comparison.p_noninferior)
        text = f"{subject} is non-inferior: {when}, a drop of {margin} or more is ruled out (p = {p})"
        return f"{text}, whatever the missing answers would have been." if result.gaps else f"{text}."
    text = f"{subject} is undecided after the last of {planned} looks: no significant drop was found, but"
    if result.comparison.margin is None:
        return f"{text} scores without a range cannot be certified."
    limit = amount(result.comparison.drop_interval_decision[1], result.comparison.margin_unit, sign=False)
    return f"{text} one of {margin} or more is not ruled out (it may be up to {limit})."


def estimates_note(analysis: Analysis) -> str | None:
    """That estimates at an early stop are biased; None if nothing was stopped, or the rest answered later."""
    codes = {code for result in analysis.results for code in result.comparison.reason_codes}
    if Code.ESTIMATE_AFTER_STOP not in codes:
        return None
    return (
        "Estimates after an early stop are biased: on average, a drop that was found is smaller than its "
        "estimate, and one that was ruled out is larger."
    )


def _damage(result: VariantResult, analysis: Analysis, margin: str) -> str:
    found = result.comparison
    p = "p" if analysis.settings.adjust == "none" else "adjusted p"
    size = f"{'lost' if found.drop > 0.0 else 'gained'} {amount_text(found.drop, found.margin_unit)}"
    text = f"it had {size} over all tasks, and the damage is statistically significant"
    if len(found.tasks) == 1:
        text = f"it had {size}, which is statistically significant"
    text = f"{text} ({p} = {p_text(found.p_adjusted)})."
    within = Code.WITHIN_MARGIN in found.reason_codes
    return f"{text} A drop of {margin} or more is ruled out nevertheless." if within else text
