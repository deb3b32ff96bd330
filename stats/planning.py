"""What a comparison can show, and what it would take to show more, in accuracy points over *all* pairs.

The variance of one paired difference is v − δ², with v = E[d²]: the flip rate where answers are right or
wrong. Power depends only on √(N/v)·δ, so dropping items that never flip loses nothing. Right-or-wrong
answers of one run each are planned with the exact test, which asks for 1 to 8 % more items than the
large-sample formula. Everything follows the rule that decides: the test over tasks, for which the drop is
spread over them in proportion to their items, the level that adjustment leaves, few flips and few clusters.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, nctdtr, ndtr, ndtri, stdtrit

from stats.drop import DropEvidence
from stats.tasks.combinations import Combine
from stats.tasks.power import TaskShape, power_over_tasks

MOST = 10**7  # most items and reruns of a design: the exact power of more takes minutes
MOST_ITEMS = 1e6  # times the present items beyond which no number is named
NORMAL_BLOCKS = 1_000  # blocks from which on Student's t is normal


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
    tasks: tuple[float, ...] = (1.0,)  # share of the items that each task has
    combine: Combine = "joint"  # the test over the tasks

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
    def is_flips(self) -> bool:
        """Whether items differ by a whole answer or not at all: in one run, or in several without noise."""
        return self.reruns == 1 or self.noise_rate == 0.0

    @property
    def largest_drop(self) -> float:
        """The largest drop that such a flip rate allows."""
        return self.flip_rate if self.is_flips else min(self.flip_rate, float(np.sqrt(self.variance)))

    def power_at(self, drop: float) -> float:
        """Chance of detecting a true drop: exact for one run of each model, normal for averages of several.

        The test over several tasks is simulated, with the same drop in each.

        Raises ValueError if the drop is not positive, or larger than the flip rate allows.
        """
        self._check(drop)
        if not self.is_pooled:
            return power_over_tasks(self.shapes(drop), drop, self.alpha, self.combine)
        if self.is_flips:
            return exact_power(self.items, drop, self.flip_rate, self.alpha)
        if self.items < fewest_blocks(self.alpha):
            return 0.0
        spread = np.sqrt(max(self.variance - drop**2, 1e-300))
        critical = -ndtri(self.alpha) * np.sqrt(self.variance)
        return float(ndtr((drop * np.sqrt(self.items) - critical) / spread))

    @property
    def is_pooled(self) -> bool:
        """Whether the sum over all items decides."""
        return self.combine == "pooled" or len(self.tasks) == 1

    def shapes(self, drop: float) -> tuple[TaskShape, ...]:
        """What differs in each task, with a drop."""
        spread, items = (
            float(np.sqrt(max(self.variance - drop**2, 1e-6 * self.variance))),
            [self.items * n for n in self.tasks],
        )
        if self.is_flips:
            return tuple(TaskShape(n, 1.0, n * self.flip_rate) for n in items)
        return tuple(TaskShape(n, spread, n, is_flips=False, step=0.0) for n in items)

    def detectable_drop(self) -> float | None:
        """Smallest drop that is found with the wanted power; None where even the largest is not."""
        largest = self.largest_drop
        if self.power_at(largest) < self.power:
            return None
        if not self.is_pooled:
            start = replace(self, tasks=(1.0,)).detectable_drop() or largest
            return _reached(lambda drop: self.power_at(min(drop, largest)), start, self.alpha, self.power)
        return float(
            brentq(lambda drop: self.power_at(drop) - self.power, 1e-9 * largest, largest, xtol=1e-9)
        )

    def items_for(self, drop: float) -> int:
        """Items with which a true drop is found with the wanted power.

        Raises ValueError if the drop is not positive, too large for the flip rate, or needs too many items.
        """
        enough = int(np.ceil(self.items_by_formula(drop)))

        def power_of(items: int) -> float:
            return replace(self, items=items).power_at(drop)

        if not self.is_pooled:
            root = _reached(lambda root: power_of(round(root**2)), enough**0.5, self.alpha, self.power)
            return int(np.ceil(root**2))
        if not self.is_flips:
            return max(enough, fewest_blocks(self.alpha))
        low = 1
        while not power_of(enough) >= self.power:
            low, enough = enough, enough + max(1, enough // 8)
        return low + bisect_left(range(low, enough), True, key=lambda items: power_of(items) >= self.power)

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


def fewest_blocks(level: float) -> int:
    """Items or clusters m with which a p-value, at least 2⁻ᵐ, can come down to the level."""
    return int(np.ceil(-np.log2(level) - 1e-9))


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


def _reached(power_at: Callable[[float], float], start: float, level: float, target: float) -> float:
    """Where a power reaches the target, if its probit is nearly a line through that of the level at 0."""
    origin, place = float(ndtri(level)), start
    wanted = float(ndtri(target)) - origin
    for _ in range(12):
        height = float(ndtri(np.clip(power_at(place), 1e-4, 1.0 - 1e-4))) - origin
        place *= wanted / max(height, wanted / 2.0)
        if abs(height - wanted) < 0.008:
            break
    return place


@dataclass(frozen=True)
class DecidingTest:
    """The test over tasks that decides, and what differs in them."""

    tasks: tuple[TaskShape, ...]
    together: TaskShape  # the differences of all of them
    blocks: int  # items or clusters whose signs are flipped
    combine: Combine

    def power_at(self, drop: float, level: float, scale: float = 1.0) -> float:
        """Power to detect a true drop in every task, with `scale` times the items."""
        if len(self.tasks) > 1 and self.combine != "pooled":
            return power_over_tasks([task.scaled(scale) for task in self.tasks], drop, level, self.combine)
        whole = self.together.scaled(scale)
        net = whole.items * drop / whole.unit
        if whole.is_flips:
            blocks = max(round(self.blocks * scale), 1)
            lost = min(net / blocks, 1.0)
            return exact_power(blocks, lost, min(max(whole.count / blocks, lost), 1.0), level)
        effect, freedom = (net - whole.step) / float(np.sqrt(whole.count)), whole.count - 1.0
        if whole.count >= NORMAL_BLOCKS:
            return float(ndtr(effect + ndtri(level)))
        return 1.0 - float(nctdtr(freedom, effect, -stdtrit(freedom, level)))

    @lru_cache(maxsize=4096)  # noqa: B019 - of values, few and small
    def detectable_drop(self, level: float, power: float) -> float:
        """Smallest true drop that is detected with the planned power, at the level after adjustment.

        Infinite with so few blocks that no p-value comes down to the level.
        """
        needed, whole = fewest_blocks(level), self.together
        if self.blocks < needed:
            return float("inf")
        start = (ndtri(power) - ndtri(level)) * np.sqrt(whole.count)
        if whole.is_flips:
            start = max(start, gammaincinv(needed, power))
        unit = whole.unit / whole.items
        drop = _reached(lambda drop: self.power_at(drop, level), float(start) * unit, level, power)
        return min(drop, self.blocks * unit) if whole.is_flips else drop

    def growth(self, drop: float, level: float, power: float) -> float:
        """How many times the items detect this drop with the planned power; infinite beyond a million."""
        whole = self.together
        effect = whole.items * drop / (whole.unit * np.sqrt(max(whole.count, 1.0)))
        if effect * np.sqrt(MOST_ITEMS) < ndtri(power) - ndtri(level):
            return float("inf")
        start = float((ndtri(power) - ndtri(level)) / effect)
        return _reached(lambda root: self.power_at(drop, level, root**2), start, level, power) ** 2


def items_to_decide(
    items: int,
    drop: float,
    tests: Sequence[DecidingTest],
    evidence: DropEvidence | None,
    margin: float | None,
    *,
    levels: tuple[float, float],
    power: float,
) -> int | None:
    """Items with which a verdict can be expected if further differences are like those observed.

    Args:
        items: those there are.
        drop: over all of them, and so in every task.
        tests: which all have to find it.
        evidence: what decides the certificate; None where there can be none.
        margin: M, in the evidence's unit.
        levels: α of the two tests after adjustment, (degraded, certified).
        power: chance of a verdict.

    Returns:
        The fewer of the two, more than there are; None where neither comes within a million times as many.
    """
    factor = max(test.growth(drop, levels[0], power) for test in tests)
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
