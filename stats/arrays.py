"""The array types of this package, and the checks every public function makes on what it is given.

A number that is missing or infinite has no place in a test: it is refused here by name rather than carried
silently into a p-value.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Complexes: TypeAlias = NDArray[np.complex128]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

SMALLEST_P = 1e-300
"""Floor of every reported p-value: below it floats lose precision, and a p-value is never zero."""

LARGEST_SCORE = 1e100
"""Largest absolute value of a score: sums of squares beyond it overflow, and a test of them means nothing."""

ROUNDING = 1e-12  # a sum this small relative to the sizes of its terms is rounding error


class EvidenceError(ValueError):
    """The data cannot support any verdict (nothing in common, no numbers, no variation to pair)."""


def as_scores(values: ArrayLike, name: str = "scores") -> Floats:
    """Check numbers, one per item, shape (n,); an error calls them by their name.

    Raises:
        EvidenceError: if there are none, they are not one-dimensional, or some are NaN, infinite or beyond
            `LARGEST_SCORE`.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise EvidenceError(f"{name} must hold one number per item, but have {array.ndim} dimensions.")
    if array.size == 0:
        raise EvidenceError(f"{name} are empty: without data there is no verdict.")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise EvidenceError(f"{name} hold {bad} values that are not finite numbers.")
    if np.abs(array).max() > LARGEST_SCORE:
        raise EvidenceError(f"{name} hold numbers beyond ±{LARGEST_SCORE:g}, which cannot be tested.")
    return array


def block_sums(values: Floats, clusters: NDArray[np.generic] | None) -> Floats:
    """Add up the values of each cluster, shape (n,) each: the blocks whose signs are flipped together.

    Returns:
        One sum per cluster, in the order of the sorted labels; the values themselves without clusters. Values
        that cancel but for rounding give 0: a sum of 1e-17 has a sign, and signs are what is tested.

    Raises EvidenceError if there are not as many labels as values.
    """
    if clusters is None:
        return values
    labels = np.asarray(clusters)
    if labels.shape != values.shape:
        raise EvidenceError(f"{labels.size} cluster labels for {values.size} items.")
    groups = np.unique(labels, return_inverse=True)[1]
    sums = np.bincount(groups, weights=values)
    sizes = np.bincount(groups, weights=np.abs(values))
    return np.where(np.abs(sums) > ROUNDING * sizes, sums, 0.0)
