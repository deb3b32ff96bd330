"""What is asked of a comparison and what it answers: the two frozen records of this package's front door."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from stats.distributions.nulls import DRAWS, SIGN_VECTORS
from stats.drop import Certificate
from stats.multiplicity import Adjust
from stats.signflip import Method
from stats.tasks.combinations import BY_NAME, Combine
from stats.verdict import Code, Decider, Verdict

Missing: TypeAlias = Literal["worst", "drop"]
"""What missing and failed answers are for a certificate: losses of the variant, or left out."""

Certify: TypeAlias = Literal["each", "all"]
"""What a certificate holds for: each variant by itself, or all of them together."""

Unit: TypeAlias = Literal["share", "metric", "mixed"]

CHOICES: dict[str, tuple[str, ...]] = {
    "combine": tuple(BY_NAME),
    "adjust": get_args(Adjust),
    "missing": get_args(Missing),
    "certify": get_args(Certify),
    "certificate": get_args(Certificate),
}
"""The settings that are one of several names."""


@dataclass(frozen=True)
class Settings:
    """What is asked of the tests."""

    alpha: float = 0.05  # level of the tests; intervals have confidence 1 − α, two-sided
    margin: float = 0.01  # largest acceptable drop, in shares of the metric's range
    combine: Combine = "joint"  # which combination over tasks decides
    adjust: Adjust = "maxt"  # how p-values are adjusted for the number of variants
    power: float = 0.8  # behind the minimal detectable effect and the items needed
    draws: int = DRAWS  # where a distribution is not exact
    sign_vectors: int = SIGN_VECTORS  # most draws of the step-down max-T; none where it is exact
    seed: int = 0  # of all draws
    missing: Missing = "worst"
    certify: Certify = "each"
    certificate: Certificate = "default"

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("margin", self.margin), ("power", self.power)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} must be between 0 and 1, but is {value}.")
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, but is {value!r}.")


TABLES_ONLY = ("drop_macro", "p_any", "p_fisher_chi2", "log_p_pooled", "standard_error", "smallest_p")
"""Numbers of a comparison that tables have beyond verdicts.json."""

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against its baseline, over all tasks or on one of them.

    Scores and drops are shares of the metric's range, averaged over all pairs (micro average). Where
    looks decided (`stats.comparison`), the p-values of tests that are made once are NaN, and both
    intervals are the repeated one. verdicts.json has the fields in this order, but for `TABLES_ONLY`.

    Attributes:
        verdict: degraded, certified or inconclusive.
        reasons: sentences that say why, as soon as `jobs.text.reasons` has put the codes into words.
        reason_codes: why, the deciding reason first (`stats.verdict.Code`).
        items: pairs.
        missing: items that do not pair.
        missing_answers: planned answers that are not there and did not fail, (baseline, variant).
        failed_answers: answers that are errors, (baseline, variant).
        clusters: number of clusters, None where items are independent.
        reruns: fewest reruns behind an item's score, (baseline, variant).
        baseline_score: mean score of the baseline on the pairs.
        variant_score: mean score of the variant on the pairs.
        drop: how much worse the variant is on average; negative if it is better.
        drop_adjusted: of a comparison that was stopped early the drop without the bias of that; else NaN.
        drop_interval: confidence interval of the drop at 1 − α, on the pairs, (low, high).
        drop_interval_decision: the limits that decide, at 1 − α each: right of 0 exactly where p_pooled ≤ α,
            left of the margin exactly where p_noninferior ≤ α.
        drop_interval_simultaneous: of one of T tasks, the same at α/T, so that the intervals of all hold
            together (Bonferroni), whichever is looked at; else drop_interval_decision.
        drop_shrunken: of a task, its drop after allowing for its choice among all tasks
            (`stats.comparison.shrinkage`); NaN for all tasks together, and where looks decided.
        drop_bounds: the drop over all planned items with every missing answer as good, and as bad, for the
            variant as possible, (best, worst); infinite where scores have no bounds.
        worse: items on which the variant scores lower (b).
        better: items on which it scores higher (c).
        flip_rate: (b + c)/N.
        p_pooled: sign-flip test on all items together.
        p_pooled_bounds: the same with missing answers as in drop_bounds, (best, worst).
        p_max_drop: largest standardised drop of a task.
        p_fisher: Fisher's combination under its exact distribution.
        p_joint: the smallest of the first three, calibrated.
        p_adjusted: the deciding p-value, adjusted for multiplicity.
        method: whether every distribution was exact.
        margin: largest acceptable drop; None where scores without bounds have none.
        margin_unit: share of the metric's range, the metric's own unit, or one for each kind of task.
        p_noninferior: p-value of "the drop is at least the margin", in the worst case for missing answers.
        p_noninferior_paired: the same on the pairs alone.
        p_noninferior_adjusted: p_noninferior, adjusted for the number of variants where all certificates are
            to hold together; certified where it is at most α.
        decided_by: the statistic behind the verdict; None where it is inconclusive.
        deciding_task: the task whose drop makes a variant degraded that the pooled test alone would not.
        mde: smallest true drop that these items show with the planned power; infinite where none is.
        items_needed: items that would decide an inconclusive verdict; None where decided or out of reach.
        drop_macro: mean over tasks of each task's drop.
        p_any: the smallest of the three, not calibrated.
        p_fisher_chi2: Fisher's combination under χ², conservative.
        log_p_pooled: natural logarithm of p_pooled, without the floor of 1e-300.
        standard_error: of p_pooled, 0 where it is exact.
        smallest_p: the smallest p_pooled that these blocks could give.
        task: name of the task, None for all together.
        tasks: the same for each task.
    """

    verdict: Verdict = Verdict.INCONCLUSIVE
    reasons: tuple[str, ...] = ()
    reason_codes: tuple[Code, ...] = ()
    items: int
    missing: int
    missing_answers: tuple[int, int]
    failed_answers: tuple[int, int]
    clusters: int | None
    reruns: tuple[int, int]
    baseline_score: float
    variant_score: float
    drop: float
    drop_adjusted: float = NAN
    drop_interval: tuple[float, float]
    drop_interval_decision: tuple[float, float]
    drop_interval_simultaneous: tuple[float, float] = (NAN, NAN)
    drop_shrunken: float = NAN
    drop_bounds: tuple[float, float]
    worse: int
    better: int
    flip_rate: float
    p_pooled: float = NAN
    p_pooled_bounds: tuple[float, float] = (NAN, NAN)
    p_max_drop: float = NAN
    p_fisher: float = NAN
    p_joint: float = NAN
    p_adjusted: float = NAN
    method: Method = "exact"
    margin: float | None
    margin_unit: Unit
    p_noninferior: float = NAN
    p_noninferior_paired: float = NAN
    p_noninferior_adjusted: float = NAN
    decided_by: Decider | None = None
    deciding_task: str | None = None
    mde: float = NAN
    items_needed: int | None = None
    drop_macro: float
    p_any: float = NAN
    p_fisher_chi2: float = NAN
    log_p_pooled: float = NAN
    standard_error: float = 0.0
    smallest_p: float = NAN
    task: str | None = None
    tasks: tuple["Comparison", ...] = ()

    def p_value(self, combine: Combine) -> float:
        """The unadjusted p-value that the named combination decides by."""
        return float(getattr(self, BY_NAME[combine].field))

    @property
    def blocks(self) -> int:
        """Items or clusters whose signs are flipped."""
        return self.items if self.clusters is None else self.clusters

    @property
    def gaps(self) -> int:
        """Missing and failed answers, of both models."""
        return sum((*self.missing_answers, *self.failed_answers))
