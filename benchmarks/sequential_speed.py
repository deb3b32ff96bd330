"""What a look costs at 25,000 items × 10 reruns, beside the same look from sign vectors drawn bit by bit.

Processor time per look, mean over ten looks of one comparison. Run `python benchmarks/sequential_speed.py`.
"""

import time

import numpy as np
from numpy.typing import NDArray

from stats.distributions.nulls import DRAWS, monte_carlo_sums
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.plan import PlannedTask, SequentialPlan

ITEMS, RERUNS, LOOKS = 25_000, 10, 10


def averages() -> NDArray[np.float64]:
    """Differences of two models' means over reruns."""
    rng = np.random.default_rng(1)
    ability = rng.beta(0.4, 0.4, ITEMS)
    return (rng.binomial(RERUNS, ability) - rng.binomial(RERUNS, 0.99 * ability)) / RERUNS


def looks_taken(differences: NDArray[np.float64], tasks: int, comparisons: int) -> float:
    """Seconds per look with everything that a look needs."""
    planned = tuple(PlannedTask(str(task), differences[task::tasks].size) for task in range(tasks))
    plan = SequentialPlan(planned, tuple(map(str, range(comparisons))))
    monitor = SequentialMonitor(plan)
    start = time.process_time()
    for look in range(1, LOOKS + 1):
        parts = [differences[task::tasks] for task in range(tasks)]
        seen = [part[: planned[task].seen_at(look, LOOKS)] for task, part in enumerate(parts)]
        monitor.observe("0", seen)
        monitor.decisions()
    return (time.process_time() - start) / LOOKS


def bit_by_bit(differences: NDArray[np.float64]) -> float:
    """Seconds for the sums of one look's items under as many sign vectors as the joint statistic has."""
    start = time.process_time()
    monte_carlo_sums(differences[: ITEMS // LOOKS], DRAWS, seed=2)
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    differences = averages()
    drawn = bit_by_bit(differences)
    print(f"{'sums of one look under 20,000 sign vectors, bit by bit':<60}{1_000 * drawn:8.1f} ms")
    for title, tasks, comparisons in (
        ("a look at one task, exact", 1, 1),
        ("the same, one of 40 comparisons (40 levels)", 1, 40),
        ("a look at 6 tasks, joint statistic, 20,000 sign vectors", 6, 1),
        ("the same, one of 40 comparisons", 6, 40),
    ):
        taken = looks_taken(differences, tasks, comparisons)
        print(f"{title:<60}{1_000 * taken:8.1f} ms   ratio {drawn / taken:6.1f}", flush=True)


if __name__ == "__main__":
    main()
