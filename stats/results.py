"""What is asked of a comparison and what it answers: the two frozen records of this package's front door."""

from dataclasses import dataclass

from stats.combine import Combine
from stats.maxt import SIGN_VECTORS
from stats.montecarlo import DRAWS
from stats.multiplicity import Adjust
from stats.signflip import Method
from stats.verdict import Verdict


@dataclass(frozen=True)
class Settings:
    """What is asked of the tests.

    Attributes:
        alpha: level of the tests; intervals have confidence 1 − α, two-sided.
        margin: largest acceptable drop, in shares of the metric's range.
        combine: which combination over tasks decides.
        adjust: how p-values are adjusted for the number of variants.
        power: chance of detection behind the minimal detectable effect and the items needed.
        draws: simulated draws where a law is not exact.
        sign_vectors: most draws of the step-down max-T, common to all variants; none where it is exact.
        seed: of all draws.
    """

    alpha: float = 0.05
    margin: float = 0.01
    combine: Combine = "joint"
    adjust: Adjust = "maxt"
    power: float = 0.8
    draws: int = DRAWS
    sign_vectors: int = SIGN_VECTORS
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("margin", self.margin), ("power", self.power)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} must lie between 0 and 1, but is {value}.")


@dataclass(frozen=True)
class Comparison:
    """A variant against its baseline, over all tasks or on one of them.

    Scores and drops are shares of the metric's range, averaged over all pairs (micro average).

    Attributes:
        items: pairs.
        missing: items that only one of the two models answered.
        clusters: number of clusters, None where items are independent.
        reruns: fewest reruns behind an item's score, (baseline, variant).
        baseline_score: mean score of the baseline on the pairs.
        variant_score: mean score of the variant on the pairs.
        drop: how much worse the variant is on average; negative if it is better.
        drop_macro: mean over tasks of each task's drop.
        drop_interval: confidence interval of the drop, (low, high).
        worse: items on which the variant scores lower (b).
        better: items on which it scores higher (c).
        flip_rate: (b + c)/N.
        p_pooled: sign-flip test on all items together.
        log_p_pooled: its natural logarithm, without the floor of 1e-300.
        p_max_drop: largest standardised drop of a task.
        p_fisher: Fisher's combination under its exact law.
        p_fisher_chi2: Fisher's combination under χ², conservative.
        p_joint: the smallest of the first three, calibrated.
        p_any: the smallest of the three, not calibrated.
        p_adjusted: the deciding p-value, adjusted for multiplicity.
        method: whether every law was exact.
        standard_error: of p_pooled, 0 where it is exact.
        smallest_p: the smallest p_pooled that these blocks could give.
        p_noninferior: p-value of "the drop is at least the margin".
        mde: smallest true drop that these items show with the planned power.
        items_needed: items that would decide an inconclusive verdict; None where decided or out of reach.
        verdict: degraded, certified or inconclusive.
        reasons: sentences that say why.
        task: name of the task, None for all together.
        tasks: the same for each task.
    """

    items: int
    missing: int
    clusters: int | None
    reruns: tuple[int, int]
    baseline_score: float
    variant_score: float
    drop: float
    drop_macro: float
    drop_interval: tuple[float, float]
    worse: int
    better: int
    flip_rate: float
    p_pooled: float
    log_p_pooled: float
    p_max_drop: float
    p_fisher: float
    p_fisher_chi2: float
    p_joint: float
    p_any: float
    p_adjusted: float
    method: Method
    standard_error: float
    smallest_p: float
    p_noninferior: float
    mde: float
    items_needed: int | None
    verdict: Verdict
    reasons: tuple[str, ...]
    task: str | None = None
    tasks: tuple["Comparison", ...] = ()

    def p_value(self, combine: Combine) -> float:
        """The unadjusted p-value that the named combination decides by."""
        return {
            "joint": self.p_joint,
            "pooled": self.p_pooled,
            "max-drop": self.p_max_drop,
            "fisher": self.p_fisher,
            "any": self.p_any,
        }[combine]
