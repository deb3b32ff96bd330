"""What a planned comparison can show, and what it would take to show more.

A design is known by its items, its flip rate and how much of that rate is noise of the answers, which reruns
average out. Everything is on the scale of accuracy points over all pairs. Right-or-wrong answers of one run
each are planned with the exact test, which asks for 1 to 8 % more items than the large-sample formula.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from stats.power import averaged_flip_rate, exact_power, items_needed

MOST = 10**7
"""Most items and reruns of a design: the exact power of more takes minutes."""


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
        """E[d²] of the averaged answers: ω² + (σ²_B + σ²_V)/K."""
        share = 1.0 if self.noise_rate is None else self.noise_rate / self.flip_rate
        return averaged_flip_rate(self.flip_rate, self.reruns, share)

    @property
    def largest_drop(self) -> float:
        """The largest drop that such a flip rate allows."""
        return self.flip_rate if self.reruns == 1 else min(self.flip_rate, float(np.sqrt(self.variance)))

    def power_at(self, drop: float) -> float:
        """Chance of detecting a true drop: exact for one run of each model, normal for averages of several.

        Raises:
            ValueError: if the drop is not positive, or larger than the flip rate allows.
        """
        self._check(drop)
        if self.reruns == 1:
            return exact_power(self.items, drop, self.flip_rate, self.alpha)
        spread = np.sqrt(max(self.variance - drop**2, 1e-300))
        critical = -ndtri(self.alpha) * np.sqrt(self.variance)
        return float(ndtr((drop * np.sqrt(self.items) - critical) / spread))

    def detectable_drop(self) -> float | None:
        """Smallest drop that is found with the wanted power; None where even the largest is not."""
        if self.power_at(self.largest_drop) < self.power:
            return None
        smallest = 1e-9 * self.largest_drop
        return float(
            brentq(lambda drop: self.power_at(drop) - self.power, smallest, self.largest_drop, xtol=1e-9)
        )

    def items_for(self, drop: float) -> int:
        """Items with which a true drop is found with the wanted power.

        Raises:
            ValueError: if the drop is not positive, too large for the flip rate, or needs too many items.
        """
        enough = int(np.ceil(self.items_by_formula(drop)))
        if self.reruns > 1:
            return enough
        low = 1
        while replace(self, items=enough).power_at(drop) < self.power:
            low, enough = enough, enough + max(1, enough // 8)
        while low < enough:
            middle = (low + enough) // 2
            reached = replace(self, items=middle).power_at(drop) >= self.power
            low, enough = (low, middle) if reached else (middle + 1, enough)
        return enough

    def items_by_formula(self, drop: float) -> float:
        """The same by the large-sample formula of `stats.power.items_needed`, not rounded.

        Raises:
            ValueError: if the drop is not positive, too large for the flip rate, or needs too many items.
        """
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

    def with_reruns(self, reruns: int) -> "Design":
        """The same with another number of reruns."""
        return replace(self, reruns=reruns)
