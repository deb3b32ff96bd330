"""Does the verdict on lengths hold? Planted changes of real answers, with and without clusters.

Every line of answer_lengths.csv is a question that SmolLM2-135M-Instruct answered twice at temperature 0.7:
its subject (the cluster) and the tokens of both answers, at most 160. An experiment draws questions, or
whole subjects, with replacement, and has the two answers of each in random order: by construction nothing
differs. A change is planted by lengthening the second; where clusters "shift", the answers of one side to a
subject, chosen at random, are 20 % longer, so that its items depend on each other.

    python benchmarks/change_rates.py [--simulations 1000]
"""

import argparse
import csv
from functools import cache
from pathlib import Path

import numpy as np

from stats.arrays import Floats, Ints
from stats.change import Change, measure_change
from stats.scores import TaskScores

ALPHA, SHIFT = 0.05, 1.2
DATA = Path(__file__).with_name("answer_lengths.csv")
WORLDS = {
    "100 items": {"items": 100},
    "400 items": {"items": 400},
    "30 clusters of 5": {"clusters": 30},
    "30 clusters of 5 that shift": {"clusters": 30, "shift": True},
    "20 clusters of 5 to 30 that shift": {"clusters": 20, "shift": True, "largest": 6},
}
PLANTED = (0.0, 0.05, 0.3)


@cache
def answer_lengths() -> tuple[Ints, Floats]:
    """Number of the subject, shape (questions,), and tokens, shape (questions, 2)."""
    with DATA.open() as file:
        rows = list(csv.reader(file))[1:]
    subjects = np.unique([row[0] for row in rows], return_inverse=True)[1]
    return subjects, np.array([row[1:] for row in rows], dtype=np.float64)


def experiment(
    rng: np.random.Generator,
    planted: float,
    *,
    items: int = 0,
    clusters: int = 0,
    shift: bool = False,
    largest: int = 1,
) -> Change:
    """One experiment of so many independent items, or of clusters of 1 to `largest` subjects."""
    subjects, lengths = answer_lengths()
    if items:
        drawn, labels = rng.integers(0, subjects.size, items), None
    else:
        sizes = rng.integers(1, largest + 1, clusters)
        chosen = [rng.integers(0, subjects.max() + 1, size) for size in sizes]
        drawn = np.concatenate([np.flatnonzero(subjects == one) for own in chosen for one in own])
        questions = np.bincount(subjects)
        labels = np.repeat(np.arange(clusters), [questions[own].sum() for own in chosen])
    pair = rng.permuted(lengths[drawn], axis=1).T
    if shift and labels is not None:
        longer = rng.integers(0, 2, clusters)[labels]
        pair[longer, np.arange(drawn.size)] *= SHIFT
    baseline, variant = np.rint(pair[0]), np.rint(pair[1] * (1.0 + planted))
    task, tolerance = TaskScores("t", baseline, variant, clusters=labels, bounds=None), max(planted, 0.01)
    return measure_change("output_tokens", [task], relative=True, tolerance=tolerance, alpha=ALPHA)


def rates(world: str, planted: float, simulations: int) -> tuple[float, float, float]:
    """How often a change is found, its interval holds it, and a change as large is "ruled out"."""
    rng = np.random.default_rng([7, list(WORLDS).index(world), round(1000 * planted)])
    found = [experiment(rng, planted, **WORLDS[world]) for _ in range(simulations)]
    covered = [low <= planted <= high for low, high in (change.change_interval for change in found)]
    ruled_out = np.mean([change.p_within <= ALPHA for change in found]) if planted else np.nan
    return float(np.mean([c.p <= ALPHA for c in found])), float(np.mean(covered)), float(ruled_out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1_000)
    count = parser.parse_args().simulations
    print(f"{'':35}{'planted':>8}{'found':>8}{'covered':>9}{'ruled out':>11}")
    for world in WORLDS:
        for planted in PLANTED:
            found, covered, ruled_out = rates(world, planted, count)
            print(f"{world:35}{planted:8.0%}{found:8.3f}{covered:9.3f}{ruled_out:11.3f}", flush=True)


if __name__ == "__main__":
    main()
