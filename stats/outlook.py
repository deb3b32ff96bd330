"""What would decide an open comparison, by the rules that decide it.

A certificate can be expected where the present distribution, with more items, would give a p-value as small
as planned power asks for; a degradation where its p-value would. Nothing is promised that the deciding test,
its adjustment for the number of comparisons included, could not keep.
"""

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from stats.acceptability import Evidence
from stats.power import minimal_detectable_effect

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
    evidence: Evidence | None,
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


def _to_certify(evidence: Evidence, margin: float, level: float, power: float) -> float:
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
