"""The verdict on a variant, and the sentences that say why, each with a code for programs.

Two questions are asked and both are answered: is it significantly worse, and is it worse by less than the
margin? A variant can be both; the verdict is then "degraded", and the reasons say that it is within the
margin. "Not significant" alone is neither, and says what would decide it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from stats.tasks.combinations import Combine

Decider: TypeAlias = Combine | Literal["noninferiority"]


class Verdict(StrEnum):
    """What is known about a variant at the chosen level."""

    DEGRADED = "degraded"
    """Significantly worse than the baseline (adjusted p-value at most α)."""

    CERTIFIED = "certified"
    """Not worse by as much as the margin (non-inferiority p-value at most α)."""

    INCONCLUSIVE = "inconclusive"
    """Neither: more items are needed."""


class Code(StrEnum):
    """What a reason says."""

    SIGNIFICANT = "significant"
    ONE_TASK_DECIDES = "one-task-decides"
    NOT_SIGNIFICANT = "not-significant"
    NOT_SIGNIFICANT_ADJUSTED = "not-significant-adjusted"
    WITHIN_MARGIN = "within-margin"
    NOT_WITHIN_MARGIN = "not-within-margin"
    WITHIN_MARGIN_PAIRS_ONLY = "within-margin-pairs-only"
    WITHIN_MARGIN_UNADJUSTED = "within-margin-unadjusted"
    UNBOUNDED_WITHOUT_MARGIN = "unbounded-without-margin"
    UNBOUNDED_MISSING = "unbounded-missing"
    MISSING_WORST_CASE = "missing-worst-case"
    MISSING_DROPPED = "missing-dropped"
    DEGRADED_BEST_CASE = "degraded-best-case"
    NOT_DEGRADED_BEST_CASE = "not-degraded-best-case"
    SMALLEST_P = "smallest-p"
    OUTLOOK = "outlook"
    UNSHARED_ITEMS = "unshared-items"
    SEVERAL_CERTIFICATES = "several-certificates"
    STOPPED_DEGRADED = "stopped-degraded"
    STOPPED_CERTIFIED = "stopped-certified"
    LAST_LOOK = "last-look"
    LOOKS_PENDING = "looks-pending"
    ESTIMATE_AFTER_STOP = "estimate-after-stop"
    FINISHED_LATER = "finished-later"
    TASK_NOT_TESTED = "task-not-tested"


@dataclass(frozen=True)
class Reason:
    """One sentence and its code."""

    code: Code
    text: str


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        drop: mean difference, in the unit of the margin.
        p: adjusted p-value of "not worse".
        p_unadjusted: the same before adjustment for the number of comparisons.
        p_noninferior: p-value of "worse by at least the margin", in the worst case for missing answers.
        p_noninferior_paired: the same on the pairs.
        p_noninferior_adjusted: the deciding one.
        margin: None where scores without bounds have none.
        shares: whether drop and margin are shares of the range.
        gaps: missing or failed answers, of both models.
        gaps_dropped: whether they are left out of account.
        drop_bounds: drop at best and at worst for the variant; infinite where scores have no bounds.
        p_best: pooled p-value at best for the variant.
        deciding_task: the task that decides alone, None if none does.
        smallest_p: the smallest p-value that these items or clusters could have given.
        blocks: items or clusters whose signs were flipped.
        clustered: whether the blocks are clusters.
        items: how many pairs.
        mde: smallest drop found with the planned power.
        items_needed: items that would be enough to decide, with differences as observed; None if unknown.
    """

    drop: float
    p: float
    p_unadjusted: float
    p_noninferior: float
    p_noninferior_paired: float
    p_noninferior_adjusted: float
    margin: float | None
    shares: bool
    gaps: int
    gaps_dropped: bool
    drop_bounds: tuple[float, float]
    p_best: float
    deciding_task: str | None
    smallest_p: float
    blocks: int
    clustered: bool
    items: int
    mde: float
    items_needed: int | None

    def size(self, drop: float) -> str:
        """A drop with its unit."""
        return size_text(drop, shares=self.shares)


def size_text(drop: float, *, shares: bool) -> str:
    """A drop with its unit: points, or the metric's own."""
    return f"{100 * drop:.2f} points" if shares else f"{drop:.4g} in the metric's unit"


def decide(p: float, p_noninferior: float, alpha: float) -> Verdict:
    """Degraded if p ≤ α, else certified if p_noninferior ≤ α, else inconclusive.

    Args:
        p: adjusted p-value of "the variant is not worse".
        p_noninferior: adjusted p-value of "the variant is worse by at least the margin".
        alpha: level of both.
    """
    if p <= alpha:
        return Verdict.DEGRADED
    return Verdict.CERTIFIED if p_noninferior <= alpha else Verdict.INCONCLUSIVE


def explain(evidence: Evidence, alpha: float) -> tuple[Reason, ...]:
    """Sentences that say what the verdict rests on, the deciding one first.

    Args:
        evidence: the numbers.
        alpha: level.
    """
    verdict = decide(evidence.p, evidence.p_noninferior_adjusted, alpha)
    reasons = [_significance(evidence, alpha), _acceptability(evidence, alpha)]
    if evidence.gaps:
        reasons.append(
            missing_reason(
                evidence.gaps, evidence.drop_bounds, shares=evidence.shares, dropped=evidence.gaps_dropped
            )
        )
        if verdict is Verdict.DEGRADED:
            reasons.append(_best_case(evidence, alpha))
    if evidence.smallest_p > alpha:
        kind = "clusters" if evidence.clustered else "items"
        text = (
            f"Even if every difference found among these {evidence.blocks} {kind} were in the baseline's "
            f"favour, p would be {evidence.smallest_p:.3g}."
        )
        reasons.append(Reason(Code.SMALLEST_P, text))
    if verdict is Verdict.INCONCLUSIVE:
        reasons.append(_outlook(evidence))
    return tuple(reasons)


def certificates_note(certified: int, alpha: float, *, adjusted: bool) -> Reason | None:
    """What several certificates at once promise; None for fewer than two.

    Args:
        certified: variants certified in one call.
        alpha: level of each.
        adjusted: whether they were adjusted for their number.
    """
    if certified < 2:
        return None
    if adjusted:
        text = f"All {certified} certificates hold together at level {alpha:g} (adjusted by Holm)."
    else:
        text = (
            f"Each of the {certified} certificates holds by itself at level {alpha:g}. The chance that at "
            "least one of them is wrong can be higher: adjust for their number when choosing among variants."
        )
    return Reason(Code.SEVERAL_CERTIFICATES, text)


def _significance(evidence: Evidence, alpha: float) -> Reason:
    drop = evidence.size(evidence.drop)
    if evidence.p <= alpha:
        p = f"p = {evidence.p:.3g} ≤ {alpha:g}"
        if evidence.deciding_task is None:
            return Reason(Code.SIGNIFICANT, f"Significantly worse: {p}, drop {drop}.")
        text = (
            f"Significantly worse on task {evidence.deciding_task}: {p}; the drop over all items is {drop}."
        )
        return Reason(Code.ONE_TASK_DECIDES, text)
    text = f"Not significantly worse: p = {evidence.p:.3g} > {alpha:g}, drop {drop}."
    if evidence.p_unadjusted > alpha:
        return Reason(Code.NOT_SIGNIFICANT, text)
    text += f" Before adjustment for the number of comparisons p is {evidence.p_unadjusted:.3g}."
    return Reason(Code.NOT_SIGNIFICANT_ADJUSTED, text)


def _acceptability(evidence: Evidence, alpha: float) -> Reason:
    if evidence.margin is None:
        text = (
            "The scores have no known range, so a margin as a share of it is undefined: a certificate needs "
            "a margin in the metric's own unit."
        )
        return Reason(Code.UNBOUNDED_WITHOUT_MARGIN, text)
    margin, p = evidence.size(evidence.margin), evidence.p_noninferior_adjusted
    if p <= alpha:
        text = f"The drop is within the margin of {margin}: non-inferiority p = {p:.3g} ≤ {alpha:g}."
        return Reason(Code.WITHIN_MARGIN, text)
    found = f"non-inferiority p = {p:.3g} > {alpha:g}"
    text = f"The drop was not shown to be within the margin of {margin}: {found}."
    if evidence.p_noninferior <= alpha:
        code = Code.WITHIN_MARGIN_UNADJUSTED
        text += f" Unadjusted for the other variants, p is {evidence.p_noninferior:.3g}."
    elif evidence.gaps and evidence.p_noninferior_paired <= alpha:
        code = Code.WITHIN_MARGIN_PAIRS_ONLY
        text += (
            f" On the paired items alone p is {evidence.p_noninferior_paired:.3g}, but answers are missing."
        )
    else:
        code = Code.NOT_WITHIN_MARGIN
    return Reason(code, text)


def missing_reason(
    count: int,
    bounds: tuple[float, float],
    *,
    shares: bool,
    dropped: bool = False,
    items: str = "all planned items",
) -> Reason:
    """How far missing and failed answers could move the drop.

    Args:
        count: missing and failed answers, of both models.
        bounds: drop over these items at best and at worst for the variant; infinite without a range.
        shares: whether these are shares of the range.
        dropped: whether such answers are left out of account.
        items: which ones count.
    """
    gaps = f"{count:,} planned answers are missing or failed"
    best, worst = bounds
    if not best > -float("inf"):
        text = f"{gaps}, and for scores without a range their effect has no bound."
        return Reason(Code.UNBOUNDED_MISSING, text)
    limits = " and ".join(size_text(drop, shares=shares) for drop in (best, worst))
    bounded = f"the drop over {items} is between {limits}"
    if dropped:
        text = f"{gaps} and are ignored; whatever their scores, {bounded}."
        return Reason(Code.MISSING_DROPPED, text)
    return Reason(Code.MISSING_WORST_CASE, f"{gaps}; whatever their scores, {bounded}.")


def _best_case(evidence: Evidence, alpha: float) -> Reason:
    p = f"pooled p = {evidence.p_best:.3g}"
    if evidence.p_best <= alpha:
        text = f"Even with every missing answer in the variant's favour it would be significantly worse: {p}."
        return Reason(Code.DEGRADED_BEST_CASE, text)
    text = f"With every missing answer in the variant's favour it would not be significantly worse: {p}."
    return Reason(Code.NOT_DEGRADED_BEST_CASE, text)


def _outlook(evidence: Evidence) -> Reason:
    kind = "clusters" if evidence.clustered else "items"
    detectable = f"drops of at least {evidence.size(evidence.mde)}"
    able = f"At the planned power these {evidence.items:,} items detect {detectable}"
    if evidence.mde == float("inf"):
        able = f"These {evidence.blocks:,} {kind} are too few to detect any drop"
    if evidence.items_needed is None:
        rest = "with differences as observed, no number of items would be enough to decide"
    else:
        rest = (
            f"with differences as observed, about {evidence.items_needed:,} items would be enough to decide"
        )
    return Reason(Code.OUTLOOK, f"{able}; {rest}.")
