"""From what was measured on one variant to what it means: verdict and reasons at adjusted levels.

The certificate asks whether the drop is below the margin for any value of the missing answers. Shares of a
range and units of a metric cannot be averaged: scores without bounds have a margin in their own unit or no
certificate, and a variant measured on several kinds of scores is certified where every one of them is
(intersection–union: the largest p-value holds the level).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stats.drop.evidence import DropEvidence, clustered, evidence_of
from stats.drop.intervals import Interval
from stats.planning import detectable_drop, items_to_decide
from stats.results import Comparison, Settings, Unit
from stats.scores import Case, MissingAnswers, TaskScores, lacking_of
from stats.sharing import merged_blocks
from stats.signflip import SignFlipTest
from stats.tasks.combinations import COMBINATIONS, parts_of
from stats.tasks.combine import combine_scores
from stats.verdict import Code, Decider, Verdict, decide

BARELY = 1e-9
"""Distance from a value at which a limit is put that must be on one side of it but is not."""

MOST_TAIL = 0.49
"""One-sided limits exist for levels below ½ only."""

Tasks = Sequence[TaskScores]
Absent = Sequence[MissingAnswers]


@dataclass(frozen=True)
class Measured:
    """Everything that does not depend on other comparisons.

    Attributes:
        comparison: all numbers, still without a verdict.
        evidence: what decides the certificate; None where there is no single unit, or nothing is the worst.
        squares: sum of the squared differences of all blocks.
    """

    comparison: Comparison
    evidence: DropEvidence | None
    squares: float


def measure(tasks: Tasks, absent: Absent, settings: Settings) -> Measured:
    """All numbers of one variant over the given tasks together.

    Args:
        tasks: the pairs.
        absent: what is missing of planned tasks on which nothing pairs.
        settings: level, margin and what to do with missing answers.
    """
    combined = combine_scores(tasks, settings.draws, settings.seed)
    paired, p_paired, p_pooled = evidence_of(tasks), _p_noninferior(tasks, settings), combined.pooled.p
    best, worst = (completed(tasks, absent, case) for case in ("best", "worst"))
    described = describe(tasks, absent, (best, worst), settings)
    lacks = bool(missing_of(tasks, absent))
    deciding: DropEvidence | None = paired
    p = p_paired
    if lacks and settings.missing == "worst":
        deciding = None if worst is None else evidence_of(worst)
        p = 1.0 if worst is None else max(p_paired, _p_noninferior(worst, settings))
    decision = _decision(paired, deciding or paired, described.margin, settings.alpha, p_pooled=p_pooled, p=p)
    sums = merged_blocks(tasks)[0]
    p_bounds = p_pooled, p_pooled
    if lacks and (best is None or worst is None):
        p_bounds = 1.0, p_pooled
    elif lacks and best is not None and worst is not None:  # sign-flip tests of the filled-in differences
        at_best, at_worst = (SignFlipTest(merged_blocks(filled)[0]).p for filled in (best, worst))
        p_bounds = at_best, at_worst
    p_values: dict[str, Any] = {each.field: combined.p[each.name] for each in COMBINATIONS}
    comparison = replace(
        described,
        drop_interval=paired.interval(settings.alpha),
        drop_interval_decision=decision,
        **p_values,
        p_pooled_bounds=p_bounds,
        p_fisher_chi2=combined.p_fisher_chi2,
        method=combined.method,
        p_noninferior=p,
        p_noninferior_paired=p_paired,
        log_p_pooled=combined.pooled.log_p,
        standard_error=combined.pooled.standard_error,
        smallest_p=combined.pooled.smallest_p,
    )
    return Measured(comparison, None if described.margin is None else deciding, float(sums @ sums))


def describe(
    tasks: Tasks,
    absent: Absent,
    filled: tuple[list[TaskScores] | None, list[TaskScores] | None],
    settings: Settings,
) -> Comparison:
    """The numbers that count and measure, without any test; the intervals are unknown.

    Args:
        tasks: the pairs.
        absent: what is missing of planned tasks on which nothing pairs.
        filled: all planned items at best and at worst, as `completed` gives them.
        settings: for the margin.
    """
    lacking = missing_of(tasks, absent)
    items = sum(task.differences.size for task in tasks)
    worse, better = sum(task.worse for task in tasks), sum(task.better for task in tasks)
    unit: Unit = "metric" if len(tasks) == 1 else "mixed"
    margin = tasks[0].margin if len(tasks) == 1 else None
    if all(task.bounds is not None for task in tasks):
        unit, margin = "share", settings.margin
    best, worst = filled
    bounds = (-np.inf, np.inf) if best is None or worst is None else (_mean(best), _mean(worst))
    return Comparison(
        items=items,
        missing=sum(task.missing for task in tasks) + sum(gap.items for gap in absent),
        missing_answers=(sum(gap.missing[0] for gap in lacking), sum(gap.missing[1] for gap in lacking)),
        failed_answers=(sum(gap.failed[0] for gap in lacking), sum(gap.failed[1] for gap in lacking)),
        clusters=merged_blocks(tasks)[0].size if clustered(tasks) else None,
        reruns=(min(task.reruns[0] for task in tasks), min(task.reruns[1] for task in tasks)),
        baseline_score=sum(float(task.share(task.baseline).sum()) for task in tasks) / items,
        variant_score=sum(float(task.share(task.variant).sum()) for task in tasks) / items,
        drop=sum(float(task.differences.sum()) for task in tasks) / items,
        drop_macro=float(np.mean([task.differences.mean() for task in tasks])),
        drop_interval=(np.nan, np.nan),
        drop_interval_decision=(np.nan, np.nan),
        drop_bounds=bounds,
        margin=margin,
        margin_unit=unit,
        worse=worse,
        better=better,
        flip_rate=(worse + better) / items,
    )


def conclude(
    measured: Measured,
    settings: Settings,
    *,
    p: float,
    p_noninferior: float,
    share: float,
    parts: tuple[Comparison, ...] = (),
    notes: Sequence[Code] = (),
    task: str | None = None,
) -> Comparison:
    """Add verdict and reasons.

    Args:
        measured: the numbers.
        settings: level, margin and choice of tests.
        p: adjusted p-value of "not worse".
        p_noninferior: adjusted p-value of "worse by the margin".
        share: part of α that the pooled test has in any case, independent of the other tests.
        parts: the concluded comparisons of the tasks.
        notes: further reasons, last.
        task: name, if this is the comparison on one task.
    """
    comparison, alpha = measured.comparison, settings.alpha
    verdict = decide(p, p_noninferior, alpha)
    decided_by, deciding_task = _decider(verdict, comparison, parts, settings)
    needed, deciding_p = None, comparison.p_value(settings.combine)
    if verdict is Verdict.INCONCLUSIVE:  # by the rules that decide, each at the level adjustment leaves it
        levels = alpha * min(1.0, deciding_p / p), alpha * min(1.0, comparison.p_noninferior / p_noninferior)
        needed = items_to_decide(
            comparison.items,
            deciding_p,
            measured.evidence,
            comparison.margin,
            levels=levels,
            power=settings.power,
        )
    squares = measured.squares / comparison.items
    concluded = replace(
        comparison,
        verdict=verdict,
        p_adjusted=p,
        p_noninferior_adjusted=p_noninferior,
        decided_by=decided_by,
        deciding_task=deciding_task,
        mde=detectable_drop(comparison.items, comparison.blocks, squares, alpha * share, settings.power),
        items_needed=needed,
        task=task,
        tasks=parts,
    )
    return replace(concluded, reason_codes=(*_explain(concluded, settings), *notes))


def missing_of(tasks: Tasks, absent: Absent) -> list[MissingAnswers]:
    """What is missing, by task."""
    return [gap for gap in (*map(lacking_of, tasks), *absent) if gap is not None]


def missing_code(comparison: Comparison, *, dropped: bool = False) -> Code:
    """The reason that speaks of missing answers."""
    if not comparison.drop_bounds[0] > -np.inf:
        return Code.UNBOUNDED_MISSING
    return Code.MISSING_DROPPED if dropped else Code.MISSING_WORST_CASE


def completed(tasks: Tasks, absent: Absent, case: Case) -> list[TaskScores] | None:
    """All planned items, missing scores filled in; None where something without bounds is missing."""
    filled: list[TaskScores | None] = []
    for task in tasks:
        lacking = lacking_of(task)
        filled.append(task if lacking is None else lacking.completed(task, case))
    filled += [lacking.completed(None, case) for lacking in absent]
    known = [task for task in filled if task is not None]
    return known if len(known) == len(filled) else None


def _explain(comparison: Comparison, settings: Settings) -> list[Code]:
    """What the verdict rests on, the deciding reason first."""
    alpha = settings.alpha
    if comparison.p_adjusted <= alpha:
        codes = [Code.SIGNIFICANT if comparison.deciding_task is None else Code.ONE_TASK_DECIDES]
    elif comparison.p_value(settings.combine) > alpha:
        codes = [Code.NOT_SIGNIFICANT]
    else:
        codes = [Code.NOT_SIGNIFICANT_ADJUSTED]
    if comparison.margin is None:
        codes.append(Code.UNBOUNDED_WITHOUT_MARGIN)
    elif comparison.p_noninferior_adjusted <= alpha:
        codes.append(Code.WITHIN_MARGIN)
    elif comparison.p_noninferior <= alpha:
        codes.append(Code.WITHIN_MARGIN_UNADJUSTED)
    else:
        only_pairs = comparison.gaps and comparison.p_noninferior_paired <= alpha
        codes.append(Code.WITHIN_MARGIN_PAIRS_ONLY if only_pairs else Code.NOT_WITHIN_MARGIN)
    if comparison.gaps:
        codes.append(missing_code(comparison, dropped=settings.missing == "drop"))
        if comparison.verdict is Verdict.DEGRADED:
            at_best = comparison.p_pooled_bounds[0] <= alpha
            codes.append(Code.DEGRADED_BEST_CASE if at_best else Code.NOT_DEGRADED_BEST_CASE)
    if comparison.smallest_p > alpha:
        codes.append(Code.SMALLEST_P)
    if comparison.verdict is Verdict.INCONCLUSIVE:
        codes.append(Code.OUTLOOK)
    return codes


def _decider(
    verdict: Verdict, comparison: Comparison, parts: Sequence[Comparison], settings: Settings
) -> tuple[Decider | None, str | None]:
    """The statistic behind the verdict, and the task where one task's drop made the difference."""
    if verdict is not Verdict.DEGRADED:
        return ("noninferiority" if verdict is Verdict.CERTIFIED else None), None
    if comparison.p_pooled <= settings.alpha:
        return "pooled", None
    by = min(parts_of(settings.combine), key=comparison.p_value)
    worst = min(parts, key=lambda part: part.log_p_pooled).task if by == "max-drop" and parts else None
    return by, worst


def _p_noninferior(tasks: Tasks, settings: Settings) -> float:
    """The largest p-value of all units: bounded scores together, every task without bounds alone."""
    bounded = [task for task in tasks if task.bounds is not None]
    p_values = [evidence_of(bounded).p_noninferior(settings.margin)] if bounded else []
    alone = [task for task in tasks if task.bounds is None]
    p_values += [evidence_of([t]).p_noninferior(t.margin) if t.margin is not None else 1.0 for t in alone]
    return max(p_values)


def _decision(
    paired: DropEvidence,
    deciding: DropEvidence,
    margin: float | None,
    alpha: float,
    *,
    p_pooled: float,
    p: float,
) -> Interval:
    """Limits at 1 − 2α: right of 0 where the pooled test rejects, left of the margin with the certificate.

    The sign-flip test judges 0 alone, and the bounds every other drop. Where they disagree about 0, the limit
    is 0: the set of all drops that their own test does not reject.
    """
    if margin is None:
        return paired.interval(min(2.0 * alpha, MOST_TAIL))
    tail = min(alpha, MOST_TAIL)
    low, high = paired.limits(tail)
    if deciding is not paired:
        high = max(high, deciding.limits(tail)[1])
    low = max(low, BARELY) if p_pooled <= alpha else min(low, 0.0)
    return low, min(high, margin * (1.0 - BARELY)) if p <= alpha else max(high, margin)


def _mean(tasks: Tasks) -> float:
    return float(np.concatenate([task.differences for task in tasks]).mean())
