"""Applies a policy to an analysis: fail closed, damage first, every reason with its code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jobs.analysis.compare import INCOMPLETE, Analysis, VariantResult
from jobs.analysis.policy.decision import Case, Decision, Status
from jobs.analysis.policy.reasons import Code, Mistake, PolicyError, Reason
from jobs.analysis.policy.resolve import Demand, demands, requires_anything
from jobs.analysis.policy.schema import Policy, Rule
from jobs.analysis.sequential.refusals import stops_early
from jobs.formats.notices import NoticeCode, some
from jobs.formats.samples import Temperature
from jobs.scores.score_set import ScoreSet, TaskTable
from orchestrator.errors import suggestion
from stats.family import Hypothesis, compare_family
from stats.results import Comparison
from stats.scores import TaskScores
from stats.tasks.combinations import BY_NAME
from stats.verdict import Verdict

FAILS_CLOSED = INCOMPLETE | {NoticeCode.NOT_COMPARED, NoticeCode.MISSING_TEMPERATURE}
"""Warnings that keep a release from passing: something that was to be judged could not be."""


@dataclass(frozen=True)
class Question:
    """One case before its test: the demand, the scores, and what is missing."""

    result: VariantResult
    demand: Demand
    hypothesis: Hypothesis
    missing_share: tuple[float, float]
    answered: tuple[bool, bool]


def decide_release(policy: Policy, analysis: Analysis) -> Decision:
    """Judge every variant of an analysis.

    Args:
        policy: what must hold.
        analysis: at the policy's level and margin where it has them.

    Raises:
        PolicyError: the policy does not fit the scores; it names all mistakes.
    """
    settings, scores = analysis.settings, analysis.scores
    untested = [notice.task for notice in analysis.warnings if notice.task is not None]
    wanted, mistakes = demands(policy, settings, [table.info for table in scores.tasks], untested)
    mistakes += _unknown_variants(policy, analysis)
    if stops_early(scores):
        said = "the run stops variants early, and a policy tests all planned samples once: leave it out"
        mistakes.append((Mistake.STOPS_EARLY, said))
    if not BY_NAME[settings.combine].keeps_level:
        said = f"a policy controls false alarms, which --combine {settings.combine} does not"
        mistakes.append((Mistake.INVALID, said))
    if mistakes:
        raise PolicyError("The policy", mistakes)
    questions = [
        question
        for result in analysis.results
        if policy.variants is None or result.variant in policy.variants
        for question in _questions(result, wanted, scores, analysis.baseline, policy.overall)
    ]
    found = compare_family([question.hypothesis for question in questions], settings)
    cases = tuple(_case(question, comparison) for question, comparison in zip(questions, found, strict=True))
    reasons = tuple(_release_reasons(policy, analysis))
    family = sum(question.hypothesis.blocks for question in questions)
    return Decision(_status(cases, reasons), settings.alpha, family, analysis.baseline, cases, reasons)


def _unknown_variants(policy: Policy, analysis: Analysis) -> Iterator[tuple[Mistake, str]]:
    known = list(dict.fromkeys(result.variant for result in analysis.results))
    for name in policy.variants or ():
        if name not in known:
            hint = suggestion(name, known) or f"; those compared are {some(known, 20)}"
            yield Mistake.UNKNOWN_VARIANT, f"variants: there is no variant '{name}' to judge{hint}"


def _questions(
    result: VariantResult, wanted: Sequence[Demand], scores: ScoreSet, baseline: str, overall: Rule
) -> Iterator[Question]:
    """One per task, and one over all tasks that are not only watched.

    The latter is left out where only one task is judged, unless the policy says something else of all tasks.
    """
    models = (baseline, result.variant)
    tables = {table.info.name: table for table in scores.tasks if _applies(table, models, result.temperature)}
    applying = [demand for demand in wanted if demand.task is None or demand.task in tables]
    judged = [demand for demand in applying if demand.task is not None and demand.blocks]
    says_more = overall.require == "certified" or bool(overall.limits)
    for demand in applying:
        if demand.task is not None:
            yield _question(result, demand, [tables[demand.task]], baseline)
        elif len(judged) > 1 or (judged and says_more and not demand.asks_the_same(judged[0])):
            yield _question(result, demand, [tables[own.task] for own in judged if own.task], baseline)


def _applies(table: TaskTable, models: tuple[str, str], temperature: Temperature) -> bool:
    """Whether a task is to be judged at a temperature: not if both models have it at others only."""
    found = {t for model, t in table.columns if model in models}
    return temperature in found or not found


def _question(result: VariantResult, demand: Demand, tables: Sequence[TaskTable], baseline: str) -> Question:
    names = [table.info.name for table in tables]
    pairs = {pair.info.name: pair.scores for pair in result.pairs}
    lacking = [gap for gap in result.gaps if gap.task in names]
    hypothesis = Hypothesis(
        [_with_margin(pairs[name], demand) for name in names if name in pairs],
        [gap for gap in lacking if gap.task not in pairs],
        demand.alpha,
        demand.margin,
        demand.blocks,
    )
    columns = [
        [table.columns.get((model, result.temperature)) for table in tables]
        for model in (baseline, result.variant)
    ]
    answered = [sum(int(column.answers.sum()) for column in side if column) for side in columns]
    gone = [sum(gap.missing[side] + gap.failed[side] for gap in lacking) for side in (0, 1)]
    first, second = (_share(*counts) for counts in zip(gone, answered, strict=True))
    return Question(result, demand, hypothesis, (first, second), (answered[0] > 0, answered[1] > 0))


def _with_margin(task: TaskScores, demand: Demand) -> TaskScores:
    """The scores with the policy's margin in the metric's own unit, where they have no range."""
    if task.bounds is not None or demand.margin_own_unit is None:
        return task
    return replace(task, margin=demand.margin_own_unit)


def _share(lacking: int, answered: int) -> float:
    return lacking / (lacking + answered) if lacking + answered else 1.0


def _case(question: Question, comparison: Comparison | None) -> Case:
    damage, doubts = _damage(question, comparison), list(_doubts(question, comparison))
    if not question.demand.blocks:
        status, reasons = Status.WATCHED, [Reason(Code.WATCHED, "Watched only: it cannot block the release.")]
    elif damage is not None:
        status, reasons = Status.BLOCKED, [damage, *doubts]
    elif doubts:
        status, reasons = Status.INSUFFICIENT, doubts
    else:
        status, reasons = Status.PASS, [_all_clear(question.demand)]
    result = question.result
    return Case(
        result.variant,
        result.temperature,
        question.demand,
        status,
        tuple(reasons),
        comparison,
        question.missing_share,
    )


def _damage(question: Question, comparison: Comparison | None) -> Reason | None:
    if comparison is None or comparison.verdict is not Verdict.DEGRADED:
        return None
    p, alpha = comparison.p_adjusted, question.demand.alpha
    return Reason(
        Code.DEGRADED,
        f"Significantly worse: p = {p:.3g} ≤ {alpha:g}, adjusted over everything that can block.",
    )


def _doubts(question: Question, comparison: Comparison | None) -> Iterator[Reason]:
    """What keeps a case from passing although no damage is proven."""
    demand = question.demand
    if comparison is None:
        yield _nothing_pairs(question)
        return
    if comparison.items < demand.min_items:
        said = f"Only {comparison.items:,} items pair; the policy requires {demand.min_items:,}."
        yield Reason(Code.TOO_FEW_ITEMS, said)
    for who, share in zip(("baseline", "variant"), question.missing_share, strict=True):
        if share > demand.max_missing:
            said = f"{share:.1%} of the {who}'s samples are missing or failed; the policy allows"
            yield Reason(Code.TOO_MANY_MISSING, f"{said} {demand.max_missing:.1%}.")
    if demand.require == "certified":
        yield from _not_certified(demand, comparison)


def _nothing_pairs(question: Question) -> Reason:
    for code, who, answered in zip(
        (Code.MISSING_IN_BASELINE, Code.MISSING_IN_VARIANT),
        ("baseline", "variant"),
        question.answered,
        strict=True,
    ):
        if not answered:
            return Reason(code, f"The {who} has no answers.")
    return Reason(Code.NO_COMMON_ITEM, "No item was answered by both models.")


def _not_certified(demand: Demand, comparison: Comparison) -> Iterator[Reason]:
    p = comparison.p_noninferior
    if comparison.margin is None and comparison.margin_unit == "metric":
        said = "The metric has no range: a certificate needs margin_own_unit in the policy."
        yield Reason(Code.NO_MARGIN, said)
    elif p > demand.alpha:
        said = f"The drop was not shown to be below the margin: p = {p:.3g} > {demand.alpha:g}."
        yield Reason(Code.NOT_CERTIFIED, said)


def _all_clear(demand: Demand) -> Reason:
    if demand.require == "certified":
        return Reason(Code.CERTIFIED, "The drop is below the margin.")
    return Reason(Code.NOT_DEGRADED, "No significant drop.")


def _release_reasons(policy: Policy, analysis: Analysis) -> Iterator[Reason]:
    """What concerns no single case: parts of the run that could not be judged at all."""
    if analysis.incomplete:
        yield Reason(Code.INCOMPLETE_RUN, "The run is incomplete: submit it again to finish it.")
    for notice in analysis.warnings:
        if notice.code in FAILS_CLOSED or (notice.task and requires_anything(policy, notice.task)):
            yield Reason(notice.code.value, notice.text)


def _status(cases: Sequence[Case], reasons: Sequence[Reason]) -> Status:
    found = {case.status for case in cases}
    if Status.BLOCKED in found:
        return Status.BLOCKED
    return Status.INSUFFICIENT if reasons or Status.INSUFFICIENT in found or not cases else Status.PASS
