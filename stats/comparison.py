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
from dataclasses import dataclass, replace

import numpy as np

from stats.arrays import EvidenceError
from stats.conclusion import Measured, conclude, measure
from stats.multiplicity import Adjust, adjust_p_values, holm
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers, TaskScores
from stats.tasks.maxt import shares_blocks, step_down_max_t
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
    missing = absent or {}
    measured = {
        name: _measure_variant(tasks, missing.get(name, ()), settings) for name, tasks in variants.items()
    }
    raw = np.array([whole.comparison.p_value(settings.combine) for whole, _ in measured.values()])
    made = adjustment_for(variants, settings.adjust)
    adjusted = (
        adjust_p_values(raw, made)
        if made != "maxt"
        else step_down_max_t(
            list(variants.values()), raw, settings.combine, settings.sign_vectors, settings.seed
        )
    )
    certificates = np.array([whole.comparison.p_noninferior for whole, _ in measured.values()])
    if settings.certify == "all":
        certificates = holm(certificates)
    notes = (Code.UNSHARED_ITEMS,) if (settings.adjust, made) == ("maxt", "holm") else ()
    share = _share(len(variants), made)
    return {
        name: conclude(
            whole, settings, p=float(p), p_noninferior=float(q), share=share, parts=parts, notes=notes
        )
        for (name, (whole, parts)), p, q in zip(measured.items(), adjusted, certificates, strict=True)
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


def _share(comparisons: int, made: Adjust) -> float:
    """The part of α that one of so many comparisons can count on."""
    return 1.0 / comparisons if made in {"holm", "maxt"} else 1.0


def _measure_variant(
    tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], settings: Settings
) -> tuple[Measured, tuple[Comparison, ...]]:
    """All numbers of one variant, and its tasks concluded at levels adjusted for their own number."""
    if not tasks:
        raise EvidenceError("There are no tasks to compare on, so there is no verdict.")
    whole = measure(tasks, absent, settings)
    parts = [whole] if len(tasks) == 1 and not absent else [measure([task], (), settings) for task in tasks]
    by_task: Adjust = settings.adjust if settings.adjust != "maxt" else "holm"
    adjusted = adjust_p_values(np.array([part.comparison.p_pooled for part in parts]), by_task)
    share = _share(len(parts), by_task)
    concluded = (
        conclude(
            part,
            settings,
            p=float(p),
            p_noninferior=part.comparison.p_noninferior,
            share=share,
            task=task.task,
        )
        for part, task, p in zip(parts, tasks, adjusted, strict=True)
    )
    return whole, tuple(concluded)


@dataclass(frozen=True)
class Hypothesis:
    """One question of a family: is a variant worse on some tasks?

    Attributes:
        tasks: the paired scores; none where nothing pairs.
        absent: what is missing of planned tasks on which nothing pairs.
        alpha: its level, at most that of the family.
        margin: largest acceptable drop, in shares of the metric's range.
        blocks: whether it is one of the family; the others are not adjusted.
    """

    tasks: Sequence[TaskScores]
    absent: Sequence[MissingAnswers]
    alpha: float
    margin: float
    blocks: bool


def compare_family(hypotheses: Sequence[Hypothesis], settings: Settings) -> list[Comparison | None]:
    """Compare every hypothesis, those that can block adjusted for each other.

    Args:
        hypotheses: the questions, those on which nothing pairs included: they count with a p-value of 1.
        settings: test over several tasks, and what to do with missing answers; level, margin and adjustment
            are the hypotheses' own.

    Returns:
        One comparison per hypothesis, its verdict at its own level; None where nothing pairs.
    """
    own = [replace(settings, alpha=each.alpha, margin=each.margin) for each in hypotheses]
    measured = [
        measure(each.tasks, each.absent, chosen) if each.tasks else None
        for each, chosen in zip(hypotheses, own, strict=True)
    ]
    raw = np.array(
        [1.0 if whole is None else whole.comparison.p_value(settings.combine) for whole in measured]
    )
    family = np.flatnonzero([each.blocks for each in hypotheses])
    adjusted = raw.copy()
    adjusted[family] = holm(raw[family])
    concluded: list[Comparison | None] = [None] * len(hypotheses)
    for number, (each, whole) in enumerate(zip(hypotheses, measured, strict=True)):
        if whole is not None:
            concluded[number] = conclude(
                whole,
                own[number],
                p=float(adjusted[number]),
                p_noninferior=whole.comparison.p_noninferior,
                share=1.0 / family.size if each.blocks else 1.0,
                task=each.tasks[0].task if len(each.tasks) == 1 else None,
            )
    return concluded
