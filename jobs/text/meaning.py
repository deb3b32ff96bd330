"""What verdicts and decisions mean, in plain words: sentences, one line for all, a row for each case.

Each sentence says what was found, in which unit and against which margin, and claims nothing that the numbers
do not support: a loss of points only if the drop is positive, and a drop within the margin only if that was
shown.
"""

from collections import Counter
from collections.abc import Sequence

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.policy import Case, Decision, Ruling
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Temperature
from jobs.text.changes import change_text
from jobs.text.format import amount, amount_text, clean, drop_text, p_text, temperature_text
from orchestrator.rundir.measurements import BY_NAME
from stats.drop import MOST_TAIL
from stats.results import Comparison, Settings, Unit
from stats.verdict import Code, Verdict

MANY_ALIKE = 3  # warnings of one kind that are shown one by one
MOST_NAMED = 2  # culprits that the line names
STATUS_WORDS = {
    Ruling.BLOCKED: "blocked",
    Ruling.INSUFFICIENT: "not enough evidence",
    Ruling.PASS: "pass",
    Ruling.WATCHED: "watched",
}
"""What people read for a status; the gravest first."""

CASE_HEADER = ("variant", "T", "task", "required", "decision", "drop, points; interval by itself", "why")


def place(variant: str, temperature: Temperature, task: str | None = None) -> str:
    """A comparison by name: variant, temperature and task."""
    at = "" if temperature is None else f" at temperature {temperature:g}"
    on = "" if task is None else f" on {clean(task)}"
    return f"{clean(variant)}{at}{on}"


def terms(analysis: Analysis) -> str:
    """Baseline, level, adjustment and margins: what the numbers of a table mean."""
    settings, plan, alpha = analysis.settings, analysis.plan, analysis.level_of(analysis.results[0])
    count = len(analysis.results)
    if plan is not None:
        count = max(len(plan.of(key).comparisons) for key in plan.comparisons)
    p = f"p adjusted by {settings.adjust} over {count} comparisons"
    if settings.adjust == "none":
        p = "p unadjusted (one comparison)" if count == 1 else "p unadjusted"
    intervals = f"{100 * (1 - 2 * min(alpha, MOST_TAIL)):g} % intervals"
    level = f"level {alpha:g}, {p}, {'' if plan is None else 'repeated '}{intervals}"
    if plan is not None:
        level += f"; {plan.stopping.looks} looks, each comparison until {plan.stopping.until}"
    margins = "; ".join(dict.fromkeys(margin_text(result) for result in analysis.results))
    return f"Baseline {clean(analysis.baseline)}; {level}; margin {margins}."


def meanings(analysis: Analysis) -> list[str]:
    """What each verdict means, and what all of them together do."""
    return [*(meaning(result, analysis) for result in analysis.results), *notes(analysis)]


def notes(analysis: Analysis) -> list[str]:
    """What several certificates promise together, and that estimates at an early stop are biased."""
    comparisons, alpha = [result.comparison for result in analysis.results], analysis.settings.alpha
    certified, said = sum(one.verdict is Verdict.CERTIFIED for one in comparisons), []
    if certified > 1 and analysis.settings.certify == "all":
        said.append(f"All {certified} certificates hold together at level {alpha:g} (adjusted by Holm).")
    elif certified > 1:
        said.append(
            f"Each of the {certified} certificates holds by itself at level {alpha:g}. The chance that at "
            "least one of them is wrong can be higher: adjust for their number when choosing among variants."
            + (" Use --certify all for that." if analysis.plan is None else "")
        )
    if any(Code.ESTIMATE_AFTER_STOP in one.reason_codes for one in comparisons):
        said.append(
            "Estimates after an early stop are biased: on average, a drop that was found is smaller than its "
            "estimate, and one that was ruled out is larger."
        )
    return said


def meaning(result: VariantResult, analysis: Analysis) -> str:
    """What the verdict on a variant means."""
    subject, comparison, course = place(result.variant, result.temperature), result.comparison, result.course
    looks, when = result.looks_planned, ""
    if course is not None:
        if course.verdict is None:
            return f"{subject} has no verdict yet: {len(course.looks)} of {looks} looks were taken."
        share = f"{100 * course.share_used:.0f} % of its samples"
        when = f"at look {len(course.looks)} of {looks}, after {share}, "
    unbiased = ""
    if Code.ESTIMATE_AFTER_STOP in comparison.reason_codes:
        change = _change(comparison.drop_adjusted, comparison.margin_unit)
        unbiased = f" Without the bias of stopping early it {change}."
    if comparison.verdict is Verdict.DEGRADED:
        loss = _loss(comparison, clean(analysis.baseline), analysis.settings, when)
        within = Code.WITHIN_MARGIN in comparison.reason_codes
        where = "over all tasks" if len(comparison.tasks) > 1 else "nevertheless"
        ruled_out = f" A drop {_of_margin(result)} is ruled out {where}." if within else ""
        return f"{subject} is worse than {loss}.{ruled_out}{unbiased}"
    if comparison.verdict is Verdict.CERTIFIED:
        p = p_text(comparison.p_noninferior_adjusted)
        text = f"{subject} is non-inferior: {when}a drop {_of_margin(result)} is ruled out (p = {p})"
        if result.gaps:
            whatever = ", whatever the missing answers would have been"
            text += ", missing answers ignored" if analysis.settings.missing == "drop" else whatever
        return f"{text}.{unbiased}"
    after = "" if course is None else f" after the last of {looks} looks"
    if course is not None and course.stopped:
        after = f" at look {len(course.looks)} of {looks}, where other damage ended the run"
    return f"{subject} is inconclusive{after}: no significant drop was found, {_doubt(result)}."


def _of_margin(result: VariantResult) -> str:
    """How large a drop is that is as large as the margin."""
    own = result.comparison.margin is None
    return "as large as the margins of its tasks" if own else f"of {margin_text(result)} or more"


def margin_text(result: VariantResult) -> str:
    """The margin with its unit: points (and their size on another scale than 0 to 1), or the metric's own."""
    comparison = result.comparison
    infos = [info for info, _ in result.pairs]
    if comparison.margin is None:
        return "by task" if any(info.margin is not None for info in infos) else "not given"
    if comparison.margin_unit == "metric":
        metrics = sorted({info.metric.partition(",")[0] for info in infos})
        return f"{comparison.margin:g} (in units of {clean(', '.join(metrics))})"
    if comparison.margin_unit == "mixed":
        return f"{comparison.margin:g} (averaged over tasks with and without a range)"
    size = 100 * comparison.margin
    said = f"{size:g} point" if size == 1 else f"{size:g} points"
    ranges = {info.bounds for info in infos}
    if ranges == {(0.0, 1.0)}:
        return said
    if len(ranges) > 1:
        return f"{said} ({size:g} % of each metric's range)"
    low, high = ranges.pop() or (0.0, 1.0)
    return f"{said} ({comparison.margin * (high - low):g} on the scale from {low:g} to {high:g})"


def _loss(comparison: Comparison, baseline: str, settings: Settings, when: str) -> str:
    """Than what a variant is worse, and how much it loses where."""
    p = "p" if settings.adjust == "none" else "adjusted p"
    proof = f"statistically significant ({p} = {p_text(comparison.p_adjusted)})"
    overall = _change(comparison.drop, comparison.margin_unit)
    task = next((task for task in comparison.tasks if task.task == comparison.deciding_task), None)
    if task is not None:
        loss, left = (amount_text(drop, task.margin_unit) for drop in (task.drop, task.drop_shrunken))
        there = f"loses {loss} there (about {left} after allowing for the choice of the task)"
        name = clean(task.task or "")
        largest = f"the largest drop of any task is {proof}"
        return f"{baseline} because of {name}: {when}it {there}, and {largest}; over all tasks it {overall}"
    if comparison.drop > 0.0:
        return f"{baseline}: {when}it {overall}, which is {proof}"
    return f"{baseline} on some tasks: {when}the drops are {proof}; overall it {overall}"


def _change(drop: float, unit: Unit) -> str:
    """What a variant with such a drop does."""
    if not drop:
        return "loses nothing"
    return f"{'loses' if drop > 0.0 else 'gains'} {amount_text(drop, unit)}"


def _doubt(result: VariantResult) -> str:
    """Why a variant without a significant drop is not certified, and what it would take."""
    comparison = result.comparison
    if Code.DIRECTION_UNKNOWN in comparison.reason_codes:
        return "and while nothing says whether higher or lower scores are better, it cannot be certified"
    if Code.UNBOUNDED_WITHOUT_MARGIN in comparison.reason_codes:
        return "and without a margin in the metric's own unit (--margin TASK=M) it cannot be certified"
    limit = amount(comparison.drop_interval_decision[1], comparison.margin_unit, sign=False)
    most = "" if comparison.margin is None else f" (it may be up to {limit})"
    text = f"but one {_of_margin(result)} is not ruled out{most}"
    if Code.WITHIN_MARGIN_PAIRS_ONLY in comparison.reason_codes:
        return (
            f"{text}, because answers are missing or failed; on the available answers alone it is ruled out"
        )
    if comparison.items_needed is None:
        return text
    needed = f"It would take about {comparison.items_needed:,} items to decide"
    return f"{text}. {needed}; this comparison has {comparison.items:,}"


def gap_lines(results: Sequence[VariantResult], limit: int) -> list[str]:
    """Missing and failed answers per side and task, the most first; the last line counts those left out."""
    gaps = [(result, gap) for result in results for gap in result.gaps]
    gaps.sort(key=lambda pair: -sum((*pair[1].missing, *pair[1].failed)))
    lines = []
    for result, gap in gaps[:limit]:
        sides = zip(("baseline", clean(result.variant)), gap.missing, gap.failed, strict=True)
        counts = "; ".join(f"{who} {missing:,} missing, {failed:,} failed" for who, missing, failed in sides)
        lines.append(f"{place(gap.task, result.temperature)}: {counts}")
    more = len(gaps) - limit
    return [*lines, f"{more:,} more in verdicts.json (gaps)"] if more > 0 else lines


def shown_warnings(warnings: Sequence[Notice]) -> list[str]:
    """Warnings for people: of many of the same kind, the first ones and how many more there are."""
    kinds: dict[str, list[str]] = {}
    for warning in warnings:
        kinds.setdefault(warning.code, []).append(warning.text)
    shown = []
    for texts in kinds.values():
        rest = len(texts) - MANY_ALIKE
        shown += texts[:MANY_ALIKE] if rest > 1 else texts
        if rest > 1:
            shown.append(f"{rest} more warnings of this kind are in verdicts.json.")
    return shown


def headline(analysis: Analysis) -> str:
    """The line, without markup: the decision or the worst verdict, the culprits, and how many there are."""
    if (decision := analysis.decision) is not None:
        culprits = []
        if decision.status is not Ruling.PASS:
            shown = [case for case in decision.cases if case.status is decision.status]
            what = [c.demand.task or c.demand.measurement for c in shown]
            culprits = [
                f"{place(c.variant, c.temperature, name)} {c.reasons[0].code}"
                for c, name in zip(shown, what, strict=True)
            ]
            culprits += [reason.code for reason in decision.reasons]
        judged = Counter(case.status for case in decision.cases)
        found = ", ".join(f"{judged[status]} {STATUS_WORDS[status]}" for status in Ruling if judged[status])
        return f"lldeg policy: {STATUS_WORDS[decision.status]}{_named(culprits)} ({found})"
    counts = Counter(result.comparison.verdict for result in analysis.results)
    worst = next(v for v in (Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CERTIFIED) if counts[v])
    degraded = [r for r in analysis.results if r.comparison.verdict is Verdict.DEGRADED]
    degraded.sort(key=lambda result: -result.comparison.drop)
    named = [
        f"{place(r.variant, r.temperature)} loses {amount_text(r.comparison.drop, r.comparison.margin_unit)}"
        if r.comparison.drop > 0.0
        else f"{place(r.variant, r.temperature)} on some tasks"
        for r in degraded
    ]
    found = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    differs = any(notice.code == NoticeCode.CONTROL_DIFFERS for notice in analysis.warnings)
    return f"lldeg {'control differs, ' if differs else ''}{worst.value}{_named(named)} ({found})"


def _named(culprits: Sequence[str]) -> str:
    if not culprits:
        return ""
    more = len(culprits) - MOST_NAMED
    return f": {', '.join(culprits[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"


def judged_first(decision: Decision) -> list[Case]:
    """The cases that the policy names, those that keep the release from passing first."""
    named = [case for case in decision.cases if case.demand.rule is not None]
    return sorted(named, key=lambda case: list(STATUS_WORDS).index(case.status))


def case_rows(decision: Decision) -> list[tuple[str, ...]]:
    """One row per case, under `CASE_HEADER`."""
    rows: list[tuple[str, ...]] = []
    for case in judged_first(decision):
        found, drop = case.comparison, "–"
        if found is not None:
            drop = f"{drop_text(found, found.drop_interval_decision)}, p {p_text(found.p_adjusted)}"
        if case.change is not None:
            drop = change_text(case.change)
        why = " ".join(reason.code for reason in case.reasons)
        words = task_name(case), required_text(case), STATUS_WORDS[case.status]
        rows.append((clean(case.variant), temperature_text(case.temperature), *words, drop, why))
    return rows


def required_text(case: Case) -> str:
    """What is required of a case, with the tolerance of a measurement."""
    within = case.demand.within
    return case.demand.require if within is None else f"within {within:g}"


def task_name(case: Case) -> str:
    """The task, or the measurement, of a case for people."""
    if case.demand.measurement is not None:
        return BY_NAME[case.demand.measurement].title
    return "(all judged tasks)" if case.demand.task is None else clean(case.demand.task)


def decision_lines(decision: Decision) -> list[str]:
    """Why a release does not pass, a line each: what concerns all of it, then every case in its way.

    What was not decided because other damage ended the run is left to that damage's line.
    """
    lines = [reason.text for reason in decision.reasons]
    for case in judged_first(decision):
        is_ended = Code.RELEASE_BLOCKED in {reason.code for reason in case.reasons}
        if case.status in {Ruling.BLOCKED, Ruling.INSUFFICIENT} and not is_ended:
            why = " ".join(clean(reason.text) for reason in case.reasons)
            where = f"{place(case.variant, case.temperature)}, {task_name(case)}"
            lines.append(f"{where}: {STATUS_WORDS[case.status]}. {why}")
    return lines
