"""A certificate before all items are in: non-inferiority over looks.

The p-value at a look is that of the fixed analysis, with every missing item as a loss of the variant. It is
compared with the nominal level of a Lan–DeMets boundary: Tango's z has, to first order, independent
increments in proportion to the items. Below 20 flips this limit is not trusted: the level of a look is then
what the spending function releases between the look before and this one, which holds under any dependence.

A variant may be worse by less than the margin: it could be certified at an early look and found degraded at
a late one, and the order of the items would decide. A certificate is therefore held back as long as the test
for damage has more than a small chance to succeed even without any further drop. Both levels hold as before.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from stats.sequential.boundaries import lan_demets_boundaries, stagewise_p_value
from stats.sequential.plan import Stopping

UNLIKELY = 0.04
"""Conditional power of the test for damage, under no further drop, above which no certificate is given."""


class CertificateLevels:
    """The p-values that certify, look by look.

    Args:
        stopping: looks and spending; until "degraded" the certificate is tested once, at the last look.
        alpha: level over all looks.
    """

    def __init__(self, stopping: Stopping, alpha: float) -> None:
        self._last = lan_demets_boundaries(stopping.fractions, stopping.degraded, alpha)[-1]
        once = stopping.until == "degraded"
        self._fractions = stopping.fractions
        self._spent = np.array([stopping.certified(fraction, alpha) for fraction in self._fractions])
        if once:
            self._spent[:-1] = 0.0
        boundaries = (np.inf,) * (stopping.looks - 1) + (-float(ndtri(alpha)),)
        self._boundaries = (
            boundaries if once else lan_demets_boundaries(self._fractions, stopping.certified, alpha)
        )

    def spent(self, look: int) -> float:
        """Level that may have been spent by a look, counted from 1."""
        return float(self._spent[look - 1])

    def level(self, look: int, *, few_flips: bool) -> float:
        """The largest p-value that certifies at a look."""
        if few_flips:
            return self.spent(look) - (self.spent(look - 1) if look > 1 else 0.0)
        return float(ndtr(-self._boundaries[look - 1]))

    def held_back(self, look: int, statistic: float) -> bool:
        """Whether the test for damage is still too likely to succeed.

        Args:
            look: k.
            statistic: Z_k, the evidence of a drop.
        """
        return statistic > self.largest_evidence(look)

    def largest_evidence(self, look: int) -> float:
        """The Z_k with which P(Z_K ≥ c_K | Z_k, no further drop) is as large as a certificate allows."""
        time = self._fractions[look - 1]
        if time >= 1.0:
            return float("inf")
        return float((self._last + ndtri(UNLIKELY) * np.sqrt(1.0 - time)) / np.sqrt(time))

    def boundary(self, look: int) -> float:
        """The level of a look with many flips, on the normal scale."""
        return self._boundaries[look - 1]

    def stagewise_p(self, look: int, p: float, *, few_flips: bool) -> float:
        """P(certified at an earlier look, or at this one with as small a p-value), if the drop is the margin.

        Args:
            look: where the comparison ended.
            p: p-value of the look alone.
            few_flips: whether fewer than 20 blocks differ; the probabilities are then added up.
        """
        if few_flips:
            return min(1.0, p + (self.spent(look - 1) if look > 1 else 0.0))
        return stagewise_p_value(self._fractions[:look], self._boundaries[:look], -float(ndtri(p)))
