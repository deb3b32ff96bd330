"""Many variants, one rate of false alarms.

Every variant is compared with the same baseline on the same items, so the tests are dependent; Holm holds
under any dependence. Benjamini–Hochberg bounds the share of false discoveries instead and is for tables one
explores.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Floats

Adjust: TypeAlias = Literal["maxt", "holm", "bh", "none"]
"""How p-values are adjusted for the number of comparisons: step-down max-T, Holm, Benjamini–Hochberg, not."""


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> Floats:
    """Holm's (1979) step-down adjustment of p-values, shape (m,): family-wise error under any dependence."""
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def benjamini_hochberg(p_values: Sequence[float] | NDArray[np.float64]) -> Floats:
    """Benjamini & Hochberg's (1995) step-up adjustment of p-values, shape (m,): false discovery rate."""
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")[::-1]
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum.accumulate(raw[order] * raw.size / np.arange(raw.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def adjust_p_values(p_values: Floats, adjust: Adjust) -> Floats:
    """Adjust p-values, shape (m,), by "holm", "bh" or "none".

    Raises:
        ValueError: for "maxt", which needs the scores (`stats.tasks.maxt`).
    """
    match adjust:
        case "holm":
            return holm(p_values)
        case "bh":
            return benjamini_hochberg(p_values)
        case "none":
            return p_values
    raise ValueError(f"P-values alone cannot be adjusted by {adjust!r}: use holm, bh or none.")
