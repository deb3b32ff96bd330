"""The answer in one line, as for a badge or a chat message; and the decision of a policy, case by case."""

from collections import Counter
from collections.abc import Sequence

from jobs.analysis.compare import Analysis
from jobs.analysis.policy.decision import Case, Decision, Ruling
from jobs.formats.samples import Temperature
from jobs.text.format import amount, amount_text, clean, p_text, temperature_text
from stats.verdict import Verdict

MOST_NAMED = 2
"""Culprits that the line names."""

STATUS_WORDS = {
    Ruling.BLOCKED: "blocked",
    Ruling.INSUFFICIENT: "not enough evidence",
    Ruling.PASS: "pass",
    Ruling.WATCHED: "watched",
}
"""What people read for a status; the gravest first."""

CASE_HEADER = ("variant", "T", "task", "required", "decision", "drop, points", "why")


def place(variant: str, temperature: Temperature, task: str | None = None) -> str:
    """A comparison by name: variant, temperature and task."""
    at = "" if temperature is None else f" at temperature {temperature:g}"
    on = "" if task is None else f" on {clean(task)}"
    return f"{clean(variant)}{at}{on}"


def headline(analysis: Analysis) -> str:
    """The line, without markup: the decision or the worst verdict, the culprits, and how many there are."""
    if (decision := analysis.decision) is not None:
        culprits = []
        if decision.status is not Ruling.PASS:
            shown = [case for case in decision.cases if case.status is decision.status]
            culprits = [f"{place(c.variant, c.temperature, c.task)} {c.reasons[0].code}" for c in shown]
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
    return f"lldeg {worst.value}{_named(named)} ({found})"


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
            low, high = (amount(end, found.margin_unit, sign=False) for end in found.drop_interval_decision)
            drop = f"{amount(found.drop, found.margin_unit)} [{low}, {high}], p {p_text(found.p_adjusted)}"
        why = " ".join(reason.code for reason in case.reasons)
        words = task_name(case), case.demand.require, STATUS_WORDS[case.status]
        rows.append((clean(case.variant), temperature_text(case.temperature), *words, drop, why))
    return rows


def task_name(case: Case) -> str:
    """The task of a case for people."""
    return "(all judged tasks)" if case.task is None else clean(case.task)


def decision_lines(decision: Decision) -> list[str]:
    """Why a release does not pass, a line each: what concerns all of it, then every case in its way."""
    lines = [reason.text for reason in decision.reasons]
    for case in judged_first(decision):
        if case.status in {Ruling.BLOCKED, Ruling.INSUFFICIENT}:
            why = " ".join(clean(reason.text) for reason in case.reasons)
            where = f"{place(case.variant, case.temperature)}, {task_name(case)}"
            lines.append(f"{where}: {STATUS_WORDS[case.status]}. {why}")
    return lines
