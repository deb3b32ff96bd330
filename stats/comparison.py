"""From paired scores to verdicts: the front door of this package.

`compare` tests one variant against its baseline; `compare_variants` tests many against the same one and
controls the false alarms over all of them. Every number is a pure function of the scores and the settings,
the simulated parts included (their seed is a setting).

`compare_family` tests many hypotheses behind one decision: may this release ship? It is blocked by damage on
any of several tasks, variants and temperatures, or over all tasks together. All of these are one family:
their exact p-values of "not worse" are adjusted by Holm (1979), which needs no assumption about their
dependence, so that a release without damage is blocked with a probability of at most α. Hypotheses may have
levels of their own below α: an adjusted p-value is compared with the smaller one. Certificates need no
adjustment. A release passes only if *every* required certificate is there, so a release with a task that is
worse by the margin passes only if that task's own test errs: with a probability of at most its level (an
intersection–union test; Berger 1982).

`conclude_course` takes the verdict of looks. Nothing is tested then: the p-values of tests that are made
once, at the end, are NaN, since they do not hold at a stop that the scores have chosen.

A certificate asks whether the drop is below the margin for any value of the missing answers. Shares of a
range and units of a metric cannot be averaged: scores without bounds have a margin in their own unit or no
certificate, and a variant measured on several kinds of scores is certified where every one of them is
(intersection–union: the largest p-value holds the level). Where a direction is only assumed, there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from stats.arrays import EvidenceError, Floats
from stats.drop import BARELY, MOST_TAIL, DropEvidence, Interval, clustered, evidence_of
from stats.multiplicity import Adjust, adjust_p_values, holm, shares_blocks, step_down_max_t
from stats.planning import DecidingTest, items_to_decide
from stats.results import NAN, Comparison, Settings, Unit
from stats.scores import BALANCING, Case, MissingAnswers, TaskScores, lacking_of
from stats.sequential.monitor import Course
from stats.sequential.plan import SequentialPlan
from stats.sharing import merged_blocks
from stats.tasks.combinations import COMBINATIONS, parts_of
from stats.tasks.combine import combine_scores
from stats.tasks.power import TaskShape
from stats.verdict import Code, Decider, Verdict, decide

__all__ = ["Comparison", "Settings", "TaskScores", "Verdict", "compare", "compare_family", "compare_variants"]

DEFAULTS = Settings()
EFFECTS = 2.0, 4.0, 8.0  # how large the effect of a damaged task may be, in standard errors of its drop
STOPPED = {
    Verdict.DEGRADED: Code.STOPPED_DEGRADED,
    Verdict.CERTIFIED: Code.STOPPED_CERTIFIED,
    Verdict.INCONCLUSIVE: Code.RELEASE_BLOCKED,
}
Tasks: TypeAlias = Sequence[TaskScores]
Absent: TypeAlias = Sequence[MissingAnswers]

Measured: TypeAlias = tuple[Comparison, DropEvidence | None, list[DecidingTest], float | None]
"""All that does not depend on other comparisons: numbers without a verdict; what decides the certificate,
None where there is no single unit, or nothing is the worst; the test that decides "degraded", of the sums of
clusters and, where these are unequal, of the sums over size^0.6; that test's p-value with every missing
answer in the variant's favour, None where nothing is missing, or runs of unequal number are."""

Hypothesis: TypeAlias = tuple[Tasks, Absent, Settings]
"""One question of a family, whether a variant is worse on some tasks: their paired scores (none where nothing
pairs), what is missing of planned tasks on which nothing pairs, and its own level and margin."""


def compare(tasks: Tasks, settings: Settings = DEFAULTS) -> Comparison:
    """Compare one variant with its baseline.

    Args:
        tasks: the paired scores of every task, all temperatures apart.
        settings: level, margin and choice of tests; nothing is adjusted for other variants.

    Returns:
        The comparison over all tasks, with one for each task inside; p-values of the tasks are adjusted
        for their number. Planned tasks on which nothing pairs need `compare_variants`.

    Raises EvidenceError if there is no task.
    """
    return compare_variants({"variant": tasks}, settings)["variant"]


def compare_variants(
    variants: Mapping[str, Tasks], settings: Settings = DEFAULTS, absent: Mapping[str, Absent] | None = None
) -> dict[str, Comparison]:
    """Compare many variants with the same baseline and adjust for their number.

    Args:
        variants: paired scores of every task, by variant.
        settings: level, margin, choice of tests and of the adjustment.
        absent: by variant, what is missing of planned tasks on which nothing pairs.

    Returns:
        One comparison per variant, in the same order.

    Raises EvidenceError if there is no variant, or one without a task.
    """
    if not variants:
        raise EvidenceError("There are no variants to compare, so there is no verdict.")
    missing, measured = absent or {}, dict[str, tuple[Measured, tuple[Comparison, ...]]]()
    for name, tasks in variants.items():
        if not tasks:
            raise EvidenceError("There are no tasks to compare on, so there is no verdict.")
        gaps = missing.get(name, ())
        whole = measure(tasks, gaps, settings)
        is_one = len(tasks) == 1 and not gaps
        parts = [whole] if is_one else [measure([task], (), settings, among=len(tasks)) for task in tasks]
        measured[name] = whole, _conclude_tasks(tasks, parts, settings)
    raw = np.array([whole[0].p_value(settings.combine) for whole, _ in measured.values()])
    made = adjustment_for(variants, settings.adjust)
    if made == "maxt":
        scores, draws = list(variants.values()), settings.sign_vectors
        adjusted = step_down_max_t(scores, raw, settings.combine, draws, settings.seed)
    else:
        adjusted = adjust_p_values(raw, made)
    certificates = np.array([whole[0].p_noninferior for whole, _ in measured.values()])
    if settings.certify == "all":
        certificates = holm(certificates)
    notes = (Code.UNSHARED_ITEMS,) if (settings.adjust, made) == ("maxt", "holm") else ()
    share = _share(len(variants), made)
    return {
        name: conclude(whole, settings, p=p, p_noninferior=q, share=share, parts=tested, notes=notes)
        for (name, (whole, tested)), p, q in zip(measured.items(), adjusted, certificates, strict=True)
    }


def adjustment_for(variants: Mapping[str, Tasks], adjust: Adjust) -> Adjust:
    """What can be made: no adjustment of a single p-value, Holm's where max-T finds no common blocks."""
    if len(variants) == 1:
        return "none"
    if adjust == "maxt" and not shares_blocks(list(variants.values())):
        return "holm"
    return adjust


def _share(comparisons: int, made: Adjust) -> float:
    """The part of α that one of so many comparisons can count on."""
    return 1.0 / comparisons if made in {"holm", "maxt"} else 1.0


def _conclude_tasks(tasks: Tasks, parts: Sequence[Measured], settings: Settings) -> tuple[Comparison, ...]:
    """The tasks of a variant, concluded at levels adjusted for their own number, their drops shrunken."""
    by_task: Adjust = settings.adjust if settings.adjust != "maxt" else "holm"
    adjusted = adjust_p_values(np.array([comparison.p_pooled for comparison, *_ in parts]), by_task)
    share = _share(len(parts), by_task)
    concluded = (
        conclude(part, settings, p=p, share=share, task=task.task)
        for task, part, p in zip(tasks, parts, adjusted, strict=True)
    )
    sums = np.array([comparison.drop * comparison.items for comparison, *_ in parts])
    squares = [float(task.block_sums @ task.block_sums) or np.inf for task in tasks]
    kept = shrinkage(sums / np.sqrt(squares))
    return tuple(
        replace(task, drop_shrunken=float(k * task.drop)) for task, k in zip(concluded, kept, strict=True)
    )


def shrinkage(scores: Floats) -> Floats:
    """The share of each task's drop that remains when it is chosen among all of them.

    Posterior mean of a task's effect over its standardised drop: a task has no effect, or one of N(0, τ²)
    standard errors; the share of those is uniform and τ one of `EFFECTS`, both weighted by their likelihood.
    A posterior mean needs no correction for choice (Dawid 1994; Efron 2011). Unlike a normal prior (James &
    Stein 1961), this one leaves a single large effect among many tasks large.

    Args:
        scores: standardised drops S/√Σd², 0 without any difference, shape (T,).

    Returns:
        Shares from 0 to 1, shape (T,); 1 for a single task, which nobody chose.
    """
    if scores.size == 1:
        return np.ones(1)
    share = (np.arange(20.0).reshape(-1, 1, 1) + 0.5) / 20
    kept = 1.0 / (1.0 + 1.0 / np.square(EFFECTS).reshape(-1, 1))  # of a task with an effect
    odds = share / (1.0 - share) * np.sqrt(1.0 - kept) * np.exp(kept * scores**2 / 2.0)
    likely = np.log((1.0 - share) * (1.0 + odds))[..., scores != 0.0].sum(axis=-1, keepdims=True)
    weights = np.exp(likely - likely.max())
    return np.asarray((weights * kept * odds / (1.0 + odds)).sum(axis=(0, 1)) / weights.sum())


def compare_family(hypotheses: Sequence[Hypothesis], blocking: Sequence[bool]) -> list[Comparison | None]:
    """Compare every hypothesis, those that can block adjusted for each other.

    Args:
        hypotheses: the questions, those on which nothing pairs included: they count with a p-value of 1.
            Levels are at most that of the family; the test over several tasks is the same for all.
        blocking: which of them are the family; the others are not adjusted.

    Returns:
        One comparison per hypothesis, its verdict at its own level; None where nothing pairs.
    """
    measured = [measure(*each) if each[0] else None for each in hypotheses]
    family, adjusted = np.flatnonzero(blocking), np.ones(len(hypotheses))
    for number, (whole, (_, _, settings)) in enumerate(zip(measured, hypotheses, strict=True)):
        if whole is not None:
            adjusted[number] = whole[0].p_value(settings.combine)
    adjusted[family] = holm(adjusted[family])
    concluded: list[Comparison | None] = []
    for whole, (tasks, _, settings), p, blocks in zip(measured, hypotheses, adjusted, blocking, strict=True):
        share, task = 1.0 / family.size if blocks else 1.0, tasks[0].task if len(tasks) == 1 else None
        concluded.append(whole and conclude(whole, settings, p=p, share=share, task=task))
    return concluded


def measure(tasks: Tasks, absent: Absent, settings: Settings, among: int = 1) -> Measured:
    """All numbers of one variant over the given tasks together, and what is missing of absent ones.

    One interval holds for so many questions like this one together (Bonferroni).
    """
    combined = combine_scores(tasks, settings.draws, settings.seed)
    paired, p_paired, p_pooled = evidence_of(tasks), _p_noninferior(tasks, settings), combined.pooled.p
    described, best, worst = _describe(tasks, absent, settings)
    lacks = described.gaps > 0
    deciding: DropEvidence | None = paired
    if settings.certificate != "default":
        deciding = evidence_of(tasks, settings.certificate)
    p = p_paired
    if lacks and settings.missing == "worst":
        deciding = None if worst is None else evidence_of(worst, settings.certificate)
        p = 1.0 if worst is None else max(p_paired, _p_noninferior(worst, settings))
    margin = described.margin
    if margin is not None and described.reason_codes:
        margin = -np.inf  # no certificate, with which a limit would have to agree
    decided = {
        alpha: _decision(paired, deciding or paired, margin, alpha, p_pooled=p_pooled, p=p)
        for alpha in {settings.alpha, settings.alpha / among}
    }
    p_bounds, p_at_best = (p_pooled, p_pooled), None
    if lacks and (best is None or worst is None):
        p_bounds, p_at_best = (1.0, p_pooled), 1.0
    elif lacks and best is not None and worst is not None:
        at_best, at_worst = (combine_scores(all_, settings.draws, settings.seed) for all_ in (best, worst))
        p_bounds = at_best.pooled.p, at_worst.pooled.p
        if all(task.splits is None for task in tasks):  # else runs would be missing, too
            p_at_best = at_best.p[settings.combine]
    p_values: dict[str, Any] = {each.field: combined.p[each.name] for each in COMBINATIONS}
    comparison = replace(
        described,
        drop_interval=paired.interval(settings.alpha),
        drop_interval_decision=decided[settings.alpha],
        drop_interval_simultaneous=decided[settings.alpha / among],
        **p_values,
        p_pooled_bounds=p_bounds,
        deciding_task=max(tasks, key=_standardized).task,  # if the largest drop decides
        p_fisher_chi2=combined.p_fisher_chi2,
        method=combined.method,
        p_noninferior=p,
        p_noninferior_paired=p_paired,
        log_p_pooled=combined.pooled.log_p,
        standard_error=combined.pooled.standard_error,
        smallest_p=combined.pooled.smallest_p,
    )
    blocks, tests = [*((task.block_sums, task.block_sizes) for task in tasks), merged_blocks(tasks)], []
    for power in (0.0,) if np.ptp(blocks[-1][1]) == 0.0 else (0.0, BALANCING):
        *each, whole = (
            TaskShape.of(sums / n**power, float(np.sum(n ** (1.0 - power)))) for sums, n in blocks
        )
        tests.append(DecidingTest(tuple(each), whole, described.blocks, settings.combine))
    is_open = described.margin is None or described.reason_codes  # no number of items would certify
    return comparison, None if is_open else deciding, tests, p_at_best


def _standardized(task: TaskScores) -> float:
    """The drop by which the max-drop test compares tasks: S/√Σd², of items or clusters."""
    scale = float(np.linalg.norm(task.block_sums))
    return float(task.block_sums.sum()) / scale if scale else 0.0


def _describe(
    tasks: Tasks, absent: Absent, settings: Settings
) -> tuple[Comparison, list[TaskScores] | None, list[TaskScores] | None]:
    """The numbers that count and measure, without any test; then all planned items at best and at worst.

    Intervals are unknown; the only reason is what rules a certificate out. There is no best and no worst
    where something without bounds is missing.
    """
    lacking = [gap for gap in (*map(lacking_of, tasks), *absent) if gap is not None]
    items = sum(task.differences.size for task in tasks)
    worse, better = sum(task.worse for task in tasks), sum(task.better for task in tasks)
    unit: Unit = "metric" if len(tasks) == 1 else "mixed"
    margin = tasks[0].margin if len(tasks) == 1 else None
    if all(task.bounds is not None for task in tasks):
        unit, margin = "share", settings.margin
    best, worst = _completed(tasks, absent, "best"), _completed(tasks, absent, "worst")
    bounds = -np.inf, np.inf
    if best is not None and worst is not None:
        drops = [np.concatenate([task.differences for task in filled]) for filled in (best, worst)]
        bounds = float(drops[0].mean()), float(drops[1].mean())
    comparison = Comparison(
        reason_codes=() if all(task.is_direction_known for task in tasks) else (Code.DIRECTION_UNKNOWN,),
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
        drop_interval=(NAN, NAN),
        drop_interval_decision=(NAN, NAN),
        drop_bounds=bounds,
        margin=margin,
        margin_unit=unit,
        worse=worse,
        better=better,
        flip_rate=(worse + better) / items,
    )
    return comparison, best, worst


def conclude(
    measured: Measured,
    settings: Settings,
    *,
    p: float,
    share: float,
    p_noninferior: float | None = None,
    parts: tuple[Comparison, ...] = (),
    notes: Sequence[Code] = (),
    task: str | None = None,
) -> Comparison:
    """Add verdict and reasons, those noted last.

    The p-values of "not worse" and of "worse by the margin" are adjusted ones, the latter by default not. The
    share is the part of α that the pooled test has in any case, independent of the other tests.
    """
    (comparison, evidence, tests, p_at_best), alpha, power = measured, settings.alpha, settings.power
    p, q = float(p), float(comparison.p_noninferior if p_noninferior is None else p_noninferior)
    items, needed, deciding_p = comparison.items, None, comparison.p_value(settings.combine)
    verdict, deciding_task = decide(p, q, alpha), None
    decided_by: Decider | None = "noninferiority" if verdict is Verdict.CERTIFIED else None
    if verdict is Verdict.DEGRADED:
        statistics = parts_of(settings.combine)
        by = min(statistics, key=comparison.p_value)
        decided_by = "pooled" if "pooled" in statistics and comparison.p_pooled <= alpha else by
        if decided_by == "max-drop" and parts:
            deciding_task = comparison.deciding_task
    elif verdict is Verdict.INCONCLUSIVE:  # by the rules that decide, each at the level adjustment leaves it
        levels = alpha * min(1.0, deciding_p / p), alpha * min(1.0, comparison.p_noninferior / q)
        bound = evidence, comparison.margin
        needed = items_to_decide(items, comparison.drop, tests, *bound, levels=levels, power=power)
    concluded = replace(
        comparison,
        verdict=verdict,
        p_adjusted=p,
        p_noninferior_adjusted=q,
        decided_by=decided_by,
        deciding_task=deciding_task,
        mde=max(test.detectable_drop(alpha * share, power) for test in tests),
        items_needed=needed,
        task=task,
        tasks=parts,
    )
    held = None if p_at_best is None else p_at_best <= alpha * min(1.0, deciding_p / p)
    return replace(concluded, reason_codes=(*_explain(concluded, settings, at_best=held), *notes))


def conclude_course(
    tasks: Tasks, absent: Absent, course: Course, plan: SequentialPlan, *, finished: bool = False
) -> Comparison:
    """Describe the items that count, and add verdict and reasons from the looks.

    The tasks, at least one, have the pairs that count at the last look taken, or if `finished` all planned
    items, answered after the decision, too; absent ones are those on which nothing pairs.

    Returns:
        The comparison; its verdict is inconclusive as long as there is none. Both intervals are the repeated
        one. The p-values of the fixed tests are NaN, and those of an undecided comparison, too.
    """
    settings = Settings(alpha=plan.alpha, margin=plan.margin)

    def untested(tasks: Tasks, absent: Absent) -> Comparison:
        described, *_ = _describe(tasks, absent, settings)
        return replace(described, method="exact" if plan.pooled else "monte-carlo")

    limits = course.interval or (NAN, NAN)
    p_noninferior = NAN if course.p_noninferior is None else course.p_noninferior
    decided_by: Decider | None = "noninferiority" if course.verdict is Verdict.CERTIFIED else None
    if course.verdict is Verdict.DEGRADED:
        decided_by = "pooled" if plan.pooled else plan.combine
    not_tested = (Code.TASK_NOT_TESTED,)
    decided = replace(
        untested(tasks, absent),
        verdict=course.verdict or Verdict.INCONCLUSIVE,
        drop_adjusted=NAN if finished or course.drop_adjusted is None else course.drop_adjusted,
        drop_interval=limits,
        drop_interval_decision=limits,
        drop_interval_simultaneous=limits,
        p_adjusted=NAN if course.p_adjusted is None else course.p_adjusted,
        p_noninferior=p_noninferior,
        p_noninferior_adjusted=p_noninferior,
        decided_by=decided_by,
        tasks=tuple(replace(untested([t], ()), reason_codes=not_tested, task=t.task) for t in tasks),
    )
    return replace(decided, reason_codes=tuple(_explain_course(course, decided, finished=finished)))


def _completed(tasks: Tasks, absent: Absent, case: Case) -> list[TaskScores] | None:
    """All planned items, missing scores filled in; None where something without bounds is missing."""
    filled: list[TaskScores | None] = []
    for task in tasks:
        lacking = lacking_of(task)
        filled.append(task if lacking is None else lacking.completed(task, case))
    filled += [lacking.completed(None, case) for lacking in absent]
    known = [task for task in filled if task is not None]
    return known if len(known) == len(filled) else None


def _explain(comparison: Comparison, settings: Settings, *, at_best: bool | None) -> list[Code]:
    """What the verdict rests on, the deciding reason first.

    A variant that is degraded would be so, or not, with every missing answer in its favour; None: unknown.
    """
    alpha = settings.alpha
    if comparison.p_adjusted <= alpha:
        codes = [Code.SIGNIFICANT if comparison.deciding_task is None else Code.ONE_TASK_DECIDES]
    elif comparison.p_value(settings.combine) > alpha:
        codes = [Code.NOT_SIGNIFICANT]
    else:
        codes = [Code.NOT_SIGNIFICANT_ADJUSTED]
    is_open = comparison.margin is None and not comparison.p_noninferior < 1.0  # no task has one of its own
    if comparison.reason_codes or is_open:
        codes += comparison.reason_codes or [Code.UNBOUNDED_WITHOUT_MARGIN]
    elif comparison.p_noninferior_adjusted <= alpha:
        codes.append(Code.WITHIN_MARGIN)
    elif comparison.p_noninferior <= alpha:
        codes.append(Code.WITHIN_MARGIN_UNADJUSTED)
    else:
        only_pairs = comparison.gaps and comparison.p_noninferior_paired <= alpha
        codes.append(Code.WITHIN_MARGIN_PAIRS_ONLY if only_pairs else Code.NOT_WITHIN_MARGIN)
    if comparison.gaps:
        codes.append(_missing_code(comparison, dropped=settings.missing == "drop"))
        if comparison.verdict is Verdict.DEGRADED and at_best is not None:
            codes.append(Code.DEGRADED_BEST_CASE if at_best else Code.NOT_DEGRADED_BEST_CASE)
    if comparison.smallest_p > alpha:
        codes.append(Code.SMALLEST_P)
    if comparison.verdict is Verdict.INCONCLUSIVE:
        codes.append(Code.OUTLOOK)
    return codes


def _explain_course(course: Course, comparison: Comparison, *, finished: bool) -> list[Code]:
    """What the verdict rests on, the deciding reason first."""
    is_degraded = course.verdict is Verdict.DEGRADED
    if course.verdict is None:
        codes = [Code.LOOKS_PENDING]
    else:
        codes = [STOPPED[course.verdict] if course.stopped else Code.LAST_LOOK]
        codes.append(Code.SIGNIFICANT if is_degraded else Code.NOT_SIGNIFICANT)
        if comparison.reason_codes or comparison.margin is None:
            codes += comparison.reason_codes or [Code.UNBOUNDED_WITHOUT_MARGIN]
        elif course.verdict is Verdict.INCONCLUSIVE:
            codes.append(Code.NOT_WITHIN_MARGIN)
        elif not is_degraded or (not comparison.gaps and comparison.drop_interval[1] < comparison.margin):
            codes.append(Code.WITHIN_MARGIN)  # the interval of all looks ends below it, for example
    if comparison.gaps:
        codes.append(_missing_code(comparison))
    if course.stopped and course.verdict is not Verdict.INCONCLUSIVE:
        codes.append(Code.FINISHED_LATER if finished else Code.ESTIMATE_AFTER_STOP)
    return codes


def _missing_code(comparison: Comparison, *, dropped: bool = False) -> Code:
    """The reason that speaks of missing answers."""
    if not comparison.drop_bounds[0] > -np.inf:
        return Code.UNBOUNDED_MISSING
    return Code.MISSING_DROPPED if dropped else Code.MISSING_WORST_CASE


def _p_noninferior(tasks: Tasks, settings: Settings) -> float:
    """The largest p-value of all units: bounded scores together, every task without bounds alone."""
    if not all(task.is_direction_known for task in tasks):
        return 1.0
    bounded = [task for task in tasks if task.bounds is not None]
    units: list[tuple[Tasks, float | None]] = [(bounded, settings.margin)] if bounded else []
    units += [([task], task.margin) for task in tasks if task.bounds is None]
    return max(
        1.0 if margin is None else evidence_of(unit, settings.certificate).p_noninferior(margin)
        for unit, margin in units
    )


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
