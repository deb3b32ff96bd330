"""The figures that explain the method; `lldeg figures --out DIR` draws them.

`introduction`: why averages decide nothing: two variants lose the same accuracy, and only one is surely
worse. `paired_power`: what pairing gains over comparing two averages. `p_values`: p by drop and flips: what a
paired test sees and a comparison of averages cannot. `tasks_and_power`: which combination over tasks finds
the damage, spread over all of them or sitting in one.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from jobs.text.figure_style import COLOURS, DASHES, HEIGHT, MARKERS, WIDE, new_figure, plot_style
from stats.arrays import Floats, Ints
from stats.planning import exact_power
from stats.signflip import mcnemar_p
from stats.tasks.combinations import Combine
from stats.tasks.power import TaskShape, power_over_tasks

EXAMPLE_ITEMS, EXAMPLE_RIGHT = 2_000, 1_200
EXAMPLES = (("variant A", 60, 30), ("variant B", 225, 195))
"""What to call a variant, and how many of the items are right to wrong in it and wrong to right (b, c)."""


def introduction() -> Figure:
    """Accuracy on the left, the flips behind it on the right."""
    with plot_style():
        figure = new_figure(WIDE, HEIGHT)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _accuracies(left)
        _flips(right)
    return figure


def _accuracies(axes: Axes) -> None:
    names = ("baseline", *(name for name, _, _ in EXAMPLES))
    right = [EXAMPLE_RIGHT, *(EXAMPLE_RIGHT - worse + better for _, worse, better in EXAMPLES)]
    shares = [100 * count / EXAMPLE_ITEMS for count in right]
    bars = axes.bar(names, shares, width=0.6, color=(COLOURS[6], COLOURS[0], COLOURS[0]))
    axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.set_ylim(50, 62.5)
    axes.set_ylabel("right answers (%), axis from 50")
    axes.set_title("The same loss of accuracy …")
    axes.grid(visible=False, axis="x")


def _flips(axes: Axes) -> None:
    places, (_, worse, better) = np.arange(len(EXAMPLES)), zip(*EXAMPLES, strict=True)
    left = axes.bar(places, worse, width=0.55, color=COLOURS[1], label="right to wrong")
    hatched: Any = {"color": COLOURS[2], "hatch": "//", "edgecolor": "white", "label": "wrong to right"}
    right = axes.bar(places, [-count for count in better], width=0.55, **hatched)
    axes.bar_label(left, labels=[str(count) for count in worse], padding=2)
    axes.bar_label(right, labels=[str(count) for count in better], padding=2)
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xticks(places, [f"{name}\np = {mcnemar_p(b, c):.2g}" for name, b, c in EXAMPLES])
    axes.set_yticks([-200, -100, 0, 100, 200], ["200", "100", "0", "100", "200"])
    axes.set_xlim(-0.6, len(EXAMPLES) - 0.4)
    axes.set_ylim(-270, 360)
    axes.set_ylabel(f"flips among {EXAMPLE_ITEMS:,} items")
    axes.set_title("… but not the same evidence")
    axes.legend(loc="upper left")
    axes.grid(visible=False, axis="x")


ITEMS, ACCURACY, ALPHA = 5_000, 0.6, 0.05
FLIP_RATES = (0.03, 0.09, 0.20)
DROPS: Floats = np.linspace(0.0, 0.03, 61)


def power_curves(flip_rate: float) -> tuple[Floats, Floats, Floats]:
    """Power by true drop, for all drops that a flip rate allows; each of shape (n,).

    Returns:
        The drops, as shares; the power of the exact one-sided McNemar test, and of the two-sample z-test on
        the same answers.
    """
    drops = DROPS[flip_rate >= DROPS]
    paired = np.array([exact_power(ITEMS, float(drop), flip_rate, ALPHA) for drop in drops])
    return drops, paired, unpaired_power(drops, flip_rate)


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
    with plot_style():
        figure = new_figure()
        axes = figure.subplots()
        for rate, colour, marker in zip(FLIP_RATES, COLOURS, MARKERS, strict=False):
            style: Any = {"color": colour, "marker": marker, "markevery": (5, 10)}
            drops, paired, unpaired = power_curves(rate)
            axes.plot(100 * drops, paired, "-", **style)
            axes.plot(100 * drops, unpaired, "--", **style, markerfacecolor="white")
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


SMALLEST = 1e-6
GRID_FLIPS: Ints = np.arange(10, 1_211, 10)
GRID_NETS: Ints = np.arange(0, 161, 2)


def p_value_map() -> tuple[Floats, Floats, Floats, Floats]:
    """One-sided p-values for every number of flips and every net loss; NaN where no such drop is possible.

    Returns:
        Drops in points, shape (n,); flips in percent of the items, shape (m,); p by the exact McNemar test
        and by the two-sample z-test, each of shape (m, n).
    """
    flips, nets = GRID_FLIPS[:, None], GRID_NETS[None, :]
    possible = nets <= flips
    paired = np.where(possible, binom.sf((flips + nets) // 2 - 1, flips, 0.5), np.nan)
    drop = nets / ITEMS
    mean = ACCURACY - drop / 2
    unpaired = ndtr(-drop / np.sqrt(2 * mean * (1 - mean) / ITEMS))
    unpaired = np.where(possible, np.maximum(unpaired, SMALLEST), np.nan)
    return 100.0 * GRID_NETS / ITEMS, 100.0 * GRID_FLIPS / ITEMS, np.maximum(paired, SMALLEST), unpaired


def p_values() -> Figure:
    """Two maps with one colour scale; the line is p = .05."""
    drops, flips, paired, unpaired = p_value_map()
    with plot_style():
        figure = new_figure(WIDE, HEIGHT)
        panels = figure.subplots(1, 2, sharey=True)
        _map(panels[0], (drops, flips, paired), "paired: exact McNemar")
        mesh = _map(panels[1], (drops, flips, unpaired), "unpaired: z-test")
        panels[0].set_ylabel("flips (% of items)")
        bar = figure.colorbar(mesh, ax=list(panels), pad=0.02)
        bar.set_label(f"one-sided p, {ITEMS:,} items")
        bar.ax.set_yticks(
            [10.0**-k for k in range(7)], ["1", *(f"$10^{{-{k}}}$" for k in range(1, 6)), "≤ $10^{-6}$"]
        )
    return figure


def _map(axes: Axes, grid: tuple[Floats, Floats, Floats], title: str) -> QuadMesh:
    axes.set_facecolor("#bbbbbb")
    look: Any = {"cmap": "viridis", "shading": "nearest", "rasterized": True}
    mesh = axes.pcolormesh(*grid, norm=LogNorm(SMALLEST, 1.0), **look)
    line = axes.contour(*grid, levels=[0.05], colors="black", linewidths=2.2)
    axes.clabel(line, fmt={0.05: "p = .05"}, fontsize=13, inline_spacing=8)
    axes.text(0.97, 0.02, "fewer flips than that drop", transform=axes.transAxes, ha="right", fontsize=11)
    axes.grid(visible=False)
    axes.set_xlabel("drop (accuracy points)")
    axes.set_title(title)
    return mesh


TASKS = (1, 2, 4, 8, 16, 32)
TASK_FLIPS = 100
EVEN, SINGLE = 0.53, 0.65
"""Share of flips to wrong in every task, and in the damaged one of otherwise sound tasks."""
TESTS: dict[Combine, str] = {"joint": "joint", "pooled": "pooled", "max-drop": "max-drop", "fisher": "Fisher"}


def even_damage() -> list[dict[Combine, float]]:
    """Power for each number of tasks, all of them slightly damaged."""
    return [_powers(np.full(tasks, EVEN)) for tasks in TASKS]


def single_damage() -> list[dict[Combine, float]]:
    """Power for each number of tasks, one of them damaged."""
    return [_powers(np.where(np.arange(tasks) == 0, SINGLE, 0.5)) for tasks in TASKS]


def _powers(shares: Floats) -> dict[Combine, float]:
    """Of each test, with shares of flips to wrong in the tasks."""
    tasks = [TaskShape(TASK_FLIPS, 1.0, TASK_FLIPS)] * shares.size
    return {test: power_over_tasks(tasks, 2.0 * shares - 1.0, ALPHA, test) for test in TESTS}


def tasks_and_power() -> Figure:
    """Power against the number of tasks, one panel for each kind of damage."""
    with plot_style():
        figure = new_figure(WIDE, HEIGHT)
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, even_damage(), "all tasks slightly damaged")
        _panel(right, single_damage(), "one task damaged")
        left.set_ylabel(f"power ({TASK_FLIPS} flips a task, level .05)")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(TESTS))
    return figure


def _panel(axes: Axes, powers: list[dict[Combine, float]], title: str) -> None:
    for (field, label), colour, marker, dash in zip(TESTS.items(), COLOURS, MARKERS, DASHES, strict=False):
        heights = [found[field] for found in powers]
        axes.plot(TASKS, heights, color=colour, marker=marker, linestyle=dash, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(TASKS, [str(tasks) for tasks in TASKS])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("number of tasks")
    axes.set_title(title)


FIGURES = (introduction, paired_power, p_values, tasks_and_power)
