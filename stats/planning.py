"""What a planned comparison can show, and what it would take to show more.

A design is known by its items, its flip rate and how much of that rate is noise of the answers, which reruns
average out. Everything is on the scale of accuracy points over all pairs.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from stats.power import averaged_flip_rate, detection_power, items_needed, planned_items


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
                raise ValueError(f"The {name} must lie between 0 and 1, but is {value:g}.")
        if self.items < 1 or self.reruns < 1:
            raise ValueError("Items and reruns are counted from 1 on.")
        if self.noise_rate is not None and not 0.0 <= self.noise_rate <= self.flip_rate:
            raise ValueError(
                f"The noise rate must lie between 0 and the flip rate of {self.flip_rate:g}, but is "
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
        """Chance of detecting a true drop: exact for one run and below 2,000 items, else normal.

        Raises:
            ValueError: if the flip rate does not allow such a drop.
        """
        if drop > self.largest_drop:
            raise ValueError(
                f"A flip rate of {self.flip_rate:g} over {self.reruns} reruns allows no drop of {drop:g}."
            )
        if self.reruns == 1:
            return detection_power(self.items, drop, self.flip_rate, self.alpha)
        spread = np.sqrt(max(self.variance - drop**2, 1e-300))
        critical = -ndtri(self.alpha) * np.sqrt(self.variance)
        return float(ndtr((drop * np.sqrt(self.items) - critical) / spread))

    def detectable_drop(self) -> float | None:
        """Smallest drop that is found with the wanted power; None where even the largest is not."""
        if self.power_at(self.largest_drop) < self.power:
            return None
        return float(brentq(lambda drop: self.power_at(drop) - self.power, 0.0, self.largest_drop, xtol=1e-9))

    def items_for(self, drop: float) -> int:
        """Items with which a true drop is found with the wanted power.

        Raises:
            ValueError: if the drop is not positive, or larger than the flip rate allows.
        """
        if not 0.0 < drop <= self.largest_drop:
            raise ValueError(
                f"A drop of {drop:g} cannot be planned for: it must be positive, and a flip rate of "
                f"{self.flip_rate:g} over {self.reruns} reruns allows at most {self.largest_drop:.3g}."
            )
        if self.reruns == 1:
            return planned_items(drop, self.flip_rate, self.alpha, self.power)
        return int(np.ceil(items_needed(drop, self.variance, self.alpha, self.power)))

    def with_reruns(self, reruns: int) -> "Design":
        """The same with another number of reruns."""
        return replace(self, reruns=reruns)
