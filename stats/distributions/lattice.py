"""From floating-point scores to whole numbers, so that ties are ties.

0.1 + 0.2 is not 0.3, and a permutation test that compares float sums counts such ties by luck. Scores are
nearly always fractions with a small denominator (right or wrong, a mean over reruns, a mean over
references), so the fractions are recovered once, relative to the largest value, and integers serve ever
after. Where no small common denominator exists (BLEU, log-probabilities) the answer is None and the caller
simulates.
"""

from math import gcd, lcm

import numpy as np

from stats.arrays import Floats, Ints

MAX_DENOMINATOR = 100_000
MAX_DISTINCT = 4_096
TOLERANCE = 1e-10

FINEST = 2_000
"""Largest whole number that the largest difference may become in a growing lattice without being rounded."""

ROUNDED_SPREAD = 32  # steps that make up the root mean square of differences that have to be rounded


def to_lattice(values: Floats, max_denominator: int = MAX_DENOMINATOR) -> tuple[float, Ints] | None:
    """Find a step of which all values, in any shape, are whole multiples.

    Returns:
        The step, positive, and the whole numbers, value = step × integer; None where the largest would have
        to be beyond `max_denominator`. All zeros lie on every lattice; the step is then 1.
    """
    sizes = np.abs(values)
    top = float(sizes.max(initial=0.0))
    if top == 0.0:
        return 1.0, np.zeros(values.shape, dtype=np.int64)
    distinct = np.unique(sizes)
    if distinct.size > MAX_DISTINCT:
        return None
    ratios = distinct / top
    denominators = _denominators(ratios, max_denominator)
    if denominators is None:
        return None
    levels = lcm(*map(int, np.unique(denominators)))  # every ratio is a multiple of 1/levels
    if levels > max_denominator:
        return None
    whole = np.rint(ratios * levels)
    if np.abs(ratios - whole / levels).max() > TOLERANCE:
        return None
    step = top / (levels // gcd(*map(int, whole)))
    return step, np.rint(values / step).astype(np.int64)


def _denominators(ratios: Floats, limit: int) -> Ints | None:
    """Denominators of the first continued-fraction convergents within the tolerance of each ratio."""
    rest = ratios.copy()
    before, now = np.zeros(ratios.size), np.ones(ratios.size)
    while True:
        near = np.abs(ratios - np.rint(ratios * now) / now) <= TOLERANCE
        if near.all():
            return now.astype(np.int64)
        fraction = rest - np.floor(rest)
        rest = np.where(near, rest, 1.0 / np.where(near, 1.0, np.maximum(fraction, 1e-300)))
        before, now = np.where(near, before, now), np.where(near, now, np.floor(rest) * now + before)
        if now.max() > limit:
            return None


class GrowingLattice:
    """Differences as whole numbers while they come in.

    Which step all differences are multiples of is only known once all are seen. A new look may bring a finer
    step; sums of earlier looks are then multiples of it, too, and are multiplied up. Scores without a small
    common denominator are rounded to a grid that is fine beside their spread. The sum of *rounded*
    differences is another statistic, whose sign-flip distribution is as exact: rounding changes a sign with
    the sign of what is rounded.

    Attributes:
        step: in units of the scores.
        rounded: whether differences were rounded; from then on the step stays.
    """

    def __init__(self) -> None:
        self.step, self.rounded = 1.0, False
        self._seen = np.zeros(0)

    def extend(self, values: Floats) -> tuple[int, Ints]:
        """Take in differences, in any shape: how many new steps make an old one, and they in new steps."""
        moving, before = values[values != 0.0], self.step
        sizes = np.unique(np.append(self._seen, np.abs(moving)))
        if sizes.size == 0:
            return 1, np.zeros(values.shape, dtype=np.int64)
        exact = None if self.rounded else to_lattice(sizes, FINEST)
        if exact is not None:
            self.step = exact[0]
        elif not self.rounded:
            wanted = float(np.sqrt(np.mean(moving**2))) / ROUNDED_SPREAD
            self.step = before / int(np.ceil(before / wanted)) if self._seen.size else wanted
            self.rounded = True
        factor = round(before / self.step) if self._seen.size else 1
        self._seen = sizes
        return factor, np.rint(values / self.step).astype(np.int64)
