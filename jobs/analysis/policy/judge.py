"""Applies a policy to an analysis: fail closed, damage first, every reason with its code."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jobs.analysis.compare import INCOMPLETE, Analysis, VariantResult
from jobs.analysis.policy.decision import Case, Decision, Reason, Ruling
from jobs.analysis.policy.demands import Demand, demands, requires_anything
from jobs.analysis.policy.schema import Mistake, Policy, PolicyError
from jobs.analysis.sequential.refusals import stops_early
from jobs.formats.notices import NoticeCode, some
from jobs.scores.score_set import TaskTable
from orchestrator.errors import suggestion
from stats.comparison import Hypothesis, compare_family
from stats.results import Comparison
from stats.tasks.combinations import BY_NAME
from stats.verdict import Verdict

FAILS_CLOSED = INCOMPLETE | {NoticeCode.NOT_COMPARED, NoticeCode.MISSING_TEMPERATURE}
"""Warnings that keep a release from passing: something that was to be judged could not be."""

Question = tuple[VariantResult, Demand, list[TaskTable]]
"""One case before its test, with the tasks that it is about."""


def decide_release(policy: Policy, analysis: Analysis) -> Decision:
    """Judge every variant of an analysis.

    Args:
        policy: what must hold.
        analysis: at the policy's level and margin where it has them.

    Raises:
        PolicyError: the policy does not fit the scores; it names all mistakes.
    """
    settings = analysis.settings
    untested = [notice.task for notice in analysis.warnings if notice.task is not None]
    infos = [table.info for table in analysis.scores.tasks]
    wanted, mistakes = demands(policy, settings, infos, untested)
    if mistakes := [*mistakes, *_mistakes(policy, analysis)]:
        raise PolicyError("The policy", mistakes)
    questions = [
        question
        for result in analysis.results
        if policy.variants is None or result.variant in policy.variants
        for question in _questions(result, wanted, analysis, policy)
    ]
    hypotheses = [_hypothesis(*question) for question in questions]
    comparisons = compare_family(hypotheses, settings)
    cases = tuple(
        _case(question, comparison, analysis.baseline)
        for question, comparison in zip(questions, comparisons, strict=True)
    )
    reasons = tuple(_release_reasons(policy, analysis))
    statuses = {case.status for case in cases}
    status = Ruling.INSUFFICIENT if reasons or Ruling.INSUFFICIENT in statuses or not cases else Ruling.PASS
    status = Ruling.BLOCKED if Ruling.BLOCKED in statuses else status
    family = sum(hypothesis.blocks for hypothesis in hypotheses)
    return Decision(status, settings.alpha, family, analysis.baseline, cases, reasons)


def _mistakes(policy: Policy, analysis: Analysis) -> Iterator[Mistake]:
    """What of the policy does not fit the analysis."""
    known = list(dict.fromkeys(result.variant for result in analysis.results))
    for name in policy.variants or ():
        if name not in known:
            hint = suggestion(name, known) or f"; those compared are {some(known, 20)}"
            yield "unknown-variant", f"variants: there is no variant '{name}' to judge{hint}"
    if stops_early(analysis.scores):
        said = "the run stops variants early, and a policy tests all planned samples once: leave it out"
        yield "stops-early", said
    if not BY_NAME[analysis.settings.combine].keeps_level:
        said = f"a policy controls false alarms, which --combine {analysis.settings.combine} does not"
        yield "invalid-policy", said


def _questions(
    result: VariantResult, wanted: Sequence[Demand], analysis: Analysis, policy: Policy
) -> Iterator[Question]:
    """One per task, and one over all tasks that are not only watched.

    The latter is left out where only one task is judged, unless the policy says something else of all tasks.
    A task that both models have at other temperatures only is not judged at this one.
    """
    models, tables = (analysis.baseline, result.variant), {}
    for table in analysis.scores.tasks:
        temperatures = {t for model, t in table.columns if model in models}
        if result.temperature in temperatures or not temperatures:
            tables[table.info.name] = table
    judged = [demand for demand in wanted if demand.task in tables and demand.blocks]
    says_more = policy.overall.require == "certified" or bool(policy.overall.limits)
    for demand in wanted:
        if demand.task in tables:
            yield result, demand, [tables[demand.task]]
        elif demand.task is None and (
            len(judged) > 1 or (judged and says_more and not demand.asks_the_same(judged[0]))
        ):
            yield result, demand, [tables[own.task] for own in judged if own.task]


def _hypothesis(result: VariantResult, demand: Demand, tables: Sequence[TaskTable]) -> Hypothesis:
    names = [table.info.name for table in tables]
    pairs = {pair.info.name: pair.scores for pair in result.pairs}
    paired = [pairs[name] for name in names if name in pairs]
    if demand.margin_own_unit is not None:  # the policy's margin, where scores have no range
        own = demand.margin_own_unit
        paired = [task if task.bounds is not None else replace(task, margin=own) for task in paired]
    absent = [gap for gap in result.gaps if gap.task in names and gap.task not in pairs]
    return Hypothesis(paired, absent, demand.alpha, demand.margin, demand.blocks)


def _case(question: Question, comparison: Comparison | None, baseline: str) -> Case:
    result, demand, tables = question
    names = {table.info.name for table in tables}
    shares, answered = [], []
    for side, model in enumerate((baseline, result.variant)):
        columns = [table.columns.get((model, result.temperature)) for table in tables]
        answered.append(sum(int(column.answers.sum()) for column in columns if column))
        lacking = sum(gap.missing[side] + gap.failed[side] for gap in result.gaps if gap.task in names)
        shares.append(lacking / (lacking + answered[side]) if lacking + answered[side] else 1.0)
    doubts = list(_doubts(demand, comparison, shares, answered))
    if not demand.blocks:
        status, reasons = (
            Ruling.WATCHED,
            [Reason("watched", "Watched only: it cannot block the release.")],
        )
    elif comparison is not None and comparison.verdict is Verdict.DEGRADED:
        p = f"p = {comparison.p_adjusted:.3g} ≤ {demand.alpha:g}"
        damage = f"Significantly worse: {p}, adjusted over everything that can block."
        status, reasons = Ruling.BLOCKED, [Reason("degraded", damage), *doubts]
    elif doubts:
        status, reasons = Ruling.INSUFFICIENT, doubts
    elif demand.require == "certified":
        status, reasons = Ruling.PASS, [Reason("certified", "The drop is below the margin.")]
    else:
        status, reasons = Ruling.PASS, [Reason("not-degraded", "No significant drop.")]
    missing_share = (shares[0], shares[1])
    return Case(result.variant, result.temperature, demand, status, tuple(reasons), comparison, missing_share)


def _doubts(
    demand: Demand, comparison: Comparison | None, shares: Sequence[float], answered: Sequence[int]
) -> Iterator[Reason]:
    """What keeps a case from passing although no damage is proven.

    Args:
        demand: what must hold.
        comparison: the numbers; None where nothing pairs.
        shares: of missing or failed samples, (baseline, variant).
        answered: samples that have a score, (baseline, variant).
    """
    sides = ("baseline", "variant")
    if comparison is None:
        silent = [who for who, answers in zip(sides, answered, strict=True) if not answers]
        if silent:
            yield Reason(f"missing-in-{silent[0]}", f"The {silent[0]} has no answers.")
        else:
            yield Reason("no-common-item", "No item was answered by both models.")
        return
    if comparison.items < demand.min_items:
        said = f"Only {comparison.items:,} items pair; the policy requires {demand.min_items:,}."
        yield Reason("too-few-items", said)
    for who, share in zip(sides, shares, strict=True):
        if share > demand.max_missing:
            said = f"{share:.1%} of the {who}'s samples are missing or failed; the policy allows"
            yield Reason("too-many-missing", f"{said} {demand.max_missing:.1%}.")
    p = comparison.p_noninferior
    if demand.require == "certified" and comparison.margin is None and comparison.margin_unit == "metric":
        yield Reason(
            "no-margin", "The metric has no range: a certificate needs margin_own_unit in the policy."
        )
    elif demand.require == "certified" and p > demand.alpha:
        said = f"The drop was not shown to be below the margin: p = {p:.3g} > {demand.alpha:g}."
        yield Reason("not-certified", said)


def _release_reasons(policy: Policy, analysis: Analysis) -> Iterator[Reason]:
    """What concerns no single case: parts of the run that could not be judged at all."""
    if analysis.incomplete:
        yield Reason("incomplete-run", "The run is incomplete: submit it again to finish it.")
    for notice in analysis.warnings:
        if notice.code in FAILS_CLOSED or (notice.task and requires_anything(policy, notice.task)):
            yield Reason(notice.code.value, notice.text)
