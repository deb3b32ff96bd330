"""Why averages decide nothing: two variants lose the same accuracy, and only one is surely worse."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.figures.style import COLOURS, HEIGHT, WIDE, look, new_figure
from stats.mcnemar import mcnemar_test


@dataclass(frozen=True)
class Example:
    """A variant of a baseline.

    Attributes:
        name: what to call it.
        worse: b, items the baseline has right and the variant wrong.
        better: c, the other way round.
    """

    name: str
    worse: int
    better: int

    @property
    def p(self) -> float:
        """One-sided exact McNemar test."""
        return mcnemar_test(self.worse, self.better).p


ITEMS, RIGHT = 2_000, 1_200
EXAMPLES = (Example("variant A", 60, 30), Example("variant B", 225, 195))


def introduction() -> Figure:
    """Accuracy on the left, the flips behind it on the right."""
    with look():
        figure = new_figure(WIDE, HEIGHT)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _accuracies(left)
        _flips(right)
    return figure


def _accuracies(axes: Axes) -> None:
    names = ("baseline", *(example.name for example in EXAMPLES))
    right = [RIGHT, *(RIGHT - example.worse + example.better for example in EXAMPLES)]
    shares = [100 * count / ITEMS for count in right]
    bars = axes.bar(names, shares, width=0.6, color=(COLOURS[6], COLOURS[0], COLOURS[0]))
    axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.set_ylim(50, 62.5)
    axes.set_ylabel("right answers (%), axis from 50")
    axes.set_title("The same loss of accuracy …")
    axes.grid(visible=False, axis="x")


def _flips(axes: Axes) -> None:
    places = np.arange(len(EXAMPLES))
    worse = axes.bar(
        places, [e.worse for e in EXAMPLES], width=0.55, color=COLOURS[1], label="right to wrong"
    )
    better = axes.bar(
        places,
        [-e.better for e in EXAMPLES],
        width=0.55,
        color=COLOURS[2],
        hatch="//",
        edgecolor="white",
        label="wrong to right",
    )
    axes.bar_label(worse, labels=[str(e.worse) for e in EXAMPLES], padding=2)
    axes.bar_label(better, labels=[str(e.better) for e in EXAMPLES], padding=2)
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xticks(places, [f"{e.name}\np = {e.p:.2g}" for e in EXAMPLES])
    axes.set_yticks([-200, -100, 0, 100, 200], ["200", "100", "0", "100", "200"])
    axes.set_xlim(-0.6, len(EXAMPLES) - 0.4)
    axes.set_ylim(-270, 360)
    axes.set_ylabel(f"flips among {ITEMS:,} items")
    axes.set_title("… but not the same evidence")
    axes.legend(loc="upper left")
    axes.grid(visible=False, axis="x")
