"""Boundaries of looks: how much of the level may be spent by when, and where a path is expected to end.

A test that has spent at most f(t) after every look at information fraction t, with f(0) = 0 and f(1) = α,
keeps the level α, wherever the looks are (Lan & DeMets 1983). Large-sample statistics at looks behave like
a Brownian motion (Jennison & Turnbull 2000, ch. 11); the density of the paths that have not been stopped is
carried from look to look by Gauss–Legendre quadrature (Armitage, McPherson & Rowe 1969).

The p-value of a certificate is compared with the nominal level of a Lan–DeMets boundary: Tango's z has, to
first order, independent increments in proportion to the items. Below 20 flips this limit is not trusted:
the level of a look is then what the spending function releases since the one before, which holds under any
dependence. A proven certificate spends nothing: the capital of its bets may be looked at after any block, so
its level is α at every look.

A variant may be worse by less than the margin, and the order of the items would decide between certified and
degraded. A certificate is therefore held back as long as the test for damage has more than a small chance to
succeed even without any further drop. Both levels hold as before.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from stats.arrays import Floats
from stats.drop import STAKE, Certificate

Until: TypeAlias = Literal["degraded", "decided"]

OBRIEN_FLEMING = "obf"

NODES = 240
FURTHEST = 9.0  # standard deviations beyond which a path is never met
HIGHEST = 37.0  # a boundary in standard deviations whose tail still is a positive number

UNLIKELY = 0.04
"""Conditional power of the test for damage, under no further drop, above which no certificate is given."""


@dataclass(frozen=True)
class Spending:
    """A spending function of the Hwang–Shih–DeCani family, or like O'Brien–Fleming's where γ is None.

    The lower γ, the more is kept for the late looks.
    """

    gamma: float | None

    def __call__(self, fraction: float, level: float) -> float:
        """Level that may have been spent at an information fraction t in [0, 1]; all of α at t = 1.

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
    """Read the name of a spending function: "obf", or "hsd" followed by γ, such as "hsd-4".

    Raises ValueError if it is neither.
    """
    if name == OBRIEN_FLEMING:
        return Spending(None)
    match = re.fullmatch(r"hsd([+-]?\d+(?:\.\d+)?)", name)
    if match is None or abs(float(match[1])) > 50.0:
        raise ValueError(
            f"{name!r} is not a spending function: use obf, or hsd with γ from -50 to 50, such as hsd-4."
        )
    return Spending(float(match[1]))


DEGRADED, CERTIFIED = Spending(-2.0), Spending(-4.0)
"""The defaults: over 5 to 20 looks they cost at most 2.3 points of power."""


@dataclass(frozen=True)
class Stopping:
    """When a variant is stopped early.

    Raises ValueError if there are no looks.
    """

    looks: int = 10  # K, equally spaced
    until: Until = "degraded"  # "degraded" stops for damage only; "decided" also for a certificate
    degraded: Spending = DEGRADED  # spending function of the looks for damage
    # spending function of the looks for a certificate; without effect until "degraded", where a certificate
    # is tested once, at the end
    certified: Spending = CERTIFIED
    certificate: Certificate = "default"  # what it rests on; a proven one spends nothing

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise ValueError(f"looks must be at least 1, but is {self.looks}.")

    @property
    def fractions(self) -> tuple[float, ...]:
        """Information fractions t_k = k/K."""
        return tuple(look / self.looks for look in range(1, self.looks + 1))


class _Paths:
    """Paths of a Brownian motion that have not been stopped by a time: quadrature nodes with their masses."""

    def __init__(self) -> None:
        self.time, self.nodes, self.masses = 0.0, np.zeros(1), np.ones(1)

    def beyond(self, limit: float, time: float, drift: float = 0.0) -> float:
        """P(not stopped before and X(time) ≥ limit)."""
        step = time - self.time
        return float(self.masses @ ndtr((self.nodes + drift * step - limit) / np.sqrt(step)))

    def limit_of(self, mass: float, time: float) -> float:
        """The value above which a given mass of the paths lies at a later time."""
        root = float(np.sqrt(time))
        if self.time == 0.0:
            return -float(ndtri(max(mass, 1e-300))) * root
        highest = HIGHEST * root
        if self.beyond(highest, time) >= mass:
            return highest
        return float(brentq(lambda limit: self.beyond(limit, time) - mass, -highest, highest, xtol=1e-13))

    def keep(self, low: float, high: float, time: float, drift: float = 0.0) -> None:
        """Go on to a later time with the paths that lie between the limits then."""
        step = time - self.time
        spread = FURTHEST * np.sqrt(time)
        low, high = max(low, drift * time - spread), min(high, drift * time + spread)
        nodes, masses = np.zeros(1), np.zeros(1)
        if low < high:
            points, weights = _legendre()
            nodes = low + (high - low) * points
            gaps = (nodes[:, None] - self.nodes - drift * step) / np.sqrt(step)
            density = np.exp(-(gaps**2) / 2.0) @ self.masses / np.sqrt(2.0 * np.pi * step)
            masses = (high - low) * weights * density
        self.time, self.nodes, self.masses = time, nodes, masses


@lru_cache(maxsize=1)
def _legendre() -> tuple[Floats, Floats]:
    points, weights = np.polynomial.legendre.leggauss(NODES)
    return (points + 1.0) / 2.0, weights / 2.0


@lru_cache(maxsize=1024)
def lan_demets_boundaries(
    fractions: tuple[float, ...], spending: Spending, level: float
) -> tuple[float, ...]:
    """One-sided boundaries c_k with P(Z_j ≥ c_j for some j ≤ k) = f(t_k) for a standard Brownian motion.

    On the scale of Z_k = X(t_k)/√t_k (Lan & DeMets 1983), one for each t_k of the looks taken, increasing, in
    (0, 1]; f spends the level.
    """
    boundaries, paths, spent = [], _Paths(), 0.0
    for time in fractions:
        allowed = spending(time, level)
        limit = paths.limit_of(allowed - spent, time)
        spent = allowed
        boundaries.append(limit / float(np.sqrt(time)))
        paths.keep(-np.inf, limit, time)
    return tuple(boundaries)


def exit_probabilities(
    fractions: tuple[float, ...], lower: Floats, upper: Floats, drift: float
) -> tuple[Floats, Floats]:
    """Where X(t), Brownian motion with drift E X(1), first leaves the strip between two boundaries.

    Args:
        fractions: t_k, increasing, in (0, 1].
        lower: boundary below at each look on the scale of X, −∞ for none, shape (K,).
        upper: boundary above at each look, shape (K,); at or above it the path leaves at the top.
        drift: E X(1).

    Returns:
        P(first leaves below at look k), P(first leaves above at look k), shape (K,) each.
    """
    below, above, paths = np.zeros(len(fractions)), np.zeros(len(fractions)), _Paths()
    for look, time in enumerate(fractions):
        high = float(upper[look])
        low = min(float(lower[look]), high)
        above[look] = paths.beyond(high, time, drift)
        below[look] = paths.masses.sum() - paths.beyond(low, time, drift)
        paths.keep(low, high, time, drift)
    return below, above


def bias_adjusted(fractions: tuple[float, ...], bounds: Floats, estimate: float) -> float:
    """The drift at which X(T)/T at the stop T is on average as large as it was found (Whitehead 1986).

    The bounds are those of `strip` in standard deviations, shape (2, K); at the last look every path stops.
    What is found at a stop that the path has chosen is more extreme than the drift: that bias is taken off.
    """

    def excess(drift: float) -> float:
        paths, mean = _Paths(), 0.0
        for time, (low, high) in zip(fractions, bounds.T.tolist(), strict=True):
            reached = paths.masses @ (paths.nodes + drift * (time - paths.time))
            paths.keep(low, high if time < fractions[-1] else low, time, drift)
            mean += float(reached - paths.masses @ paths.nodes) / time
        return mean - estimate

    furthest = FURTHEST / float(np.sqrt(fractions[0]))
    return float(brentq(excess, estimate - furthest, estimate + furthest, xtol=1e-6))


def stagewise_p_value(fractions: tuple[float, ...], boundaries: tuple[float, ...], statistic: float) -> float:
    """P(crossed at an earlier look, or now with at least this Z) for a standard Brownian motion.

    Looks were taken at fractions t_k, the present one last; boundaries are c_k of at least those before.
    """
    paths, spent = _Paths(), 0.0
    for time, boundary in zip(fractions[:-1], boundaries, strict=False):
        limit = boundary * float(np.sqrt(time))
        spent += paths.beyond(limit, time)
        paths.keep(-np.inf, limit, time)
    last = fractions[-1]
    return min(1.0, spent + paths.beyond(statistic * float(np.sqrt(last)), last))


class CertificateLevels:
    """The p-values that certify, look by look.

    Args:
        stopping: looks and spending; until "degraded" the certificate is tested once, at the last look.
        alpha: level over all looks.
        damage: level of the test for damage, for whose sake certificates are held back; by default the same.

    Attributes:
        spent: level that may have been spent after 0, 1, … K looks, shape (K + 1,).
        boundaries: level of each look with many flips, on the normal scale, K of them; of a proven
            certificate the evidence that is needed there, in the limit of many small bets.
    """

    def __init__(self, stopping: Stopping, alpha: float, damage: float | None = None) -> None:
        self._fractions, self._is_proven = stopping.fractions, stopping.certificate == "proven"
        self._last = lan_demets_boundaries(stopping.fractions, stopping.degraded, damage or alpha)[-1]
        self.spent = np.array([0.0, *(stopping.certified(fraction, alpha) for fraction in self._fractions)])
        if self._is_proven:
            times = np.array(self._fractions)
            self.spent[1:] = alpha
            self.boundaries = tuple((STAKE * times / 2.0 - np.log(alpha) / STAKE) / np.sqrt(times))
        elif stopping.until == "decided":
            self.boundaries = lan_demets_boundaries(self._fractions, stopping.certified, alpha)
        else:
            self.boundaries = (-float(ndtri(alpha)),) * stopping.looks
        if stopping.until == "degraded":
            self.spent[:-1] = 0.0
            self.boundaries = (np.inf,) * (stopping.looks - 1) + self.boundaries[-1:]

    def level(self, look: int, *, few_flips: bool) -> float:
        """The largest p-value that certifies at a look, counted from 1."""
        if self._is_proven:
            return float(self.spent[look])
        if few_flips:
            return float(self.spent[look] - self.spent[look - 1])
        return float(ndtr(-self.boundaries[look - 1]))

    def largest_evidence(self, look: int) -> float:
        """The evidence Z_k of a drop above which no certificate is given at look k.

        With it P(Z_K ≥ c_K | Z_k, no further drop) is as large as a certificate allows.
        """
        time = self._fractions[look - 1]
        if time >= 1.0:
            return float("inf")
        return float((self._last + ndtri(UNLIKELY) * np.sqrt(1.0 - time)) / np.sqrt(time))

    def stagewise_p(self, look: int, p: float, *, few_flips: bool) -> float:
        """P(certified at an earlier look, or at this one with as small a p-value), if the drop is the margin.

        With few flips, fewer than 20 blocks that differ, the probabilities are added up. A proven p-value is
        one over all looks already.
        """
        if self._is_proven:
            return p
        if few_flips:
            return min(1.0, p + float(self.spent[look - 1]))
        return stagewise_p_value(self._fractions[:look], self.boundaries[:look], -float(ndtri(p)))


def strip(
    stopping: Stopping, levels: tuple[float, float], margin: float, items: int, mean_square: float
) -> Floats:
    """Boundaries at the looks of Σd/√N, by the normal limit: of the certificate below, of damage above.

    The levels are those of the certificate and of the test for damage, d the differences of N items with a
    given mean square. Shape (2, K); the lower one is −∞ where nothing is certified.
    """
    times, certificate = np.array(stopping.fractions), CertificateLevels(stopping, levels[0])
    roots, error = np.sqrt(mean_square * times), np.sqrt(max(mean_square - margin**2, 1e-12) * times)
    held_back = np.array([certificate.largest_evidence(look) for look in range(1, times.size + 1)])
    reached = margin * times * np.sqrt(items) - np.array(certificate.boundaries) * error
    upper = np.array(lan_demets_boundaries(stopping.fractions, stopping.degraded, levels[1]))
    return np.stack([np.minimum(reached, held_back * roots), upper * roots])
