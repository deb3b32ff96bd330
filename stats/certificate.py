"""The certificate: is the drop below the margin for any value of the missing answers?

Shares of a range and units of a metric cannot be averaged. Scores without bounds have a margin in their own
unit or no certificate, and a variant measured on several kinds of scores is certified where every one of them
is (intersection–union: the largest p-value holds the level).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stats.drop.evidence import DropEvidence, evidence_of
from stats.drop.intervals import Interval
from stats.results import Settings, Unit
from stats.scores import Case, MissingAnswers, TaskScores, lacking_of
from stats.sharing import merged_blocks
from stats.signflip import SignFlipNull

BARELY = 1e-9
"""Distance from a value at which a limit is put that must be on one side of it but is not."""

MOST_TAIL = 0.49
"""One-sided limits exist for levels below ½ only."""


@dataclass(frozen=True)
class Certificate:
    """What is known about the size of a drop.

    Attributes:
        interval: two-sided at 1 − α, on the pairs.
        decision: the interval at 1 − 2α that decides; above in the worst case.
        p: p-value of "the drop is at least the margin", in the worst case unless missing answers are dropped.
        p_paired: the same on the pairs.
        margin: in the unit named, None where scores without bounds have none.
        unit: share of the range, the metric's own, or both.
        lacking: what is missing, by task.
        drop_bounds: drop over all planned items, at best and at worst.
        p_pooled_bounds: pooled sign-flip p-value at best and at worst.
        unbounded: whether missing scores have no bounds, so that nothing is the worst.
        evidence: the deciding evidence where there is one unit, else None.
    """

    interval: Interval
    decision: Interval
    p: float
    p_paired: float
    margin: float | None
    unit: Unit
    lacking: tuple[MissingAnswers, ...]
    drop_bounds: tuple[float, float]
    p_pooled_bounds: tuple[float, float]
    unbounded: bool
    evidence: DropEvidence | None


def certificate_of(
    tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], settings: Settings, p_pooled: float
) -> Certificate:
    """Bound the drop of one variant.

    Args:
        tasks: the pairs of every task.
        absent: what is missing of tasks on which nothing pairs.
        settings: level, margin and what to do with missing answers.
        p_pooled: p-value of the pooled test, with which the deciding interval agrees about 0.
    """
    lacking = tuple(found for found in (*map(lacking_of, tasks), *absent) if found is not None)
    unit, margin = unit_of(tasks, settings)
    paired = evidence_of(tasks)
    p_paired = _p_value(tasks, settings)
    best, worst = (completed(tasks, absent, case) for case in ("best", "worst"))
    counted = bool(lacking) and settings.missing == "worst"
    deciding, p = paired, p_paired
    if counted and worst is not None:
        deciding, p = evidence_of(worst), max(p_paired, _p_value(worst, settings))
    elif counted:
        p = 1.0
    return Certificate(
        interval=paired.interval(settings.alpha),
        decision=_decision(paired, deciding, margin, settings.alpha, p_pooled=p_pooled, p=p),
        p=p,
        p_paired=p_paired,
        margin=margin,
        unit=unit,
        lacking=lacking,
        drop_bounds=bounds_of_drop(best, worst),
        p_pooled_bounds=_p_bounds(best, worst, p_pooled) if lacking else (p_pooled, p_pooled),
        unbounded=worst is None,
        evidence=deciding if margin is not None and not (counted and worst is None) else None,
    )


def unit_of(tasks: Sequence[TaskScores], settings: Settings) -> tuple[Unit, float | None]:
    """The unit of drop and margin, and the margin where there is one."""
    if all(task.bounds is not None for task in tasks):
        return "share", settings.margin
    return ("metric", tasks[0].margin) if len(tasks) == 1 else ("mixed", None)


def _p_value(tasks: Sequence[TaskScores], settings: Settings) -> float:
    """The largest p-value of all units: bounded scores together, every task without bounds alone."""
    bounded = [task for task in tasks if task.bounds is not None]
    found = [evidence_of(bounded).p_noninferior(settings.margin)] if bounded else []
    alone = [task for task in tasks if task.bounds is None]
    found += [evidence_of([t]).p_noninferior(t.margin) if t.margin is not None else 1.0 for t in alone]
    return max(found)


def completed(
    tasks: Sequence[TaskScores], absent: Sequence[MissingAnswers], case: Case
) -> list[TaskScores] | None:
    """All planned items, missing scores filled in; None where something without bounds is missing."""
    filled: list[TaskScores | None] = []
    for task in tasks:
        lacking = lacking_of(task)
        filled.append(task if lacking is None else lacking.completed(task, case))
    filled += [lacking.completed(None, case) for lacking in absent]
    known = [task for task in filled if task is not None]
    return known if len(known) == len(filled) else None


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
    limits = paired.limits(tail)
    high = limits.high if deciding is paired else max(limits.high, deciding.limits(tail).high)
    low = max(limits.low, BARELY) if p_pooled <= alpha else min(limits.low, 0.0)
    return Interval(low, min(high, margin * (1.0 - BARELY)) if p <= alpha else max(high, margin))


def bounds_of_drop(best: list[TaskScores] | None, worst: list[TaskScores] | None) -> tuple[float, float]:
    """Mean drop over all planned items, at best and at worst; infinite where there is no best and worst."""
    if best is None or worst is None:
        return -float("inf"), float("inf")
    return _mean(best), _mean(worst)


def _mean(tasks: Sequence[TaskScores]) -> float:
    return float(np.concatenate([task.differences for task in tasks]).mean())


def _p_bounds(
    best: list[TaskScores] | None, worst: list[TaskScores] | None, p_pooled: float
) -> tuple[float, float]:
    """Sign-flip tests of the filled-in differences; 1 and the p-value found without bounds."""
    if best is None or worst is None:
        return 1.0, p_pooled
    first, second = (SignFlipNull(merged_blocks(tasks)[0]).result().p for tasks in (best, worst))
    return first, second
