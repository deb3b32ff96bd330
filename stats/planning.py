"""What a comparison can show, and what it would take to show more, in accuracy points over *all* pairs.

The variance of one paired difference is v − δ², with v = E[d²]: the flip rate where answers are right or
wrong. Power depends only on √(N/v)·δ, so dropping items that never flip loses nothing. Right-or-wrong
answers of one run each are planned with the exact test, which asks for 1 to 8 % more items than the
large-sample formula. What would decide an open comparison follows the rules that decide it, adjustment
included.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr, ndtri

from stats.arrays import Floats, Ints
from stats.drop import DropEvidence
from stats.sequential.boundaries import Stopping, exit_probabilities, strip
from stats.tasks.combinations import SMALLEST_OF, Combine

MOST = 10**7  # most items and reruns of a design: the exact power of more takes minutes
MOST_ITEMS = 1e6  # times the present items beyond which no number is named

SIMULATED_SWEEPS = 20_000


@dataclass(frozen=True)
class Design:
    """A planned comparison of a baseline and a variant.

    Raises ValueError if a number is out of range.
    """

    items: int  # pairs
    flip_rate: float  # chance that one run of each model disagree on an item
    reruns: int = 1  # K, runs of each model per item
    # chance that two runs of the *baseline* disagree; None if all flips are such noise
    noise_rate: float | None = None
    alpha: float = 0.05  # one-sided level
    power: float = 0.8  # wanted chance of detection

    def __post_init__(self) -> None:
        for name, value in (("flip rate", self.flip_rate), ("level", self.alpha), ("power", self.power)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"The {name} must be between 0 and 1, but is {value:g}.")
        if self.items < 1 or self.reruns < 1:
            raise ValueError("Items and reruns must be at least 1.")
        if max(self.items, self.reruns) > MOST:
            raise ValueError(f"At most {MOST:,} items and reruns can be planned for.")
        if self.noise_rate is not None and not 0.0 <= self.noise_rate <= self.flip_rate:
            raise ValueError(
                f"The noise rate must be between 0 and the flip rate of {self.flip_rate:g}, but is "
                f"{self.noise_rate:g}."
            )

    @property
    def variance(self) -> float:
        """E[d²] of the averaged answers: p·((1 − r) + r/K), r the share of flips that is noise."""
        noise = 1.0 if self.noise_rate is None else self.noise_rate / self.flip_rate
        return self.flip_rate * (1.0 - noise + noise / self.reruns)

    @property
    def largest_drop(self) -> float:
        """The largest drop that such a flip rate allows."""
        return self.flip_rate if self.reruns == 1 else min(self.flip_rate, float(np.sqrt(self.variance)))

    def power_at(self, drop: float) -> float:
        """Chance of detecting a true drop: exact for one run of each model, normal for averages of several.

        Raises ValueError if the drop is not positive, or larger than the flip rate allows.
        """
        self._check(drop)
        if self.reruns == 1:
            return exact_power(self.items, drop, self.flip_rate, self.alpha)
        spread = np.sqrt(max(self.variance - drop**2, 1e-300))
        critical = -ndtri(self.alpha) * np.sqrt(self.variance)
        return float(ndtr((drop * np.sqrt(self.items) - critical) / spread))

    def detectable_drop(self) -> float | None:
        """Smallest drop that is found with the wanted power; None where even the largest is not."""
        if self.power_at(self.largest_drop) < self.power:
            return None
        smallest, largest = 1e-9 * self.largest_drop, self.largest_drop
        return float(brentq(lambda drop: self.power_at(drop) - self.power, smallest, largest, xtol=1e-9))

    def items_for(self, drop: float) -> int:
        """Items with which a true drop is found with the wanted power.

        Raises ValueError if the drop is not positive, too large for the flip rate, or needs too many items.
        """
        enough = int(np.ceil(self.items_by_formula(drop)))
        if self.reruns > 1:
            return enough

        def reached(items: int) -> bool:
            return replace(self, items=items).power_at(drop) >= self.power

        low = 1
        while not reached(enough):
            low, enough = enough, enough + max(1, enough // 8)
        return low + bisect_left(range(low, enough), True, key=reached)

    def items_by_formula(self, drop: float) -> float:
        """The same by the large-sample formula of `items_needed`, not rounded; raises the same errors."""
        self._check(drop)
        with np.errstate(over="ignore"):
            needed = items_needed(drop, self.variance, self.alpha, self.power)
        if needed > MOST:
            raise ValueError(f"To detect a drop of {drop:g}, more than {MOST:,} items are needed.")
        return needed

    def _check(self, drop: float) -> None:
        if not 0.0 < drop <= self.largest_drop:
            raise ValueError(
                f"A drop of {drop:g} cannot be planned for: it must be positive, and a flip rate of "
                f"{self.flip_rate:g} over {self.reruns} reruns allows at most {self.largest_drop:.3g}."
            )


def items_needed(drop: float, flip_rate: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Items with which a one-sided test detects a true drop δ > 0, in accuracy points over all pairs.

    Returns:
        N = [z_α√p + z_β√(p − δ²)]²/δ², not rounded (Miettinen 1968, Connor 1987), with the flip rate p, or
        E[d²] for averaged scores, at least δ².

    Raises ValueError if the drop is not positive.
    """
    if drop <= 0.0:
        raise ValueError(f"A drop of {drop} cannot be detected: it must be positive.")
    z_alpha, z_beta = -float(ndtri(alpha)), -float(ndtri(1 - power))
    spread = np.sqrt(max(flip_rate - drop**2, 0.0))
    return float(((z_alpha * np.sqrt(flip_rate) + z_beta * spread) / drop) ** 2)


def exact_power(items: int, drop: float, flip_rate: float, alpha: float) -> float:
    """Power of the exact one-sided test of right-or-wrong answers: Σ P(m flips)·P(the test of m rejects).

    The sum is over all numbers of flips within eight standard deviations of the expected one; the drop is at
    most the flip rate.
    """
    from scipy.stats import binom  # noqa: PLC0415 - slow to import, and large samples do without

    expected = items * flip_rate
    width = 8.0 * np.sqrt(expected * (1.0 - flip_rate)) + 8.0
    flips = np.arange(max(0, int(expected - width)), min(items, int(expected + width)) + 1)
    critical = binom.isf(alpha, flips, 0.5)
    rejects = binom.sf(critical, flips, (1.0 + drop / flip_rate) / 2.0)
    return float(binom.pmf(flips, items, flip_rate) @ rejects)


def detectable_drop(items: int, blocks: int, squares: float, level: float, power: float) -> float:
    """Smallest true drop that the pooled test detects with the planned power, at the level after adjustment.

    The δ whose `items_needed` is N, √v·[z_α√N + z_β√(N + z_β² − z_α²)]/(N + z_β²) with v = E[d²] per item (by
    clusters Σ(sum²)/N), at most √v; but no less than the drop at which enough blocks (items or clusters whose
    signs are flipped) differ for any p-value of 2⁻ᵐ to come down to the level. Infinite with too few blocks.
    """
    needed = int(np.ceil(-np.log2(level) - 1e-9))
    if blocks < needed:
        return float("inf")
    z_alpha, z_beta, share = -float(ndtri(level)), -float(ndtri(1 - power)), 1.0
    if (inner := items + z_beta**2 - z_alpha**2) > 0.0:
        share = float((z_alpha * np.sqrt(items) + z_beta * np.sqrt(inner)) / (items + z_beta**2))
    least = float(gammaincinv(needed, power)) / blocks
    return max(float(np.sqrt(squares)) * min(1.0, share), min(least, 1.0))


def items_to_decide(
    items: int,
    p: float,
    evidence: DropEvidence | None,
    margin: float | None,
    *,
    levels: tuple[float, float],
    power: float,
) -> int | None:
    """Items with which a verdict can be expected if further differences are like those observed.

    Args:
        items: those there are.
        p: unadjusted p-value of the combination that decides "degraded".
        evidence: what decides the certificate; None where there can be none.
        margin: M, in the evidence's unit.
        levels: α of the two tests after adjustment, (degraded, certified).
        power: chance of a verdict.

    Returns:
        The fewer of the two, more than there are; None where neither comes within a million times as many.
    """
    z = -float(ndtri(p))  # (z_α + z_β)²/z² times the items; none where the p-value speaks for the variant
    factor = float(((ndtri(levels[0]) + ndtri(1.0 - power)) / z) ** 2) if z > 0.0 else float("inf")
    if evidence is not None and margin is not None:
        factor = min(factor, _to_certify(evidence, margin, levels[1], power))
    return max(items + 1, int(np.ceil(factor * items))) if factor <= MOST_ITEMS else None


def _to_certify(evidence: DropEvidence, margin: float, level: float, power: float) -> float:
    """How many times the items bring the expected p-value to that of z_α + z_β, without variation to α."""
    if evidence.mean >= margin:
        return float("inf")
    target = float(ndtr(ndtri(level) + ndtri(1.0 - power))) if evidence.varies else level
    low, high = 1.0, 2.0
    while evidence.p_noninferior(margin, high) > target:
        low, high = high, 2.0 * high
        if low > MOST_ITEMS:
            return float("inf")
    while high - low > 1e-3 * low:
        middle = (low + high) / 2.0
        low, high = (low, middle) if evidence.p_noninferior(margin, middle) <= target else (middle, high)
    return high


def expected_course(
    design: Design, drop: float, stopping: Stopping, margin: float, comparisons: int = 1
) -> tuple[float, float, float]:
    """What is to be expected of looks if the true drop is as given, by the normal limit.

    The sum of the differences is a Brownian motion whose drift is the true drop δ, negative if the variant is
    better, between the boundary of damage and that of the certificate. Of m comparisons damage is tested at
    α/m, the level of each before any is passed on.

    Returns:
        P(found degraded), P(certified), and the expected share of the planned samples that are used.

    Raises ValueError if the flip rate does not allow the drop.
    """
    if abs(drop) > design.largest_drop:
        raise ValueError(
            f"A flip rate of {design.flip_rate:g} over {design.reruns} reruns allows a drop of at most "
            f"{design.largest_drop:.3g}, not {abs(drop):g}."
        )
    variance = design.variance
    spread = float(np.sqrt(max(variance - drop**2, 1e-12)))
    root, times = float(np.sqrt(design.items)), np.array(stopping.fractions)
    levels = design.alpha, design.alpha / comparisons
    lower, upper = strip(stopping, levels, margin, design.items, variance) / spread
    below, above = exit_probabilities(stopping.fractions, lower, upper, drop * root / spread)
    ends = below + above
    share = float(ends @ times) + max(0.0, 1.0 - float(ends.sum()))
    return float(above.sum()), float(below.sum()), share


def task_power(
    flips: int, shares: Floats, alpha: float = 0.05, draws: int = SIMULATED_SWEEPS, seed: int = 0
) -> dict[Combine, float]:
    """Simulate sweeps over tasks with equally many flips and count rejections.

    With m flips in every task the null distributions are one binomial table, so that thousands of sweeps are
    simulated by looking tails up instead of testing each; `stats.tasks.combine` does that for real scores.
    Of each task's flips a share q_t goes from right to wrong, shape (T,).

    Returns:
        Power of the pooled and the max-drop test from their exact distributions; of Fisher's and of the joint
        test with critical values from the simulated null. With one task all four are the same test.
    """
    rng = np.random.default_rng(seed)
    null = _log_p_values(rng.binomial(flips, 0.5, (draws, shares.size)), flips)
    damaged = _log_p_values(rng.binomial(flips, shares, (draws, shares.size)), flips)
    if shares.size == 1:
        return dict.fromkeys((*SMALLEST_OF, "joint"), float((damaged[0] <= np.log(alpha)).mean()))
    fisher_null = np.sort(null[2])
    smallest = [
        np.minimum.reduce([pooled, drop, _log_rank(fisher_null, fisher)])
        for pooled, drop, fisher in (null, damaged)
    ]
    level = float(np.log(alpha)) + 1e-9
    logs: dict[Combine, Floats] = {"pooled": damaged[0], "max-drop": damaged[1]}
    logs["fisher"] = _log_rank(fisher_null, damaged[2])
    logs["joint"] = _log_rank(np.sort(smallest[0]), smallest[1])
    return {name: float((values <= level).mean()) for name, values in logs.items()}


def _log_p_values(worse: Ints, flips: int) -> tuple[Floats, Floats, Floats]:
    """Logarithms: p pooled, ln p max-drop, and Fisher's Σ ln p_t; shape (draws,) each."""
    from scipy.stats import binom  # noqa: PLC0415 - slow to import

    tasks = worse.shape[1]
    tail = binom.logsf(np.arange(flips + 1) - 1, flips, 0.5)
    pooled: Floats = binom.logsf(worse.sum(axis=1) - 1, flips * tasks, 0.5)
    with np.errstate(divide="ignore"):
        largest = np.log(-np.expm1(tasks * np.log1p(-np.exp(tail[worse.max(axis=1)]))))
    return pooled, largest, tail[worse].sum(axis=1)


def _log_rank(null: Floats, values: Floats) -> Floats:
    """Logarithm of (r + 1)/(B + 1), r the sorted null draws that are as small, rounding apart."""
    rank = np.searchsorted(null, values + 1e-9 * (1.0 + np.abs(values)), side="right")
    return np.log((rank + 1.0) / (null.size + 1.0))
