"""What looking at the worst of many tasks does to its interval and its drop.

As found, and with what allows for the choice.

    python benchmarks/chosen_tasks.py [--sweeps 400]
"""

import argparse

import numpy as np
from scipy.special import ndtri

from stats.arrays import Floats
from stats.comparison import compare, shrinkage
from stats.results import Settings
from stats.scores import TaskScores

ITEMS, FLIPS = 200, 0.1
FOUND = 0.021  # level at which max-drop decides alone, inside the joint test at .05


def same(rng: np.random.Generator, name: str) -> TaskScores:
    """A task on which as many answers become worse as better, on average."""
    baseline = (rng.random(ITEMS) < 0.5).astype(float)
    return TaskScores(name, baseline, np.where(rng.random(ITEMS) < FLIPS, 1.0 - baseline, baseline))


def intervals(tasks: int, sweeps: int) -> str:
    """How often the worst task's interval lies right of 0, and any task's simultaneous one beside it."""
    rng, counts = np.random.default_rng(tasks), np.zeros(3)
    for _ in range(sweeps):
        found = compare([same(rng, str(number)) for number in range(tasks)], Settings(draws=499)).tasks
        worst, ends = max(found, key=lambda task: task.drop), [t.drop_interval_simultaneous for t in found]
        lows = worst.drop_interval_decision[0], worst.drop_interval_simultaneous[0]
        counts += *(low > 0.0 for low in lows), any(low > 0.0 or high < 0.0 for low, high in ends)
    alone, together, any_misses = counts / sweeps
    return f"deciding {alone:.3f}, simultaneous {together:.3f}; any of all misses 0: {any_misses:.3f}"


def errors(drops: Floats, effects: Floats) -> str:
    """Bias (root mean square error) of the largest drop where it is significant, as found and shrunken."""
    rows, worst = np.arange(len(drops)), drops.argmax(axis=1)
    found, truth = drops[rows, worst], effects[rows, worst]
    kept = np.array([shrinkage(row)[task] for row, task in zip(drops, worst, strict=True)])
    seen = found > -ndtri(1.0 - (1.0 - FOUND) ** (1.0 / drops.shape[1]))
    both = ((found - truth)[seen], (kept * found - truth)[seen])
    return " → ".join(f"{error.mean():+.2f} ({np.sqrt((error**2).mean()):.2f})" for error in both)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=400)
    sweeps = parser.parse_args().sweeps
    for tasks in (6, 20):
        print(f"{tasks} tasks without a drop, the worst right of 0: {intervals(tasks, sweeps)}", flush=True)
    for lost in (3.0, 5.0, None):
        for tasks in (6, 20, 57):
            rng, effects = np.random.default_rng(tasks), np.zeros((10 * sweeps, tasks))
            effects[:, 0] = lost or 0.0
            if lost is None:
                effects = rng.normal(size=effects.shape)
            name = "effects N(0, 1)" if lost is None else f"one task loses {lost:g} standard errors"
            found = errors(effects + rng.normal(size=effects.shape), effects)
            print(f"{name}, {tasks} tasks: {found}", flush=True)


if __name__ == "__main__":
    main()
