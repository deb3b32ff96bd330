"""Many hypotheses behind one decision: may this release ship?

A release is blocked by damage on any of several tasks, variants and temperatures, or over all tasks together.
All of these are one family: their exact p-values of "not worse" are adjusted by Holm (1979), which needs no
assumption about their dependence, so that a release without damage is blocked with a probability of at most
α. Hypotheses may have levels of their own below α: an adjusted p-value is compared with the smaller one.

Certificates need no adjustment. A release passes only if *every* required certificate is there, so a
release with a task that is worse by the margin passes only if that task's own test errs: with a probability
of at most its level (an intersection–union test; Berger 1982).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stats.conclusion import conclude, measure
from stats.multiplicity import holm
from stats.results import Comparison, Settings
from stats.scores import MissingAnswers, TaskScores


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
        [1.0 if found is None else found.comparison.p_value(settings.combine) for found in measured]
    )
    family = np.flatnonzero([each.blocks for each in hypotheses])
    adjusted = raw.copy()
    adjusted[family] = holm(raw[family])
    concluded: list[Comparison | None] = []
    for found, chosen, p, each in zip(measured, own, adjusted, hypotheses, strict=True):
        if found is None:
            concluded.append(None)
            continue
        share = 1.0 / family.size if each.blocks else 1.0
        task = each.tasks[0].task if len(each.tasks) == 1 else None
        q = found.comparison.p_noninferior
        concluded.append(conclude(found, chosen, p=float(p), p_noninferior=q, share=share, task=task))
    return concluded
