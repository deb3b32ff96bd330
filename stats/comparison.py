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
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from stats.arrays import EvidenceError
from stats.conclusion import Measured, conclude, measure
from stats.multiplicity import Adjust, adjust_p_values, holm, shares_blocks, step_down_max_t
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers, TaskScores
from stats.verdict import Code, Verdict

__all__ = ["Comparison", "Settings", "TaskScores", "Verdict", "compare", "compare_family", "compare_variants"]

DEFAULTS = Settings()


def compare(tasks: Sequence[TaskScores], settings: Settings = DEFAULTS) -> Comparison:
    """Compare one variant with its baseline.

    Args:
        tasks: the paired scores of every task, all temperatures apart.
        settings: level, margin and choice of tests; nothing is adjusted for other variants.

    Returns:
        The comparison over all tasks, with one for each task inside; p-values of the tasks are adjusted
        for their number. Planned tasks on which nothing pairs need `compare_variants`.

    Raises:
        EvidenceError: if there is no task.
    """
    return compare_variants({"variant": tasks}, settings)["variant"]


def compare_variants(
    variants: Mapping[str, Sequence[TaskScores]],
    settings: Settings = DEFAULTS,
    absent: Mapping[str, Sequence[MissingAnswers]] | None = None,
) -> dict[str, Comparison]:
    """Compare many variants with the same baseline and adjust for their number.

    Args:
        variants: paired scores of every task, by variant.
        settings: level, margin, choice of tests and of the adjustment.
        absent: by variant, what is missing of planned tasks on which nothing pairs.

    Returns:
        One comparison per variant, in the same order.

    Raises:
        EvidenceError: if there is no variant, or one without a task.
    """
    if not variants:
        raise EvidenceError("There are no variants to compare, so there is no verdict.")
    missing, measured = absent or {}, dict[str, tuple[Measured, tuple[Comparison, ...]]]()
    for name, tasks in variants.items():
        if not tasks:
            raise EvidenceError("There are no tasks to compare on, so there is no verdict.")
        gaps = missing.get(name, ())
        whole = measure(tasks, gaps, settings)
        parts = [whole] if len(tasks) == 1 and not gaps else [measure([task], (), settings) for task in tasks]
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
        name: conclude(
            whole, settings, p=float(p), p_noninferior=float(q), share=share, parts=tested, notes=notes
        )
        for (name, (whole, tested)), p, q in zip(measured.items(), adjusted, certificates, strict=True)
    }


def adjustment_for(variants: Mapping[str, Sequence[TaskScores]], adjust: Adjust) -> Adjust:
    """What can be made: no adjustment of a single p-value, Holm's where max-T finds no common blocks."""
    if len(variants) == 1:
        return "none"
    if adjust == "maxt" and not shares_blocks(list(variants.values())):
        return "holm"
    return adjust


def _share(comparisons: int, made: Adjust) -> float:
    """The part of α that one of so many comparisons can count on."""
    return 1.0 / comparisons if made in {"holm", "maxt"} else 1.0


def _conclude_tasks(
    tasks: Sequence[TaskScores], parts: Sequence[Measured], settings: Settings
) -> tuple[Comparison, ...]:
    """The tasks of a variant, concluded at levels adjusted for their own number."""
    by_task: Adjust = settings.adjust if settings.adjust != "maxt" else "holm"
    adjusted = adjust_p_values(np.array([comparison.p_pooled for comparison, *_ in parts]), by_task)
    share, concluded = _share(len(parts), by_task), []
    for task, part, p in zip(tasks, parts, adjusted, strict=True):
        q = part[0].p_noninferior
        concluded.append(conclude(part, settings, p=float(p), p_noninferior=q, share=share, task=task.task))
    return tuple(concluded)


Hypothesis: TypeAlias = tuple[Sequence[TaskScores], Sequence[MissingAnswers], Settings]
"""One question of a family, whether a variant is worse on some tasks: their paired scores (none where nothing
pairs), what is missing of planned tasks on which nothing pairs, and its own level and margin."""


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
        if whole is None:
            concluded.append(None)
        else:
            q = whole[0].p_noninferior
            concluded.append(conclude(whole, settings, p=float(p), p_noninferior=q, share=share, task=task))
    return concluded
