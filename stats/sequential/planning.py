"""What a sequential comparison is expected to find, and with which share of the samples.

By the normal limit: the sum of the differences is a Brownian motion whose drift is the true drop, between the
boundary of damage and that of the certificate.
"""

from dataclasses import dataclass

import numpy as np

from stats.arrays import Floats
from stats.planning import Design
from stats.sequential.boundaries import exit_probabilities, lan_demets_boundaries
from stats.sequential.certificate import CertificateLevels
from stats.sequential.plan import Stopping


@dataclass(frozen=True)
class ExpectedCourse:
    """Where a comparison with a true drop is expected to end.

    Attributes:
        degraded: P(found degraded at each look), shape (K,).
        certified: P(certified at each look), shape (K,).
        share: expected share of the planned samples that are used.
    """

    degraded: Floats
    certified: Floats
    share: float

    @property
    def power(self) -> float:
        """P(found degraded)."""
        return float(self.degraded.sum())

    @property
    def certificate(self) -> float:
        """P(certified)."""
        return float(self.certified.sum())


def expected_course(
    design: Design, drop: float, stopping: Stopping, margin: float, comparisons: int = 1
) -> ExpectedCourse:
    """What is to be expected if the true drop is as given.

    Args:
        design: planned items, flip rate, reruns and level α.
        drop: δ, negative if the variant is better; |δ| at most what the flip rate allows.
        stopping: looks and spending.
        margin: non-inferiority margin M.
        comparisons: m; damage is tested at α/m, the level of a comparison before any is passed on.

    Raises:
        ValueError: if the flip rate does not allow the drop.
    """
    if abs(drop) > design.largest_drop:
        raise ValueError(
            f"A flip rate of {design.flip_rate:g} over {design.reruns} reruns allows a drop of at most "
            f"{design.largest_drop:.3g}, not {abs(drop):g}."
        )
    variance = design.variance
    spread = float(np.sqrt(max(variance - drop**2, 1e-12)))
    root, times = float(np.sqrt(design.items)), np.array(stopping.fractions)
    level = design.alpha / comparisons
    bounds = np.array(lan_demets_boundaries(stopping.fractions, stopping.degraded, level))
    upper = bounds * np.sqrt(variance * times) / spread
    lower = _certificate_boundary(design, stopping, margin) / spread
    below, above = exit_probabilities(stopping.fractions, lower, upper, drop * root / spread)
    ends = below + above
    share = float(ends @ times) + max(0.0, 1.0 - float(ends.sum()))
    return ExpectedCourse(above, below, share)


def _certificate_boundary(design: Design, stopping: Stopping, margin: float) -> Floats:
    """Largest Σd/√N that certifies at each look, −∞ where none does."""
    certificate, found = CertificateLevels(stopping, design.alpha), []
    error = float(np.sqrt(max(design.variance - margin**2, 1e-12)))
    for look, time in enumerate(stopping.fractions, 1):
        reached = margin * time * np.sqrt(design.items) - certificate.boundary(look) * error * np.sqrt(time)
        free = certificate.largest_evidence(look) * np.sqrt(design.variance * time)
        found.append(min(reached, free))
    return np.array(found)
