"""Why a verdict is what it is: one sentence for each code of `stats.verdict.Code`, and nowhere else."""

from dataclasses import replace
from typing import Any

from jobs.analysis.compare import Analysis
from jobs.text.format import p_text
from stats.results import Comparison, Settings, Unit
from stats.sequential.monitor import Course
from stats.verdict import Code, Verdict

_P = "p = {p} {than} {alpha:g}"
_NOT_SHOWN = (
    "The drop was not shown to be within the margin of {margin}: non-inferiority p = "
    "{c.p_noninferior_adjusted:.3g} > {alpha:g}."
)
_GAPS = "{c.gaps:,} planned answers are missing or failed"
_BOUNDS = "the drop over {counted} is between {best} and {worst}."
_STOPPED = "Stopped at look {taken} of {looks}, with {share} % of the planned samples, because "
SENTENCES = {
    Code.SIGNIFICANT: f"Significantly worse: {_P}, drop {{drop}}.",
    Code.ONE_TASK_DECIDES: f"Significantly worse by its largest drop: {_P}; on task {{c.deciding_task}} it "
    "is {there}, and about {left} after allowing for the choice among {count} tasks; over all items it is "
    "{drop}.",
    Code.NOT_SIGNIFICANT: f"Not significantly worse: {_P}, drop {{drop}}.",
    Code.NOT_SIGNIFICANT_ADJUSTED: f"Not significantly worse: {_P}, drop {{drop}}. Before adjustment for the "
    "number of comparisons p is {unadjusted:.3g}.",
    Code.DIRECTION_UNKNOWN: "Nothing says whether higher or lower scores are better: nothing is certified.",
    Code.UNBOUNDED_WITHOUT_MARGIN: "The scores have no known range, so a margin as a share of it is "
    "undefined: a certificate needs a margin in the metric's own unit.",
    Code.WITHIN_MARGIN: "The drop is within the margin of {margin}: {within}.",
    Code.NOT_WITHIN_MARGIN: _NOT_SHOWN,
    Code.WITHIN_MARGIN_UNADJUSTED: f"{_NOT_SHOWN} Unadjusted for the other variants, p is "
    "{c.p_noninferior:.3g}.",
    Code.WITHIN_MARGIN_PAIRS_ONLY: f"{_NOT_SHOWN} On the paired items alone p is "
    "{c.p_noninferior_paired:.3g}, but answers are missing.",
    Code.UNBOUNDED_MISSING: f"{_GAPS}, and for scores without a range their effect has no bound.",
    Code.MISSING_WORST_CASE: f"{_GAPS}; whatever their scores, {_BOUNDS}",
    Code.MISSING_DROPPED: f"{_GAPS} and are ignored; whatever their scores, {_BOUNDS}",
    Code.DEGRADED_BEST_CASE: "Even with every missing answer in the variant's favour it would be "
    "significantly worse.",
    Code.NOT_DEGRADED_BEST_CASE: "With every missing answer in the variant's favour it would not be "
    "significantly worse.",
    Code.SMALLEST_P: "Even if every difference found among these {c.blocks} {kind} were in the baseline's "
    "favour, p would be {c.smallest_p:.3g}.",
    Code.OUTLOOK: "{able}; with differences as observed, {needed} items would be enough to decide.",
    Code.UNSHARED_ITEMS: "Adjusted by Holm, because it is unknown which items the variants have in common.",
    Code.STOPPED_DEGRADED: f"{_STOPPED}damage was found.",
    Code.STOPPED_CERTIFIED: f"{_STOPPED}a drop as large as the margin is ruled out.",
    Code.RELEASE_BLOCKED: f"{_STOPPED}other damage blocks the release.",
    Code.LAST_LOOK: "Decided at the last of {looks} looks, with all planned samples.",
    Code.LOOKS_PENDING: "No verdict yet: {taken} of {looks} looks were taken, with {share} % of the planned "
    "samples. Submit the sweep again to go on.",
    Code.ESTIMATE_AFTER_STOP: "Estimates after such an early stop are {bias} than the true drop on average; "
    "without that bias the drop is {adjusted}.",
    Code.FINISHED_LATER: "The numbers count all planned samples, answered after the decision; the verdict "
    "is still that of look {taken}.",
    Code.TASK_NOT_TESTED: "The looks decide about all tasks together; single tasks are described, not "
    "tested.",
}
"""Of a comparison `c`, and what `_values` has."""


def worded(analysis: Analysis) -> Analysis:
    """An analysis whose comparisons have their reasons as sentences."""
    results = []
    for one in analysis.results:
        settings = replace(analysis.settings, alpha=analysis.level_of(one))
        said = with_reasons(one.comparison, settings, one.course, one.looks_planned)
        results.append(replace(one, comparison=said))
    return replace(analysis, results=tuple(results))


def with_reasons(
    comparison: Comparison, settings: Settings, course: Course | None = None, looks: int | None = None
) -> Comparison:
    """A comparison, and those of its tasks, with their reasons as sentences.

    In a run that stops early they speak of its course, and of the number of looks that were planned.
    """
    values = _values(comparison, settings, course) | {"c": comparison, "looks": looks}
    return replace(
        comparison,
        reasons=tuple(SENTENCES[code].format(**values) for code in comparison.reason_codes),
        tasks=tuple(with_reasons(task, settings) for task in comparison.tasks),
    )


def _values(comparison: Comparison, settings: Settings, course: Course | None) -> dict[str, Any]:
    """What the sentences name besides the fields of a comparison."""
    alpha, unit, q = settings.alpha, comparison.margin_unit, comparison.p_noninferior_adjusted
    within = (
        f"non-inferiority p = {q:.3g} ≤ {alpha:g}" if q <= alpha else "the repeated interval ends below it"
    )
    kind = "items" if comparison.clusters is None else "clusters"
    detectable = f"drops of at least {_size(comparison.mde, unit)}"
    able = f"At the planned power these {comparison.items:,} items detect {detectable}"
    if comparison.mde == float("inf"):
        able = f"These {comparison.blocks:,} {kind} are too few to detect any drop"
    is_part = Code.ESTIMATE_AFTER_STOP in comparison.reason_codes
    best, worst = (_size(bound, unit) for bound in comparison.drop_bounds)
    decides = next((task for task in comparison.tasks if task.task == comparison.deciding_task), comparison)
    return {
        "p": p_text(comparison.p_adjusted),
        "than": "≤" if comparison.p_adjusted <= alpha else ">",
        "alpha": alpha,
        "unadjusted": comparison.p_value(settings.combine),
        "drop": _size(comparison.drop, unit),
        "there": _size(decides.drop, decides.margin_unit),
        "left": _size(decides.drop_shrunken, decides.margin_unit),
        "count": len(comparison.tasks),
        "adjusted": _size(comparison.drop_adjusted, unit),
        "margin": "each task" if comparison.margin is None else _size(comparison.margin, unit),
        "within": within,
        "counted": "the items that count" if is_part else "all planned items",
        "best": best,
        "worst": worst,
        "kind": kind,
        "able": able,
        "needed": "no number of" if comparison.items_needed is None else f"about {comparison.items_needed:,}",
        "taken": 0 if course is None else len(course.looks),
        "share": "" if course is None else f"{100 * course.share_used:.0f}",
        "bias": "larger" if comparison.verdict is Verdict.DEGRADED else "smaller",
    }


def _size(drop: float, unit: Unit) -> str:
    return f"{100 * drop:.2f} points" if unit == "share" else f"{drop:.4g} in the metric's unit"
