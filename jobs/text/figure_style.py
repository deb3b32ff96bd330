"""One look for every plot: readable in print at half size, by the colour-blind, and the same bytes each time.

Colours are those of Okabe and Ito (2008), and series never differ by colour alone. Files carry no date,
so that a figure changes in version control only when its numbers do.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
FORMATS = ("pdf", "png")
WIDTH, WIDE, HEIGHT = 6.4, 9.8, 4.2
"""Inches, for one panel and for two side by side; at half the size text of 13 points is still readable."""

_LOOK: Any = {  # keys are names of matplotlib's parameters, which it types one by one
    "font.size": 14,
    "axes.labelsize": 14,
    "axes.titlesize": 14,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "legend.fontsize": 13,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "svg.hashsalt": "lldeg",
    "savefig.dpi": 200,
}


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in our style, whatever the user's own matplotlib settings."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_LOOK)
        yield


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> Figure:
    """An empty figure that fits labels in by itself; needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_files(figure: Figure, name: str) -> dict[str, bytes]:
    """A figure as a vector and as a bitmap, by the names of their files: a name with a suffix each."""
    metadata: Any = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    files = {}
    with plot_style():
        for suffix in FORMATS:
            file = io.BytesIO()
            figure.savefig(file, format=suffix, metadata=metadata[suffix])
            files[f"{name}.{suffix}"] = file.getvalue()
    return files
