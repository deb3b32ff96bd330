"""Where the noise comes from: the items, or the answers to them.

More reruns average out the noise of the answers and none of that of the items. Splitting the variance of a
paired difference into ω² + σ²_B/K_B + σ²_V/K_V tells which of the two, reruns or items, is the better buy.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from stats.arrays import EvidenceError, Floats


@dataclass(frozen=True)
class PairedVariance:
    """Variance of one item's difference, split by source (Miller 2024, arXiv 2411.00640).

    Attributes:
        data: ω², variance of the true differences between items.
        baseline_noise: σ²_B, variance of one answer of the baseline to one item.
        variant_noise: σ²_V, the same for the variant.
    """

    data: float
    baseline_noise: float
    variant_noise: float

    def per_item(self, baseline_reruns: int = 1, variant_reruns: int = 1) -> float:
        """ω² + σ²_B/K_B + σ²_V/K_V."""
        return self.data + self.baseline_noise / baseline_reruns + self.variant_noise / variant_reruns

    def standard_error(self, items: int, baseline_reruns: int = 1, variant_reruns: int = 1) -> float:
        """Standard error of the mean difference that this many items and reruns would give."""
        return float(np.sqrt(self.per_item(baseline_reruns, variant_reruns) / items))

    def items_needed(
        self,
        drop: float,
        reruns: tuple[int, int] = (1, 1),
        alpha: float = 0.05,
        power: float = 0.8,
        *,
        two_sided: bool = False,
    ) -> float:
        """Items with which a drop is detected: (z_α + z_β)²·variance/δ², not rounded.

        Args:
            drop: δ > 0.
            reruns: (K_B, K_V).
            alpha: level.
            power: chance of detection.
            two_sided: whether the level is split over both sides.

        Raises:
            ValueError: if the drop is not positive.
        """
        if drop <= 0.0:
            raise ValueError(f"A drop of {drop} cannot be detected: it must be positive.")
        level = alpha / 2 if two_sided else alpha
        return float((ndtri(level) + ndtri(1 - power)) ** 2 * self.per_item(*reruns) / drop**2)


def paired_variance(baseline: Floats, variant: Floats) -> PairedVariance:
    """Estimate the sources of variance from reruns of both models.

    Args:
        baseline: shape (n, K_B) with K_B ≥ 2.
        variant: shape (n, K_V) with K_V ≥ 2, items in the same order.

    Returns:
        Unbiased estimates by moments; ω² is cut at 0.

    Raises:
        EvidenceError: if there are fewer than two items or reruns, or the items differ in number.
    """
    if baseline.shape[0] != variant.shape[0] or baseline.shape[0] < 2:
        raise EvidenceError("Splitting the variance needs at least two items, the same for both models.")
    if min(baseline.shape[1], variant.shape[1]) < 2:
        raise EvidenceError("Splitting the variance needs at least two reruns of both models.")
    noise = (_mean_variance(baseline), _mean_variance(variant))
    means = baseline.mean(axis=1) - variant.mean(axis=1)
    data = float(means.var(ddof=1)) - noise[0] / baseline.shape[1] - noise[1] / variant.shape[1]
    return PairedVariance(max(data, 0.0), *noise)


@dataclass(frozen=True)
class RunVariance:
    """Variance of one score of one model, split by source; the three add up to it.

    Attributes:
        item: between items.
        temperature: between temperatures of one item.
        seed: between seeds of one item at one temperature.
    """

    item: float
    temperature: float
    seed: float


def run_variance(scores: Floats) -> RunVariance:
    """Split the variance of one model's scores over items, temperatures and seeds (nested, by moments).

    Args:
        scores: shape (n items, temperatures, seeds), at least two items and two seeds.

    Returns:
        Unbiased estimates, cut at 0; with one temperature its share is 0.

    Raises:
        EvidenceError: if there are too few items or seeds.
    """
    items, temperatures, seeds = scores.shape
    if items < 2 or seeds < 2:
        raise EvidenceError("Splitting the variance needs at least two items and two seeds.")
    seed = float(scores.var(axis=2, ddof=1).mean())
    cells = scores.mean(axis=2)
    spread = float(cells.var(axis=1, ddof=1).mean()) if temperatures > 1 else seed / seeds
    temperature = max(spread - seed / seeds, 0.0)
    item = float(cells.mean(axis=1).var(ddof=1)) - spread / temperatures
    return RunVariance(max(item, 0.0), temperature, seed)


def _mean_variance(scores: Floats) -> float:
    return float(scores.var(axis=1, ddof=1).mean())
