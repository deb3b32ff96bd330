"""The verdict on a variant, and codes for what it rests on; `jobs.text.reasons` puts these into words.

Two questions are asked and both are answered: is it significantly worse, and is it worse by less than the
margin? A variant can be both; the verdict is then "degraded", and the codes say that it is within the margin.
"Not significant" alone is neither, and a code says what would decide it.
"""

from enum import StrEnum
from typing import Literal, TypeAlias

from stats.tasks.combinations import Combine

Decider: TypeAlias = Combine | Literal["noninferiority"]


class Verdict(StrEnum):
    """What is known about a variant at the chosen level."""

    DEGRADED = "degraded"  # significantly worse than the baseline: adjusted p-value at most α
    CERTIFIED = "certified"  # not worse by as much as the margin: non-inferiority p-value at most α
    INCONCLUSIVE = "inconclusive"  # neither: more items are needed


class Code(StrEnum):
    """What a reason says; part of verdicts.json (`reason_codes`)."""

    SIGNIFICANT = "significant"
    ONE_TASK_DECIDES = "one-task-decides"
    NOT_SIGNIFICANT = "not-significant"
    NOT_SIGNIFICANT_ADJUSTED = "not-significant-adjusted"
    WITHIN_MARGIN = "within-margin"
    NOT_WITHIN_MARGIN = "not-within-margin"
    WITHIN_MARGIN_PAIRS_ONLY = "within-margin-pairs-only"
    WITHIN_MARGIN_UNADJUSTED = "within-margin-unadjusted"
    DIRECTION_UNKNOWN = "direction-unknown"
    UNBOUNDED_WITHOUT_MARGIN = "unbounded-without-margin"
    UNBOUNDED_MISSING = "unbounded-missing"
    MISSING_WORST_CASE = "missing-worst-case"
    MISSING_DROPPED = "missing-dropped"
    DEGRADED_BEST_CASE = "degraded-best-case"
    NOT_DEGRADED_BEST_CASE = "not-degraded-best-case"
    SMALLEST_P = "smallest-p"
    OUTLOOK = "outlook"
    UNSHARED_ITEMS = "unshared-items"
    STOPPED_DEGRADED = "stopped-degraded"
    STOPPED_CERTIFIED = "stopped-certified"
    RELEASE_BLOCKED = "release-blocked"
    LAST_LOOK = "last-look"
    LOOKS_PENDING = "looks-pending"
    ESTIMATE_AFTER_STOP = "estimate-after-stop"
    FINISHED_LATER = "finished-later"
    TASK_NOT_TESTED = "task-not-tested"


def decide(p: float, p_noninferior: float, alpha: float) -> Verdict:
    """Degraded if p ≤ α, else certified if p_noninferior ≤ α, else inconclusive.

    These are the adjusted p-values of "not worse", and of "worse by at least the margin".
    """
    if p <= alpha:
        return Verdict.DEGRADED
    return Verdict.CERTIFIED if p_noninferior <= alpha else Verdict.INCONCLUSIVE
