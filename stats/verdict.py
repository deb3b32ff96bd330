"""The verdict on a variant, and the sentences that say why.

Two questions are asked and both are answered: is it significantly worse, and is it worse by less than the
margin? A variant can be both; the verdict is then "degraded", and the reasons say that it is within the
margin. "Not significant" alone is neither, and says what would decide it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What is known about a variant at the chosen level."""

    DEGRADED = "degraded"
    """Significantly worse than the baseline (adjusted p-value at most α)."""

    CERTIFIED = "certified"
    """Not worse by as much as the margin (non-inferiority p-value at most α)."""

    INCONCLUSIVE = "inconclusive"
    """Neither: more items are needed."""


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        drop: mean difference, in shares of the metric's range.
        p: adjusted p-value of "not worse".
        p_noninferior: p-value of "worse by at least the margin".
        smallest_p: the smallest p-value that these items or clusters could have given.
        blocks: items or clusters whose signs were flipped.
        clustered: whether the blocks are clusters.
        items: how many pairs.
        mde: smallest drop found with the planned power.
        items_needed: items that would decide it if drop and flip rate are as observed; None if unknown.
    """

    drop: float
    p: float
    p_noninferior: float
    smallest_p: float
    blocks: int
    clustered: bool
    items: int
    mde: float
    items_needed: int | None


def decide(p: float, p_noninferior: float, alpha: float) -> Verdict:
    """Degraded if p ≤ α, else certified if p_noninferior ≤ α, else inconclusive.

    Args:
        p: adjusted p-value of "the variant is not worse".
        p_noninferior: p-value of "the variant is worse by at least the margin".
        alpha: level of both.
    """
    if p <= alpha:
        return Verdict.DEGRADED
    return Verdict.CERTIFIED if p_noninferior <= alpha else Verdict.INCONCLUSIVE


def explain(evidence: Evidence, alpha: float, margin: float) -> tuple[str, ...]:
    """Sentences that say what the verdict rests on, the deciding one first.

    Args:
        evidence: the numbers.
        alpha: level.
        margin: non-inferiority margin.
    """
    reasons = [_significance(evidence, alpha), _acceptability(evidence, alpha, margin)]
    if evidence.smallest_p > alpha:
        kind = "clusters" if evidence.clustered else "items"
        reasons.append(
            f"Even if every difference found among these {evidence.blocks} {kind} pointed to worse, "
            f"p would be {evidence.smallest_p:.3g}."
        )
    if decide(evidence.p, evidence.p_noninferior, alpha) is Verdict.INCONCLUSIVE:
        reasons.append(_outlook(evidence))
    return tuple(reasons)


def _significance(evidence: Evidence, alpha: float) -> str:
    if evidence.p <= alpha:
        return f"Significantly worse: p = {evidence.p:.3g} ≤ {alpha:g}, drop {_points(evidence.drop)}."
    return f"Not significantly worse: p = {evidence.p:.3g} > {alpha:g}, drop {_points(evidence.drop)}."


def _acceptability(evidence: Evidence, alpha: float, margin: float) -> str:
    within = evidence.p_noninferior <= alpha
    said = "is within" if within else "is not shown to be within"
    sign = "≤" if within else ">"
    return (
        f"The drop {said} the margin of {_points(margin)}: "
        f"non-inferiority p = {evidence.p_noninferior:.3g} {sign} {alpha:g}."
    )


def _outlook(evidence: Evidence) -> str:
    able = f"With the planned power these {evidence.items:,} items show drops from {_points(evidence.mde)} on"
    if evidence.items_needed is None:
        return f"{able}; drop and flip rate as observed, no number of items would decide it."
    return f"{able}; drop and flip rate as observed, about {evidence.items_needed:,} items would decide it."


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"
