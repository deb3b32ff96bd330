"""Applies a policy to an analysis: fail closed, damage first, every reason with its code.

The rules become one demand for every task that was measured, and each demand a case for every variant.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from jobs.analysis import policy as policies
from jobs.analysis.changes import compare_calls
from jobs.analysis.compare import INCOMPLETE, UNSOUND, Analysis, VariantResult
from jobs.analysis.pairing import SIDES, Pairing
from jobs.analysis.policy import Case, Decision, Demand, Policy, PolicyError, Reason, Ruling
from jobs.formats.notices import Notice, NoticeCode
from orchestrator.errors import counted
from stats.comparison import Hypothesis, compare_family
from stats.results import Comparison, Settings
from stats.tasks.combinations import BY_NAME
from stats.verdict import Code, Verdict

# Warnings that keep a release from passing: something that was to be judged could not be
FAILS_CLOSED = {
    *INCOMPLETE,
    *UNSOUND,
    NoticeCode.NOT_COMPARED,
    NoticeCode.MISSING_TEMPERATURE,
    NoticeCode.PROMPT_TOKENS_DIFFER,
}
UNDECIDED = {
    Code.RELEASE_BLOCKED: "Not decided: other damage ended the run first.",
    Code.LOOKS_PENDING: "Not decided yet: submit the sweep again to go on.",
}

WHO = ("baseline", "variant")
Question = tuple[Pairing, Demand, list[str]]  # a case before its test, and the names of its tasks


def decide_release(policy: Policy, analysis: Analysis) -> Decision:
    """Judge every variant of an analysis, which has the policy's level and margin where that has them.

    Raises:
        PolicyError: the policy does not fit the scores; it names all mistakes.
    """
    infos = [table.info for table in analysis.scores.tasks]
    untested = [notice.task for notice in analysis.warnings if notice.task is not None]
    wanted, mistakes = policies.demands_of(policy, analysis.settings, infos, untested)
    known = list(dict.fromkeys(result.variant for result in analysis.results))
    mistakes += policies.unknown_variants(policy, known)
    if not BY_NAME[analysis.settings.combine].keeps_level:
        said = f"a policy controls false alarms, which --combine {analysis.settings.combine} does not"
        mistakes.append(("invalid-policy", said))
    if mistakes:
        raise PolicyError("The policy", mistakes)
    questions = [
        question
        for result in analysis.results
        if policy.variants is None or result.variant in policy.variants
        for question in _questions(result, wanted, analysis, policy)
    ]
    blocking = [demand.blocks for _, demand, _ in questions]
    if analysis.plan is None:
        comparisons = compare_family([_hypothesis(*question) for question in questions], blocking)
    else:
        duties = [_duty(analysis, pairing, demand.task) for pairing, demand, _ in questions]
        comparisons = [comparison for _, comparison in duties]
        questions = [(own, *asked[1:]) for asked, (own, _) in zip(questions, duties, strict=True)]
    cases = tuple(
        _case(question, comparison) for question, comparison in zip(questions, comparisons, strict=True)
    )
    cases += tuple(_measured_cases(policy, analysis))
    reasons = tuple(_release_reasons(policy, analysis))
    statuses, status = {case.status for case in cases}, Ruling.PASS
    if Ruling.BLOCKED in statuses:
        status = Ruling.BLOCKED
    elif reasons or Ruling.INSUFFICIENT in statuses or not cases:
        status = Ruling.INSUFFICIENT
    alpha = analysis.settings.alpha
    return Decision(status, alpha, sum(blocking), analysis.baseline, cases, reasons)


def laxer_rules(policy: Policy, settings: Settings) -> Iterator[Notice]:
    """Say which rules a level of their own makes laxer, which may not be what was meant."""
    for place, rule in policy.places.items():
        if rule.require == "not-degraded" and rule.alpha is not None and rule.alpha < settings.alpha:
            said = (
                f"The policy's {place}: alpha {rule.alpha:g} is laxer than {settings.alpha:g}: damage blocks "
                "only where p is still smaller. A rule is stricter with require: certified."
            )
            yield Notice(NoticeCode.LAXER_RULE, said)


def _questions(
    result: VariantResult, wanted: Sequence[Demand], analysis: Analysis, policy: Policy
) -> Iterator[Question]:
    """One per task, and one over all tasks that are not only watched.

    A task that both models have at other temperatures only is not judged at this one.
    """
    models, names = (analysis.baseline, result.variant), []
    for table in analysis.scores.tasks:
        temperatures = {t for model, t in table.columns if model in models}
        if result.temperature in temperatures or not temperatures:
            names.append(table.info.name)
    asked = policy.asked(wanted, names)
    judged = [demand.task for demand in asked if demand.task and demand.blocks]
    for demand in asked:
        yield result, demand, judged if demand.task is None else [demand.task]


def _duty(analysis: Analysis, pairing: Pairing, task: str | None) -> tuple[Pairing, Comparison | None]:
    """What the looks found of a task, or of all of them, which may be the only one that is judged."""
    place = pairing.variant, pairing.temperature
    return analysis.duties.get((*place, task)) or analysis.duties[*place, None]


def _hypothesis(result: Pairing, demand: Demand, names: Sequence[str]) -> Hypothesis:
    pairs = {scores.task: scores for scores in result.scores}
    paired = [pairs[name] for name in names if name in pairs]
    if demand.margin_own_unit is not None:  # the policy's margin, where scores have no range
        own = demand.margin_own_unit
        paired = [task if task.bounds is not None else replace(task, margin=own) for task in paired]
    absent = [gap for gap in result.gaps if gap.task in names and gap.task not in pairs]
    return paired, absent, demand.settings


def _case(question: Question, comparison: Comparison | None) -> Case:
    result, demand, names = question
    shares, answered = _missing(result, names)
    codes, alpha = () if comparison is None else comparison.reason_codes, demand.settings.alpha
    undecided = [Reason(code.value, text) for code, text in UNDECIDED.items() if code in codes]
    doubts = undecided or list(_doubts(demand, comparison, shares, answered))
    if not demand.blocks:
        said = Reason("watched", "Watched only: it cannot block the release.")
        status, reasons = Ruling.WATCHED, [said]
    elif comparison is not None and comparison.verdict is Verdict.DEGRADED:
        p = f"p = {comparison.p_adjusted:.3g} ≤ {alpha:g}"
        damage = f"Significantly worse: {p}, adjusted over everything that can block."
        status, reasons = Ruling.BLOCKED, [Reason("degraded", damage), *doubts]
    elif doubts:
        status, reasons = Ruling.INSUFFICIENT, doubts
    elif demand.require == "certified":
        status, reasons = Ruling.PASS, [Reason("certified", "The drop is below the margin.")]
    else:
        status, reasons = Ruling.PASS, [Reason("not-degraded", "No significant drop.")]
    return Case(result.variant, result.temperature, demand, status, tuple(reasons), comparison, shares)


def _missing(result: Pairing, names: Collection[str]) -> tuple[tuple[float, float], list[int]]:
    """Share of missing or failed samples of some tasks, and how many are there, of baseline and variant."""
    shares, answered = [], []
    for side in SIDES:
        answered.append(sum(task.scored(side) for task in result.tasks if task.info.name in names))
        lacking = sum(gap.missing[side] + gap.failed[side] for gap in result.gaps if gap.task in names)
        shares.append(lacking / (lacking + answered[side]) if lacking + answered[side] else 1.0)
    return (shares[0], shares[1]), answered


def _measured_cases(policy: Policy, analysis: Analysis) -> Iterator[Case]:
    """A case per variant and ruled measurement; these are a family of their own.

    Each blocks where its interval, at the level over their number (Bonferroni), lies beyond the tolerance,
    and passes where a change as large as that is ruled out. So does the F1 score of calls, which is one more.
    """
    judged = [one for one in analysis.results if one.variant in (policy.variants or [one.variant])]
    alpha = analysis.settings.alpha
    limits = sum(1 + (rule.f1 is not None) for rule in policy.measurements.values())
    share = alpha / max(len(judged) * limits, 1)
    for result in judged:
        changes = {change.measurement: change for change in result.changes}
        for name, rule in policy.measurements.items():
            change, within, status = changes.get(name), f"{rule.within:g}", Ruling.INSUFFICIENT
            place = f"measurements.{name}"
            demand = replace(
                policy.demand(None, place, policies.UNNAMED, analysis.settings),
                require="within",
                measurement=name,
                within=rule.within,
            )
            tasks = [
                one.info.name for one in result.tasks if any(name in side.measured for side in one.sides)
            ]
            shares, _ = _missing(result, tasks)
            if change is None:
                reason = Reason("not-measured", f"No item of both models has {name}.")
            elif change.items < demand.min_items:
                reason = _too_few(demand, change.items, "could be measured")
            else:
                low, high = change.evidence.interval(share)
                if low > rule.within or high < -rule.within:
                    status = Ruling.BLOCKED
                    reason = Reason("beyond-tolerance", f"It changed by more than {within}.")
                elif (lacking := next(_too_many_missing(demand, shares), None)) is not None:
                    reason = lacking
                elif change.p_within <= alpha:
                    status = Ruling.PASS
                    reason = Reason("within-tolerance", f"A change of {within} or more is ruled out.")
                else:
                    said = f"A change of {within} is not ruled out: p = {change.p_within:.3g} > {alpha:g}."
                    reason = Reason("not-within-tolerance", said)
            found = [(status, reason)]
            if rule.f1 is not None and change is not None:
                found.append(_f1_shown(result, rule.f1, alpha, share))
                found.sort(key=lambda one: [Ruling.BLOCKED, Ruling.INSUFFICIENT, Ruling.PASS].index(one[0]))
            status, reasons = found[0][0], tuple(reason for _, reason in found)
            yield Case(result.variant, result.temperature, demand, status, reasons, None, shares, change)


def _f1_shown(result: VariantResult, least: float, alpha: float, share: float) -> tuple[Ruling, Reason]:
    """Whether tools are called in the same conversations as by the baseline, by the F1 score."""
    calls = [compare_calls(result, level) for level in (share, 2.0 * alpha)]
    if calls[0] is None or calls[1] is None:
        return Ruling.INSUFFICIENT, Reason("not-measured", "Neither model calls a tool.")
    if calls[0]["f1_interval"][1] < least:
        return Ruling.BLOCKED, Reason("beyond-tolerance", f"The F1 score of calls is below {least:g}.")
    if calls[1]["f1_interval"][0] >= least:
        return Ruling.PASS, Reason("within-tolerance", f"An F1 score of calls below {least:g} is ruled out.")
    said = f"An F1 score of calls below {least:g} is not ruled out."
    return Ruling.INSUFFICIENT, Reason("not-within-tolerance", said)


def _doubts(
    demand: Demand, comparison: Comparison | None, shares: Sequence[float], answered: Sequence[int]
) -> Iterator[Reason]:
    """What keeps a case from passing although no damage is proven.

    Shares of missing or failed samples and counts of answers are those of baseline and variant.
    """
    if comparison is None:
        silent = [who for who, answers in zip(WHO, answered, strict=True) if not answers]
        if silent:
            yield Reason(f"missing-in-{silent[0]}", f"The {silent[0]} has no answers.")
        else:
            yield Reason("no-common-item", "No item was answered by both models.")
        return
    if comparison.items < demand.min_items:
        yield _too_few(demand, comparison.items, "can be paired")
    yield from _too_many_missing(demand, shares)
    if Code.DIRECTION_UNKNOWN in comparison.reason_codes:
        said = "Nothing says whether higher or lower scores are better"
        yield Reason("direction-unknown", f"{said}: add --higher-is-better or --lower-is-better.")
        return
    if demand.require != "certified":
        return
    if comparison.margin is None and comparison.margin_unit == "metric":
        said = "The metric has no range: a certificate needs margin_own_unit in the policy."
        yield Reason("no-margin", said)
    elif comparison.verdict is not Verdict.CERTIFIED:
        p, alpha = comparison.p_noninferior, demand.settings.alpha
        yield Reason(
            "not-certified", f"The drop was not shown to be below the margin: p = {p:.3g} > {alpha:g}."
        )


def _too_few(demand: Demand, items: int, how: str) -> Reason:
    said = f"Only {counted(items, 'item')} {how}; the policy requires {demand.min_items:,}."
    return Reason("too-few-items", said)


def _too_many_missing(demand: Demand, shares: Sequence[float]) -> Iterator[Reason]:
    for who, share in zip(WHO, shares, strict=True):
        if share > demand.max_missing:
            said = f"{share:.1%} of the {who}'s samples are missing or failed; the policy allows"
            yield Reason("too-many-missing", f"{said} {demand.max_missing:.1%}.")


def _release_reasons(policy: Policy, analysis: Analysis) -> Iterator[Reason]:
    """What concerns no single case: parts of the run that could not be judged at all."""
    if analysis.incomplete:
        yield Reason("incomplete-run", "The run is incomplete: submit it again to finish it.")
    for notice in analysis.warnings:  # the group of a task that could not be tested is unknown
        rule, _ = (None, None) if notice.task is None else policies.rule_for(notice.task, None, policy.tasks)
        is_required = rule is not None and policy.tasks[rule].require != "watched"
        if notice.code in FAILS_CLOSED or is_required:
            yield Reason(notice.code.value, notice.text)
