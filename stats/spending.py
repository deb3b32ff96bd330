"""How much of the level may be spent by when: the spending functions of a group-sequential test.

A spending function f rises from f(0) = 0 to f(1) = α; a test that has spent at most f(t) after every look at
information fraction t keeps the level α, wherever the looks are (Lan & DeMets 1983).
"""

import re
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

OBRIEN_FLEMING = "obf"


@dataclass(frozen=True)
class Spending:
    """A spending function, linear in its shape but for O'Brien–Fleming's.

    Attributes:
        gamma: γ of the Hwang–Shih–DeCani family; the lower, the more is kept for the late looks. None for
            the O'Brien–Fleming-like function.
    """

    gamma: float | None

    def __call__(self, fraction: float, level: float) -> float:
        """Level that may have been spent at an information fraction.

        Args:
            fraction: t in [0, 1].
            level: α, spent in full at t = 1.

        Returns:
            α(1 − e^(−γt))/(1 − e^(−γ)), αt for γ = 0 (Hwang, Shih & DeCani 1990); or 2 − 2Φ(z_{1−α/2}/√t)
            (Lan & DeMets 1983).
        """
        if fraction <= 0.0:
            return 0.0
        if fraction >= 1.0:
            return level
        if self.gamma is None:
            return 2.0 * float(ndtr(ndtri(level / 2.0) / np.sqrt(fraction)))
        if self.gamma == 0.0:
            return level * fraction
        return level * float(np.expm1(-self.gamma * fraction) / np.expm1(-self.gamma))

    def __str__(self) -> str:
        """The name that `parse_spending` reads."""
        return OBRIEN_FLEMING if self.gamma is None else f"hsd{self.gamma:g}"


def parse_spending(name: str) -> Spending:
    """Read the name of a spending function.

    Args:
        name: "obf", or "hsd" followed by γ, such as "hsd-4".

    Raises:
        ValueError: if it is neither.
    """
    if name == OBRIEN_FLEMING:
        return Spending(None)
    found = re.fullmatch(r"hsd([+-]?\d+(?:\.\d+)?)", name)
    if found is None or abs(float(found[1])) > 50.0:
        raise ValueError(
            f"{name!r} is not a spending function: use obf, or hsd with γ from -50 to 50, such as hsd-4."
        )
    return Spending(float(found[1]))
