"""What pairing gains: the power of the exact paired test compared with that of comparing two averages."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtr, ndtri

from jobs.figures.style import COLOURS, MARKERS, look, new_figure
from stats.arrays import Floats
from stats.power import exact_power

ITEMS, ACCURACY, ALPHA = 5_000, 0.6, 0.05
FLIP_RATES = (0.03, 0.09, 0.20)
DROPS: Floats = np.linspace(0.0, 0.03, 61)


@dataclass(frozen=True)
class PowerCurves:
    """Power by true drop.

    Attributes:
        flip_rate: p_flip.
        drops: true drops, as shares, shape (n,).
        paired: power of the exact one-sided McNemar test, shape (n,).
        unpaired: power of the two-sample z-test on the same answers, shape (n,).
    """

    flip_rate: float
    drops: Floats
    paired: Floats
    unpaired: Floats


def power_curves(flip_rate: float) -> PowerCurves:
    """Compute both powers for all drops that a flip rate allows."""
    drops = DROPS[flip_rate >= DROPS]
    paired = np.array([exact_power(ITEMS, float(drop), flip_rate, ALPHA) for drop in drops])
    return PowerCurves(flip_rate, drops, paired, unpaired_power(drops, flip_rate))


def unpaired_power(drops: Floats, flip_rate: float) -> Floats:
    """Power of the z-test for two independent proportions when the answers are in fact paired.

    It divides by √(2p(1 − p)/N), as if the runs had nothing in common; the difference really varies by
    √((p_flip − δ²)/N), so that the test rejects far less than it could.
    """
    mean = ACCURACY - drops / 2
    critical = -ndtri(ALPHA) * np.sqrt(2 * mean * (1 - mean) / ITEMS)
    power: Floats = ndtr((drops - critical) / np.sqrt(np.maximum(flip_rate - drops**2, 1e-12) / ITEMS))
    return power


def paired_power() -> Figure:
    """Power against drop: colour and marker tell the flip rate, the line's style the test."""
    with look():
        figure = new_figure()
        axes = figure.subplots()
        for curves, colour, marker in zip(map(power_curves, FLIP_RATES), COLOURS, MARKERS, strict=False):
            style: Any = {"color": colour, "marker": marker, "markevery": (5, 10)}
            axes.plot(100 * curves.drops, curves.paired, "-", **style)
            axes.plot(100 * curves.drops, curves.unpaired, "--", **style, markerfacecolor="white")
        axes.axhline(ALPHA, color="#777777", linewidth=1)
        axes.text(2.98, ALPHA + 0.02, "level", ha="right", color="#555555")
        axes.set_xlim(0, 100 * DROPS[-1])
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("true drop (accuracy points)")
        axes.set_ylabel("power")
        axes.set_title(f"{ITEMS:,} items, level {ALPHA:g}")
        figure.legend(handles=_handles(), loc="outside lower center", ncols=3)
    return figure


def _handles() -> list[Line2D]:
    rates = [
        Line2D([], [], color=colour, marker=marker, label=f"{100 * rate:g} % flip")
        for rate, colour, marker in zip(FLIP_RATES, COLOURS, MARKERS, strict=False)
    ]
    paired = Line2D([], [], color="black", label="paired")
    unpaired = Line2D([], [], color="black", linestyle="--", label="unpaired")
    return [rates[0], paired, rates[1], unpaired, rates[2]]
