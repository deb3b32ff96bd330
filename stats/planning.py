"""What a planned comparison can show, and what it would take to show more.

A design is known by its items, its flip rate and how much of that rate is noise of the answers, which reruns
average out. Everything is on the scale of accuracy points over all pairs. Right-or-wrong answers of one run
each are planned with the exact test, which asks for 1 to 8 % more items than the large-sample formula.

How many items would decide it, and how small a drop the items at hand can show.

Everything is on the scale of accuracy points over *all* pairs. The variance of one paired difference is v −
δ², with v = E[d²]: the flip rate where answers are right or wrong. Power depends only on √(N/v)·δ, so
dropping items that never flip loses nothing.

What would decide an open comparison, by the rules that decide it.

A certificate can be expected where the present distribution, with more items, would give a p-value as small
as planned power asks for; a degradation where its p-value would. Nothing is promised that the deciding test,
its adjustment for the number of comparisons included, could not keep.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr, ndtri

from stats.drop.evidence import DropEvidence

MOST = 10**7
"""Most items and reruns of a design: the exact power of more takes minutes."""


@dataclass(frozen=True)
class Design:
    """A planned comparison of a baseline and a variant.

    Attributes:
        items: pairs.
        flip_rate: chance that one run of each model disagree on an item.
        reruns: K, runs of each model per item.
        noise_rate: chance that two runs of the *baseline* disagree; None if all flips are such noise.
        alpha: one-sided level.
        power: wanted chance of detection.

    Raises:
        ValueError: if a number is out of range.
    """

    items: int
    flip_rate: float
    reruns: int = 1
    noise_rate: float | None = None
    alpha: float = 0.05
    power: float = 0.8

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
        """E[d²] of the averaged answers: ω² + (σ²_B + σ²_V)/K."""
        share = 1.0 if self.noise_rate is None else self.noise_rate / self.flip_rate
        return averaged_flip_rate(self.flip_rate, self.reruns, share)

    @property
    def largest_drop(self) -> float:
        """The largest drop that such a flip rate allows."""
        return self.flip_rate if self.reruns == 1 else min(self.flip_rate, float(np.sqrt(self.variance)))

    def power_at(self, drop: float) -> float:
        """Chance of detecting a true drop: exact for one run of each model, normal for averages of several.

        Raises:
            ValueError: if the drop is not positive, or larger than the flip rate allows.
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
        smallest = 1e-9 * self.largest_drop
        return float(
            brentq(lambda drop: self.power_at(drop) - self.power, smallest, self.largest_drop, xtol=1e-9)
        )

    def items_for(self, drop: float) -> int:
        """Items with which a true drop is found with the wanted power.

        Raises:
            ValueError: if the drop is not positive, too large for the flip rate, or needs too many items.
        """
        enough = int(np.ceil(self.items_by_formula(drop)))
        if self.reruns > 1:
            return enough
        low = 1
        while replace(self, items=enough).power_at(drop) < self.power:
            low, enough = enough, enough + max(1, enough // 8)
        while low < enough:
            middle = (low + enough) // 2
            reached = replace(self, items=middle).power_at(drop) >= self.power
            low, enough = (low, middle) if reached else (middle + 1, enough)
        return enough

    def items_by_formula(self, drop: float) -> float:
        """The same by the large-sample formula of `stats.planning.items_needed`, not rounded.

        Raises:
            ValueError: if the drop is not positive, too large for the flip rate, or needs too many items.
        """
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

    def with_reruns(self, reruns: int) -> "Design":
        """The same with another number of reruns."""
        return replace(self, reruns=reruns)


EXACT_ITEMS = 2_000
"""Below this many items the power is summed exactly instead of taken from the normal approximation."""


def items_needed(drop: float, flip_rate: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Items with which a one-sided test detects a true drop.

    Args:
        drop: δ > 0, in accuracy points over all pairs.
        flip_rate: p_flip, or E[d²] for averaged scores; at least δ².
        alpha: one-sided level.
        power: chance of detection.

    Returns:
        N = [z_α√p + z_β√(p − δ²)]²/δ², not rounded (Miettinen 1968, Connor 1987).

    Raises:
        ValueError: if the drop is not positive.
    """
    if drop <= 0.0:
        raise ValueError(f"A drop of {drop} cannot be detected: it must be positive.")
    spread = np.sqrt(max(flip_rate - drop**2, 0.0))
    return float(((_z(alpha) * np.sqrt(flip_rate) + _z(1 - power) * spread) / drop) ** 2)


def minimal_detectable_effect(
    items: float, flip_rate: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Smallest true drop that is detected with the given power, in accuracy points over all pairs.

    Args:
        items: N.
        flip_rate: p_flip, or E[d²].
        alpha: one-sided level.
        power: chance of detection.

    Returns:
        The δ whose `items_needed` is N: √p·[z_α√N + z_β√(N + z_β² − z_α²)]/(N + z_β²). Where N is too small
        for any drop, √p, as if every flip were one to wrong; 0 where nothing ever flips.
    """
    z_alpha, z_beta = _z(alpha), _z(1 - power)
    inner = items + z_beta**2 - z_alpha**2
    largest = float(np.sqrt(flip_rate))
    if inner <= 0.0:
        return largest
    effect = (z_alpha * np.sqrt(items) + z_beta * np.sqrt(inner)) / (items + z_beta**2)
    return largest * min(1.0, float(effect))


def detection_power(items: int, drop: float, flip_rate: float, alpha: float = 0.05) -> float:
    """Chance that the one-sided test on all pairs detects a true drop.

    Args:
        items: N.
        drop: δ, in accuracy points over all pairs.
        flip_rate: p_flip ≥ |δ|, or E[d²].
        alpha: one-sided level.

    Returns:
        Below 2,000 items the exact binomial sum over flips and flips to wrong, else the normal approximation
        behind `items_needed`.

    Raises:
        ValueError: if the drop is larger than the flip rate can make it.
    """
    if abs(drop) > flip_rate:
        raise ValueError(f"With a flip rate of {flip_rate} a drop of {drop} is impossible.")
    if flip_rate == 0.0:
        return 0.0
    if items < EXACT_ITEMS:
        return exact_power(items, drop, flip_rate, alpha)
    spread = np.sqrt(max(flip_rate - drop**2, 1e-300))
    return float(ndtr((drop * np.sqrt(items) - _z(alpha) * np.sqrt(flip_rate)) / spread))


def exact_power(items: int, drop: float, flip_rate: float, alpha: float) -> float:
    """Power of the exact one-sided test of right-or-wrong answers: Σ P(m flips)·P(the test of m rejects).

    Args:
        items: N.
        drop: δ, at most the flip rate.
        flip_rate: p_flip.
        alpha: level.

    Returns:
        The sum over all numbers of flips within eight standard deviations of the expected one.
    """
    from scipy.stats import binom  # noqa: PLC0415 - slow to import, and large samples do without

    expected = items * flip_rate
    reach = 8.0 * np.sqrt(expected * (1.0 - flip_rate)) + 8.0
    flips = np.arange(max(0, int(expected - reach)), min(items, int(expected + reach)) + 1)
    critical = binom.isf(alpha, flips, 0.5)
    rejects = binom.sf(critical, flips, (1.0 + drop / flip_rate) / 2.0)
    return float(binom.pmf(flips, items, flip_rate) @ rejects)


def planned_items(drop: float, flip_rate: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Items with which the exact test detects a drop, by exact power below 2,000 items, else `items_needed`.

    Args:
        drop: δ > 0.
        flip_rate: p_flip ≥ δ.
        alpha: one-sided level.
        power: chance of detection.

    Raises:
        ValueError: if the drop is not positive, or larger than the flip rate can make it.
    """
    guess = int(np.ceil(items_needed(drop, flip_rate, alpha, power)))
    low, high = max(1, guess // 2), 2 * guess
    while detection_power(min(high, EXACT_ITEMS - 1), drop, flip_rate, alpha) < power:
        if high >= EXACT_ITEMS:
            return max(guess, EXACT_ITEMS)
        high *= 2
    high = min(high, EXACT_ITEMS - 1)
    while low < high:
        middle = (low + high) // 2
        enough = detection_power(middle, drop, flip_rate, alpha) >= power
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def averaged_flip_rate(flip_rate: float, reruns: int, noise_share: float = 1.0) -> float:
    """E[d²] after averaging reruns: p·((1 − r) + r/K).

    Args:
        flip_rate: p_flip of one run each.
        reruns: K, of both models.
        noise_share: r, the share of flips that is noise of the answers; 1 if reruns alone flip as often.
    """
    return flip_rate * (1.0 - noise_share + noise_share / reruns)


def _z(tail: float) -> float:
    return -float(ndtri(tail))


MOST_ITEMS = 1e6
"""Times the present items beyond which no number is named."""


def detectable_drop(items: int, blocks: int, squares: float, level: float, power: float) -> float:
    """Smallest true drop that the pooled test detects with the planned power.

    Args:
        items: N.
        blocks: G items or clusters whose signs are flipped.
        squares: E[d²] per item, by clusters Σ(sum²)/N.
        level: α after adjustment.
        power: chance of detection.

    Returns:
        By the large-sample formula, but no less than the drop at which enough blocks differ for any p-value
        of 2⁻ᵐ to reach the level; infinite where there are too few blocks.
    """
    needed = int(np.ceil(-np.log2(level) - 1e-9))
    if blocks < needed:
        return float("inf")
    least = float(gammaincinv(needed, power)) / blocks
    return max(minimal_detectable_effect(items, squares, level, power), min(least, 1.0))


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
        items: N.
        p: unadjusted p-value of the combination that decides "degraded".
        evidence: what decides the certificate; None where there can be none.
        margin: M, in the evidence's unit.
        levels: α of the two tests after adjustment, (degraded, certified).
        power: chance of a verdict.

    Returns:
        The fewer of the two, more than there are; None where neither comes within a million times as many.
    """
    ways = [_to_degrade(p, levels[0], power)]
    if evidence is not None and margin is not None:
        ways.append(_to_certify(evidence, margin, levels[1], power))
    factor = min(ways)
    return max(items + 1, int(np.ceil(factor * items))) if factor <= MOST_ITEMS else None


def _to_degrade(p: float, level: float, power: float) -> float:
    """(z_α + z_β)²/z², z that of the p-value found; infinite where that speaks for the variant."""
    found = -float(ndtri(p))
    if found <= 0.0:
        return float("inf")
    return float(((ndtri(level) + ndtri(1.0 - power)) / found) ** 2)


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
