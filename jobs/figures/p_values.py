"""The p-value by drop and flips: what a paired test sees and a comparison of averages cannot."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.special import ndtr
from scipy.stats import binom

from jobs.figures.style import HEIGHT, WIDE, look, new_figure
from stats.arrays import Floats, Ints

ITEMS, ACCURACY = 5_000, 0.6
SMALLEST = 1e-6
FLIPS: Ints = np.arange(10, 1_211, 10)
NETS: Ints = np.arange(0, 161, 2)


@dataclass(frozen=True)
class PValueMap:
    """One-sided p-values over a grid; NaN where so few flips allow no such drop.

    Attributes:
        drops: in points, shape (n,).
        flips: in percent of the items, shape (m,).
        paired: exact McNemar test, shape (m, n).
        unpaired: two-sample z-test, shape (m, n).
    """

    drops: Floats
    flips: Floats
    paired: Floats
    unpaired: Floats


def p_value_map() -> PValueMap:
    """Compute both tests for every number of flips and every net loss."""
    flips, nets = FLIPS[:, None], NETS[None, :]
    possible = nets <= flips
    paired = np.where(possible, binom.sf((flips + nets) // 2 - 1, flips, 0.5), np.nan)
    drop = nets / ITEMS
    mean = ACCURACY - drop / 2
    unpaired = ndtr(-drop / np.sqrt(2 * mean * (1 - mean) / ITEMS))
    return PValueMap(
        100.0 * NETS / ITEMS,
        100.0 * FLIPS / ITEMS,
        np.maximum(paired, SMALLEST),
        np.where(possible, np.maximum(unpaired, SMALLEST), np.nan),
    )


def p_values() -> Figure:
    """Two maps with one colour scale; the line is p = .05."""
    found = p_value_map()
    with look():
        figure = new_figure(WIDE, HEIGHT)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, values, title in zip(
            panels, (found.paired, found.unpaired), ("paired: exact McNemar", "unpaired: z-test"), strict=True
        ):
            mesh = _map(axes, found, values, title)
        panels[0].set_ylabel("flips (% of items)")
        bar = figure.colorbar(mesh, ax=list(panels), pad=0.02)
        bar.set_label(f"one-sided p, {ITEMS:,} items")
        bar.ax.set_yticks(
            [10.0**-k for k in range(7)], ["1", *(f"$10^{{-{k}}}$" for k in range(1, 6)), "≤ $10^{-6}$"]
        )
    return figure


def _map(axes: Axes, found: PValueMap, values: Floats, title: str) -> QuadMesh:
    axes.set_facecolor("#bbbbbb")
    mesh = axes.pcolormesh(
        found.drops,
        found.flips,
        values,
        norm=LogNorm(SMALLEST, 1.0),
        cmap="viridis",
        shading="nearest",
        rasterized=True,
    )
    line = axes.contour(found.drops, found.flips, values, levels=[0.05], colors="black", linewidths=2.2)
    axes.clabel(line, fmt={0.05: "p = .05"}, fontsize=13, inline_spacing=8)
    axes.text(0.97, 0.02, "fewer flips than that drop", transform=axes.transAxes, ha="right", fontsize=11)
    axes.grid(visible=False)
    axes.set_xlabel("drop (accuracy points)")
    axes.set_title(title)
    return mesh
