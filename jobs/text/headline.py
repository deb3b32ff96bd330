"""All verdicts of an analysis in one line, as for a badge or a chat message."""

from collections import Counter
from collections.abc import Sequence

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.policy.decision import Case, Decision, Status
from jobs.formats.samples import Temperature
from jobs.text.format import amount_text, clean
from stats.results import Comparison
from stats.verdict import Verdict

MOST_NAMED = 2
"""Culprits that the line names."""

STATUS_WORDS = {
    Status.BLOCKED: "blocked",
    Status.INSUFFICIENT: "not enough evidence",
    Status.PASS: "pass",
    Status.WATCHED: "watched",
}
Entry = tuple[VariantResult | Case, str]


def headline(analysis: Analysis, decision: Decision | None = None) -> str:
    """The line, without markup: the decision or the worst verdict, the culprits, and how many there are."""
    if decision is not None:
        return _of_decision(decision)
    counts = Counter(result.comparison.verdict for result in analysis.results)
    worst = next(v for v in (Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CERTIFIED) if counts[v])
    degraded = [r for r in analysis.results if r.comparison.verdict is Verdict.DEGRADED]
    degraded.sort(key=lambda result: -result.comparison.drop)
    named = _named([f"{place(r.variant, r.temperature)} {_change(r.comparison)}" for r in degraded])
    found = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    return f"lldeg {worst.value}{named} ({found})"


def place(variant: str, temperature: Temperature, task: str | None = None) -> str:
    """A comparison by name: variant, temperature and task."""
    at = "" if temperature is None else f" at temperature {temperature:g}"
    on = "" if task is None else f" on {clean(task)}"
    return f"{clean(variant)}{at}{on}"


def _of_decision(decision: Decision) -> str:
    culprits = decision.with_status(decision.status)
    named = ""
    if decision.status is not Status.PASS:
        shown = [f"{place(c.variant, c.temperature, c.task)} {c.reasons[0].code}" for c in culprits]
        named = _named([*shown, *(reason.code for reason in decision.reasons)])
    counts = Counter(case.status for case in decision.cases)
    found = ", ".join(f"{counts[status]} {STATUS_WORDS[status]}" for status in Status if counts[status])
    return f"lldeg policy: {STATUS_WORDS[decision.status]}{named} ({found})"


def _change(comparison: Comparison) -> str:
    if comparison.drop <= 0.0:
        return "on some tasks"
    return f"loses {amount_text(comparison.drop, comparison.margin_unit)}"


def _named(culprits: Sequence[str]) -> str:
    if not culprits:
        return ""
    more = len(culprits) - MOST_NAMED
    return f": {', '.join(culprits[:MOST_NAMED])}{f' and {more} more' if more > 0 else ''}"
