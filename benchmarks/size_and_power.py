"""Do the tests keep their level, the intervals their coverage, and does the joint decision pay?

Simulates all of it with a fixed seed and prints one table per question. A nominal .05 may be exceeded only by
simulation error. Run `python benchmarks/size_and_power.py`; `--simulations` trades time for precision.
"""

import argparse
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stats.arrays import block_sums
from stats.drop import ClusterEvidence, Interval, fay_lumbard_interval, tango_interval
from stats.signflip import SignFlipTest
from stats.tasks.combine import Combined, combine_tasks
from stats.watch import log_e_value

ALPHA = 0.05
PLENTIFUL = (460, 95, 43, 106, 963, 60)
FEW = (12, 5, 3, 9, 40, 6)
DRAWS = 4_000
TESTS: dict[str, Callable[[Combined], float]] = {
    "pooled": lambda found: found.pooled.p,
    "max-drop": lambda found: found.p["max-drop"],
    "fisher": lambda found: found.p["fisher"],
    "fisher-chi2": lambda found: found.p_fisher_chi2,
    "joint": lambda found: found.p["joint"],
    "bonferroni": lambda found: min(1.0, 3.0 * found.p["any"]),
    "any": lambda found: found.p["any"],
}


def bounded_interval(
    differences: NDArray[np.float64], alpha: float = 0.05, max_abs_difference: float = 1.0
) -> Interval:
    """Distribution-free interval for the mean of independent differences.

    Anderson's (1969) bound: the mean of the largest and the smallest distribution within the
    Dvoretzky–Kiefer–Wolfowitz band of the empirical one, with Massart's (1990) constant. Valid for every n
    and every bounded distribution, never wider than Hoeffding's interval.

    Args:
        differences: one per item or cluster mean, shape (n,).
        alpha: 1 − confidence.
        max_abs_difference: largest possible |difference|.
    """
    count = differences.size
    band = float(np.sqrt(np.log(2.0 / alpha) / (2.0 * count)))
    if band >= 1.0:
        return -max_abs_difference, max_abs_difference
    # the lowest share `band` of the sample is moved up to the upper bound, on the other side the highest down
    kept = np.clip((np.arange(count) + 1.0) / count - band, 0.0, 1.0 / count)
    rest = (1.0 - kept.sum()) * max_abs_difference
    low, high = (float(kept @ np.sort(sign * differences) + rest) for sign in (-1.0, 1.0))
    return -low, high


def flips_of(worse: int, total: int) -> NDArray[np.float64]:
    """Differences of the items that flipped: b times +1 and the rest −1."""
    return np.where(np.arange(total) < worse, 1.0, -1.0)


def rejections(
    counts: tuple[int, ...], shares: tuple[float, ...], simulations: int, seed: int
) -> dict[str, float]:
    """Share of simulations in which each test rejects, for given flips per task and shares to wrong."""
    rng = np.random.default_rng(seed)
    rejected = dict.fromkeys(TESTS, 0)
    for number in range(simulations):
        worse = rng.binomial(counts, shares)
        found = combine_tasks([flips_of(b, m) for b, m in zip(worse, counts, strict=True)], DRAWS, number)
        for name, p_value in TESTS.items():
            rejected[name] += p_value(found) <= ALPHA
    return {name: count / simulations for name, count in rejected.items()}


def graded_rejections(simulations: int, seed: int) -> dict[str, float]:
    """Size where scores are averages: unequal reruns (exact) and scores on no lattice (Monte Carlo)."""
    rng = np.random.default_rng(seed)
    rejected = {"10 against 7 reruns, exact": 0, "continuous, Monte Carlo": 0}
    for number in range(simulations):
        ability = rng.beta(0.4, 0.4, 60)
        averaged = rng.binomial(10, ability) / 10 - rng.binomial(7, ability) / 7
        rejected["10 against 7 reruns, exact"] += SignFlipTest(averaged).p <= ALPHA
        continuous = SignFlipTest(rng.normal(size=40) * rng.random(40), draws=999, seed=number)
        rejected["continuous, Monte Carlo"] += continuous.p <= ALPHA
    return {name: count / simulations for name, count in rejected.items()}


def cluster_rejections(simulations: int, seed: int) -> dict[str, float]:
    """Size with 14 clusters of 200 items whose share of flips to wrong varies by 0.12 around one half."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(14), 200)
    rejected = {"items as if independent": 0, "clusters flipped as blocks": 0}
    for _ in range(simulations):
        share = np.clip(rng.normal(0.5, 0.12, 14), 0.0, 1.0)[labels]
        flipped = rng.random(labels.size) < 0.09
        differences = np.where(flipped, np.where(rng.random(labels.size) < share, 1.0, -1.0), 0.0)
        rejected["items as if independent"] += SignFlipTest(differences).p <= ALPHA
        rejected["clusters flipped as blocks"] += SignFlipTest(block_sums(differences, labels)).p <= ALPHA
    return {name: count / simulations for name, count in rejected.items()}


def peeking_rejections(simulations: int, seed: int, flips: int = 2_000) -> dict[str, float]:
    """False alarms of looks while the flips come in: the fixed test every 50, the e-process after each."""
    rng = np.random.default_rng(seed)
    rejected = {"fixed test every 50 flips": 0, "e-process after each flip": 0}
    for _ in range(simulations):
        wrong = rng.random(flips) < 0.5
        looks = np.arange(50, flips + 1, 50)
        net = 2 * np.cumsum(wrong)[looks - 1] - looks
        peeks = zip(net.tolist(), looks.tolist(), strict=True)
        rejected["fixed test every 50 flips"] += any(_mcnemar_rejects(*peek) for peek in peeks)
        worse = np.cumsum(wrong)
        log_e = log_e_value(worse, np.arange(1, flips + 1) - worse)
        rejected["e-process after each flip"] += bool((log_e >= -np.log(ALPHA)).any())
    return {name: count / simulations for name, count in rejected.items()}


@cache
def _mcnemar_rejects(net: int, flips: int) -> bool:
    return SignFlipTest(flips_of((flips + net) // 2, flips)).p <= ALPHA


def binary_coverage(
    items: int, flip_rate: float, share: float, simulations: int, seed: int
) -> dict[str, float]:
    """Coverage of every interval for right-or-wrong answers at a true drop of p_flip·(2q − 1)."""
    rng = np.random.default_rng(seed)
    chances = [flip_rate * share, flip_rate * (1 - share), 1 - flip_rate]
    counts, times = np.unique(rng.multinomial(items, chances, simulations)[:, :2], axis=0, return_counts=True)
    drop = flip_rate * (2 * share - 1)
    covered = dict.fromkeys(("fay-lumbard", "tango", "t", "bounded"), 0)
    for (worse, better), repeats in zip(counts.tolist(), times.tolist(), strict=True):
        differences = np.repeat([1.0, -1.0, 0.0], [worse, better, items - worse - better])
        intervals = {
            "fay-lumbard": fay_lumbard_interval(worse, better, items, ALPHA),
            "tango": tango_interval(worse, better, items, ALPHA),
            "t": ClusterEvidence(differences, np.ones_like(differences)).interval(ALPHA),
            "bounded": bounded_interval(differences, ALPHA),
        }
        for name, interval in intervals.items():
            covered[name] += repeats * _covers(interval, drop)
    return {name: count / simulations for name, count in covered.items()}


def averaged_coverage(items: int, reruns: int, drop: float, simulations: int, seed: int) -> dict[str, float]:
    """Coverage for averages over reruns, items half easy or hard and half in between, drop in the latter."""
    rng = np.random.default_rng(seed)
    covered = dict.fromkeys(("t", "bounded"), 0)
    for _ in range(simulations):
        ability = np.where(rng.random(items) < 0.5, rng.random(items) < 0.5, rng.uniform(0.2, 0.8, items))
        lower = np.where((ability > 0.0) & (ability < 1.0), ability - 2 * drop, ability)
        differences = (rng.binomial(reruns, ability) - rng.binomial(reruns, lower)) / reruns
        covered["t"] += _covers(ClusterEvidence(differences, np.ones_like(differences)).interval(ALPHA), drop)
        covered["bounded"] += _covers(bounded_interval(differences, ALPHA), drop)
    return {name: count / simulations for name, count in covered.items()}


def _covers(interval: Interval, drop: float) -> bool:
    return interval[0] - 1e-12 <= drop <= interval[1] + 1e-12


def report(title: str, rates: dict[str, float]) -> None:
    """Print one row of figures."""
    print(f"{title:<44}" + "  ".join(f"{name} {rate:.4f}" for name, rate in rates.items()), flush=True)


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=20_000)
    count = parser.parse_args().simulations
    half = (0.5,) * 6
    report("size, plentiful flips", rejections(PLENTIFUL, half, count, 1))
    report("size, few flips", rejections(FEW, half, count, 2))
    report("size, averaged or continuous scores", graded_rejections(count, 3))
    report("size, clusters", cluster_rejections(count, 4))
    report("false alarms of peeking", peeking_rejections(count, 5))
    report("power, damage on every task", rejections(PLENTIFUL, (0.54,) * 6, count // 4, 6))
    report("power, one damaged task", rejections(PLENTIFUL, (0.58, *half[1:]), count // 4, 7))
    for items in (50, 200, 1_000):
        for flip_rate in (0.02, 0.1, 0.3):
            for share in (0.5, 0.6, 0.8):
                title = f"coverage, N={items}, p_flip={flip_rate}, q={share}"
                report(title, binary_coverage(items, flip_rate, share, count, 8))
    for items in (50, 100, 500):
        for reruns in (3, 10):
            title = f"coverage, N={items}, {reruns} reruns, drop 0.05"
            report(title, averaged_coverage(items, reruns, 0.05, count // 4, 9))


if __name__ == "__main__":
    main()
