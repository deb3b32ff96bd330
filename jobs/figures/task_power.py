"""Which combination over tasks finds the damage: spread over all of them, or sitting in one."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.figures.style import COLOURS, DASHES, HEIGHT, MARKERS, WIDE, look, new_figure
from stats.arrays import Floats
from stats.task_power import TaskPower, task_power

TASKS = (1, 2, 4, 8, 16, 32)
FLIPS = 100
EVEN, SINGLE = 0.53, 0.65
"""Share of flips to wrong in every task, and in the damaged one of otherwise sound tasks."""
TESTS = {"joint": "joint", "pooled": "pooled", "max_drop": "max-drop", "fisher": "Fisher"}


def even_damage() -> list[TaskPower]:
    """Power for each number of tasks, all of them slightly damaged."""
    return [task_power(FLIPS, np.full(tasks, EVEN), seed=tasks) for tasks in TASKS]


def single_damage() -> list[TaskPower]:
    """Power for each number of tasks, one of them damaged."""
    return [task_power(FLIPS, _single(tasks), seed=100 + tasks) for tasks in TASKS]


def _single(tasks: int) -> Floats:
    shares = np.full(tasks, 0.5)
    shares[0] = SINGLE
    return shares


def tasks_and_power() -> Figure:
    """Power against the number of tasks, one panel for each kind of damage."""
    with look():
        figure = new_figure(WIDE, HEIGHT)
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, even_damage(), "all tasks slightly damaged")
        _panel(right, single_damage(), "one task damaged")
        left.set_ylabel(f"power ({FLIPS} flips a task, level .05)")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(TESTS))
    return figure


def _panel(axes: Axes, powers: list[TaskPower], title: str) -> None:
    for (field, label), colour, marker, dash in zip(TESTS.items(), COLOURS, MARKERS, DASHES, strict=False):
        heights = [getattr(found, field) for found in powers]
        axes.plot(TASKS, heights, color=colour, marker=marker, linestyle=dash, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(TASKS, [str(tasks) for tasks in TASKS])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("number of tasks")
    axes.set_title(title)
