"""What a verdict means, in plain words.

Each sentence says what was found, in which unit and against which margin, and claims nothing that the numbers
do not support: a loss of points only if the drop is positive, and a drop within the margin only if that was
shown.
"""

from collections.abc import Sequence

from jobs.analysis.compare import Analysis, VariantResult
from jobs.formats.notices import Notice
from jobs.text.format import amount, amount_text, clean, p_text
from jobs.text.headline import place
from jobs.text.looks import look_meaning
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers
from stats.verdict import Code, Verdict, certificates_note

MANY_ALIKE = 3
"""Warnings of one kind that are shown one by one."""


def meaning(result: VariantResult, analysis: Analysis) -> str:
    """What the verdict on a variant means."""
    subject = place(result.variant, result.temperature)
    if result.course is not None:
        return look_meaning(subject, result, result.course, analysis, margin_text(result))
    verdict = result.comparison.verdict
    if verdict is Verdict.DEGRADED:
        return _degraded(subject, clean(analysis.baseline), result, analysis.settings)
    if verdict is Verdict.CERTIFIED:
        return _certified(subject, result)
    return _inconclusive(subject, result)


def margin_text(result: VariantResult) -> str:
    """The margin with its unit: points (and their size on another scale than 0 to 1), or the metric's own."""
    comparison = result.comparison
    infos = [pair.info for pair in result.pairs]
    if comparison.margin is None:
        return "not given"
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


def several_certificates(analysis: Analysis) -> str | None:
    """What more than one certificate promises; None for one or none."""
    certified = sum(result.comparison.verdict is Verdict.CERTIFIED for result in analysis.results)
    adjusted = analysis.settings.certify == "all"
    note = certificates_note(certified, analysis.settings.alpha, adjusted=adjusted)
    if note is None:
        return None
    offered = not adjusted and analysis.plan is None
    return f"{note.text} Use --certify all for that." if offered else note.text


def _degraded(subject: str, baseline: str, result: VariantResult, settings: Settings) -> str:
    comparison = result.comparison
    p = "p" if settings.adjust == "none" else "adjusted p"
    proof = f"statistically significant ({p} = {p_text(comparison.p_adjusted)})"
    overall = _overall(comparison)
    task = _deciding(comparison)
    if task is not None:
        where = f"on {clean(task.task or '')}"
        loss = f"it loses {amount_text(task.drop, task.margin_unit)} there, which is {proof}"
        text = f"{subject} is worse than {baseline} {where}: {loss}; over all tasks it {overall}."
    elif comparison.drop > 0.0:
        text = f"{subject} is worse than {baseline}: it {overall}, which is {proof}."
    else:
        text = (
            f"{subject} is worse than {baseline} on some tasks: the drops are {proof}; overall it {overall}."
        )
    if comparison.p_noninferior_adjusted <= settings.alpha:
        where = "over all tasks" if len(comparison.tasks) > 1 else "nevertheless"
        return f"{text} A drop of {margin_text(result)} or more is ruled out {where}."
    return text


def _deciding(comparison: Comparison) -> Comparison | None:
    """The task whose drop alone makes the verdict, if one does."""
    return next((task for task in comparison.tasks if task.task == comparison.deciding_task), None)


def _overall(comparison: Comparison) -> str:
    said = amount_text(comparison.drop, comparison.margin_unit)
    return (
        f"loses {said}"
        if comparison.drop > 0.0
        else f"gains {said}"
        if comparison.drop < 0.0
        else "loses nothing"
    )


def _certified(subject: str, result: VariantResult) -> str:
    p = p_text(result.comparison.p_noninferior_adjusted)
    text = f"{subject} is non-inferior: a drop of {margin_text(result)} or more is ruled out (p = {p})"
    return f"{text}, whatever the missing answers would have been." if result.gaps else f"{text}."


def _inconclusive(subject: str, result: VariantResult) -> str:
    comparison, unit = result.comparison, result.comparison.margin_unit
    if comparison.margin is None:
        return (
            f"{subject} is undecided: no significant drop was found, and without a margin in the metric's "
            "own unit (--margin TASK=M) it cannot be certified."
        )
    limit = amount(comparison.drop_interval_decision[1], unit, sign=False)
    text = (
        f"{subject} is undecided: no significant drop was found, but one of {margin_text(result)} or more "
        f"is not ruled out (it may be up to {limit}"
    )
    if Code.WITHIN_MARGIN_PAIRS_ONLY in comparison.reason_codes:
        return (
            f"{text}), because answers are missing or failed; on the available answers alone it is ruled out."
        )
    if comparison.items_needed is None:
        return f"{text})."
    found, needed = f"{comparison.items:,}", f"{comparison.items_needed:,}"
    return f"{text}). About {needed} items would decide; this comparison has {found}."


def gap_lines(results: Sequence[VariantResult], limit: int) -> list[str]:
    """Missing and failed answers per side and task, the most first.

    Args:
        results: the comparisons.
        limit: most tasks to list; a separate line counts the others.
    """
    gaps = [(result, gap) for result in results for gap in result.gaps]
    gaps.sort(key=lambda pair: -sum((*pair[1].missing, *pair[1].failed)))
    lines = [_gap_line(result, gap) for result, gap in gaps[:limit]]
    more = len(gaps) - limit
    return [*lines, f"{more:,} more in verdicts.json (gaps)"] if more > 0 else lines


def _gap_line(result: VariantResult, gap: MissingAnswers) -> str:
    at = "" if result.temperature is None else f" at temperature {result.temperature:g}"
    sides = zip(("baseline", clean(result.variant)), gap.missing, gap.failed, strict=True)
    counts = [f"{who} {missing:,} missing, {failed:,} failed" for who, missing, failed in sides]
    return f"{clean(gap.task)}{at}: {'; '.join(counts)}"


def shown_warnings(warnings: Sequence[Notice]) -> list[str]:
    """Warnings for people: of many of the same kind, the first ones and how many more there are."""
    kinds: dict[str, list[str]] = {}
    for warning in warnings:
        kinds.setdefault(warning.code, []).append(warning.text)
    shown = []
    for texts in kinds.values():
        listed, rest = texts[:MANY_ALIKE], len(texts) - MANY_ALIKE
        if rest == 1:
            listed, rest = texts, 0
        shown += listed
        if rest > 0:
            shown.append(f"{rest} more warnings of this kind are in verdicts.json.")
    return shown
