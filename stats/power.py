"""How many items would decide it, and how small a drop the items at hand can show.

Everything is on the scale of accuracy points over *all* pairs. The variance of one paired difference is v −
δ², with v = E[d²]: the flip rate where answers are right or wrong. Power depends only on √(N/v)·δ, so
dropping items that never flip loses nothing.
"""

import numpy as np
from scipy.special import ndtr, ndtri

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
