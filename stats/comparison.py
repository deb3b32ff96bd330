"""From paired scores to verdicts: the front door of this package.

`compare` tests one variant against its baseline; `compare_variants` tests many against the same one and
controls the false alarms over all of them. Every number is a pure function of the scores and the settings,
the simulated parts included (their seed is a setting).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from stats.arrays import EvidenceError, Floats
from stats.combine import Combination, combine_scores
from stats.intervals import Interval, fay_lumbard_interval, t_interval
from stats.maxt import shares_blocks, step_down_max_t
from stats.multiplicity import Adjust, adjust_p_values
from stats.noninferiority import flip_noninferiority, t_noninferiority
from stats.power import decisive_items, minimal_detectable_effect
from stats.results import Comparison, Settings
from stats.scores import TaskScores
from stats.sharing import links_tasks, merged_blocks
from stats.verdict import Evidence, Verdict, decide, explain

__all__ = ["Comparison", "Settings", "TaskScores", "Verdict", "compare", "compare_variants"]

DEFAULTS = Settings()
UNSHARED = "Adjusted by Holm, for it is not known which items the variants have in common."


def compare(tasks: Sequence[TaskScores], settings: Settings = DEFAULTS) -> Comparison:
    """Compare one variant with its baseline.

    Args:
        tasks: the paired scores of every task, all temperatures apart.
        settings: level, margin and choice of tests; nothing is adjusted for other variants.

    Returns:
        The comparison over all tasks, with one for each task inside; p-values of the tasks are adjusted
        for their number.

    Raises:
        EvidenceError: if there is no task.
    """
    return compare_variants({"variant": tasks}, settings)["variant"]


def compare_variants(
    variants: Mapping[str, Sequence[TaskScores]], settings: Settings = DEFAULTS
) -> dict[str, Comparison]:
    """Compare many variants with the same baseline and adjust for their number.

    Args:
        variants: paired scores of every task, by variant.
        settings: level, margin, choice of tests and of the adjustment.

    Returns:
        One comparison per variant, in the same order.

    Raises:
        EvidenceError: if there is no variant, or one without a task.
    """
    if not variants:
        raise EvidenceError("There is no variant to compare: no evidence is never a pass.")
    measured = {name: _measure_variant(tasks, settings) for name, tasks in variants.items()}
    raw = np.array([comparison.p_value(settings.combine) for comparison in measured.values()])
    made = adjustment_for(variants, settings.adjust)
    if made == "maxt":
        adjusted = step_down_max_t(
            list(variants.values()), raw, settings.combine, settings.sign_vectors, settings.seed
        )
    else:
        adjusted = adjust_p_values(raw, made)
    note = (UNSHARED,) if (settings.adjust, made) == ("maxt", "holm") else ()
    return {
        name: _concluded(comparison, float(p), settings, note)
        for (name, comparison), p in zip(measured.items(), adjusted, strict=True)
    }


def adjustment_for(variants: Mapping[str, Sequence[TaskScores]], adjust: Adjust) -> Adjust:
    """The adjustment that can be made: none of a single p-value, Holm's where max-T finds no common blocks.

    Args:
        variants: paired scores of every task, by variant.
        adjust: what is asked for.
    """
    if len(variants) == 1:
        return "none"
    if adjust == "maxt" and not shares_blocks(list(variants.values())):
        return "holm"
    return adjust


def _measure_variant(tasks: Sequence[TaskScores], settings: Settings) -> Comparison:
    """All numbers of one variant; the p-values of its tasks are adjusted for their number only."""
    if not tasks:
        raise EvidenceError("There is no task to compare on: no evidence is never a pass.")
    whole = _measure(tasks, settings, combine_scores(tasks, settings.draws, settings.seed))
    if len(tasks) == 1:
        parts = [replace(whole, task=tasks[0].task)]
    else:
        parts = [_measure_task(task, settings) for task in tasks]
    by_task = settings.adjust if settings.adjust != "maxt" else "holm"
    adjusted = adjust_p_values(np.array([part.p_pooled for part in parts]), by_task)
    concluded = (_concluded(part, float(p), settings) for part, p in zip(parts, adjusted, strict=True))
    return replace(whole, tasks=tuple(concluded))


def _measure_task(task: TaskScores, settings: Settings) -> Comparison:
    combination = combine_scores([task], settings.draws, settings.seed)
    return replace(_measure([task], settings, combination), task=task.task)


def _measure(tasks: Sequence[TaskScores], settings: Settings, found: Combination) -> Comparison:
    """Everything but the conclusion, over the given tasks together."""
    items = sum(task.differences.size for task in tasks)
    worse, better = sum(task.worse for task in tasks), sum(task.better for task in tasks)
    drop = sum(float(task.differences.sum()) for task in tasks) / items
    sums, sizes = merged_blocks(tasks)
    interval, p_noninferior = _acceptability(tasks, sums, sizes, settings)
    return Comparison(
        items=items,
        missing=sum(task.missing for task in tasks),
        clusters=sums.size if _clustered(tasks) else None,
        reruns=(min(task.reruns[0] for task in tasks), min(task.reruns[1] for task in tasks)),
        baseline_score=sum(float(task.share(task.baseline).sum()) for task in tasks) / items,
        variant_score=sum(float(task.share(task.variant).sum()) for task in tasks) / items,
        drop=drop,
        drop_macro=float(np.mean([task.differences.mean() for task in tasks])),
        drop_interval=(interval.low, interval.high),
        worse=worse,
        better=better,
        flip_rate=(worse + better) / items,
        p_pooled=found.pooled.p,
        log_p_pooled=found.pooled.log_p,
        p_max_drop=found.p_max_drop,
        p_fisher=found.p_fisher,
        p_fisher_chi2=found.p_fisher_chi2,
        p_joint=found.p_joint,
        p_any=found.p_any,
        p_adjusted=found.p_value(settings.combine),
        method=found.method,
        standard_error=found.pooled.standard_error,
        smallest_p=found.pooled.smallest_p,
        p_noninferior=p_noninferior,
        mde=minimal_detectable_effect(items, float(sums @ sums) / items, settings.alpha, settings.power),
        items_needed=decisive_items(
            drop, float(sums @ sums) / items, settings.margin, settings.alpha, settings.power
        ),
        verdict=Verdict.INCONCLUSIVE,
        reasons=(),
    )


def _acceptability(
    tasks: Sequence[TaskScores], sums: Floats, sizes: Floats, settings: Settings
) -> tuple[Interval, float]:
    """Interval of the drop and non-inferiority: from the counts where they say all, else Student's t."""
    if all(task.binary for task in tasks) and not _clustered(tasks):
        counts = (sum(t.worse for t in tasks), sum(t.better for t in tasks), sums.size)
        interval = fay_lumbard_interval(*counts, settings.alpha)
        return interval, flip_noninferiority(*counts, settings.margin)
    reach = max(task.reach for task in tasks)
    interval = t_interval(sums, sizes, settings.alpha, reach)
    return interval, t_noninferiority(sums, sizes, settings.margin, reach)


def _clustered(tasks: Sequence[TaskScores]) -> bool:
    """Whether items are not independent: clusters within a task, or links within or across tasks."""
    return any(task.clusters is not None or task.labels is not None for task in tasks) or links_tasks(tasks)


def _concluded(
    found: Comparison, p_adjusted: float, settings: Settings, note: tuple[str, ...] = ()
) -> Comparison:
    """Add the adjusted p-value, the verdict and its reasons, a note last."""
    verdict = decide(p_adjusted, found.p_noninferior, settings.alpha)
    needed = found.items_needed if verdict is Verdict.INCONCLUSIVE else None
    evidence = Evidence(
        drop=found.drop,
        p=p_adjusted,
        p_noninferior=found.p_noninferior,
        smallest_p=found.smallest_p,
        blocks=found.clusters if found.clusters is not None else found.items,
        clustered=found.clusters is not None,
        items=found.items,
        mde=found.mde,
        items_needed=needed,
    )
    reasons = (*explain(evidence, settings.alpha, settings.margin), *note)
    return replace(found, p_adjusted=p_adjusted, verdict=verdict, items_needed=needed, reasons=reasons)
