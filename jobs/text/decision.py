"""The decision of a policy as rows of a table and as sentences."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from jobs.analysis.policy.decision import Case, Decision, Status
from jobs.text.format import amount, clean, p_text, temperature_text
from jobs.text.headline import STATUS_WORDS, place

CASE_HEADER = ("variant", "T", "task", "required", "decision", "drop, points", "why")
ORDER = (Status.BLOCKED, Status.INSUFFICIENT, Status.PASS, Status.WATCHED)
STYLES = {Status.PASS: "bold green", Status.BLOCKED: "bold red", Status.INSUFFICIENT: "bold yellow"}
ALL_TASKS = "(all judged tasks)"


def judged_first(decision: Decision) -> list[Case]:
    """The cases that the policy names, those that keep the release from passing first."""
    named = [case for case in decision.cases if case.demand.rule is not None]
    return sorted(named, key=lambda case: ORDER.index(case.status))


def case_rows(cases: Sequence[Case]) -> list[tuple[str, ...]]:
    """One row per case, under `CASE_HEADER`."""
    return [
        (
            clean(case.variant),
            temperature_text(case.temperature),
            task_name(case),
            case.demand.require,
            STATUS_WORDS[case.status],
            _drop(case),
            " ".join(reason.code for reason in case.reasons),
        )
        for case in cases
    ]


def task_name(case: Case) -> str:
    """The task of a case for people."""
    return ALL_TASKS if case.task is None else clean(case.task)


def release_lines(decision: Decision) -> list[str]:
    """What keeps the whole release from passing, a sentence each."""
    return [reason.text for reason in decision.reasons]


def decision_lines(decision: Decision) -> list[str]:
    """Why a release does not pass, a line each: what concerns all of it, then every case in its way."""
    stopping = {Status.BLOCKED, Status.INSUFFICIENT}
    cases = [_sentence(case) for case in judged_first(decision) if case.status in stopping]
    return [*release_lines(decision), *cases]


def print_decision(decision: Decision, console: Console) -> None:
    """Show the decision and every case that does not pass."""
    status = decision.status
    console.print()
    cases = f"{len(decision.cases)} case{'s' * (len(decision.cases) != 1)}"
    said = f"{STATUS_WORDS[status].upper()} ({cases}, {decision.family} can block)."
    console.print(Text.assemble("Release policy: ", (said, STYLES[status])))
    for line in decision_lines(decision):
        console.print(Text(f"  {clean(line)}"))


def _sentence(case: Case) -> str:
    why = " ".join(clean(reason.text) for reason in case.reasons)
    return f"{place(case.variant, case.temperature)}, {task_name(case)}: {STATUS_WORDS[case.status]}. {why}"


def _drop(case: Case) -> str:
    found = case.comparison
    if found is None:
        return "–"
    low, high = (amount(end, found.margin_unit, sign=False) for end in found.drop_interval_decision)
    return f"{amount(found.drop, found.margin_unit)} [{low}, {high}], p {p_text(found.p_adjusted)}"
