"""How fast the exact tests are, as ratios taken in one run on one machine.

(a) The pooled sign-flip test of 25,000 items × 10 reruns against `scipy.stats.permutation_test` with 100,000
resamples, whose time is extrapolated from fewer. (b) 100 tasks × 100 variants × 5,000 items per task with the
joint decision and step-down max-T. Run `python benchmarks/statistics.py`; `--small` scales (b) down.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats as sp

from stats.comparison import Settings, TaskScores, compare_variants
from stats.signflip import SignFlipTest

RESAMPLES, TIMED_RESAMPLES = 100_000, 200


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Shortest wall time of some repeats."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def reruns_of(items: int, reruns: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over reruns of two models that differ by half a point."""
    rng = np.random.default_rng(seed)
    ability = rng.beta(0.4, 0.4, items)
    return rng.binomial(reruns, ability) / reruns, rng.binomial(reruns, 0.99 * ability) / reruns


def exact_against_resampling() -> None:
    """Time (a)."""
    baseline, variant = reruns_of(25_000, 10, seed=1)
    differences = baseline - variant
    exact = seconds(lambda: SignFlipTest(differences), repeats=5)

    def resample() -> object:
        return sp.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            alternative="greater",
            n_resamples=TIMED_RESAMPLES,
            batch=100,
            vectorized=True,
            rng=np.random.default_rng(2),
        )

    resampled = seconds(resample) * RESAMPLES / TIMED_RESAMPLES
    print(f"exact pooled test, 25,000 items x 10 reruns        {1000 * exact:10.2f} ms")
    print(f"scipy permutation_test, 100,000 resamples          {resampled:10.1f} s (from {TIMED_RESAMPLES})")
    print(f"ratio                                              {resampled / exact:10,.0f}")


def study(tasks: int, variants: int, items: int) -> dict[str, list[TaskScores]]:
    """Variants of which every tenth loses half a point, the others nothing."""
    rng = np.random.default_rng(3)
    baselines = [(rng.random(items) < 0.6).astype(np.float64) for _ in range(tasks)]
    found: dict[str, list[TaskScores]] = {f"variant-{number}": [] for number in range(variants)}
    for number, scores in enumerate(found.values()):
        chances = np.array([0.06, 0.04]) + (0.005 if number % 10 == 0 else 0.0)
        for task, baseline in enumerate(baselines):
            flipped = rng.random(items) < np.where(baseline > 0.0, chances[1], chances[0])
            scores.append(TaskScores(f"task-{task}", baseline, np.where(flipped, 1.0 - baseline, baseline)))
    return found


def many_variants(tasks: int, variants: int, items: int) -> None:
    """Time (b)."""
    scores = study(tasks, variants, items)
    start = time.process_time()
    taken = seconds(lambda: compare_variants(scores, Settings(adjust="maxt")))
    processor = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{tasks} tasks x {variants} variants x {items:,} items, joint and max-T {taken:10.1f} s")
    print(f"processor time of that, all cores                  {processor:10.1f} s")
    print(f"peak memory                                        {peak / 2**30:10.2f} GiB")


def main() -> None:
    """Run both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    exact_against_resampling()
    many_variants(*((20, 20, 1_000) if parser.parse_args().small else (100, 100, 5_000)))


if __name__ == "__main__":
    main()
