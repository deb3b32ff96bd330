"""Three ways to certify a mean of graded differences: level where it is the margin, power where it is 0.

Student's t, a betting bound for a fixed number of items (Waudby-Smith & Ramdas 2024), and the test of
`stats.drop`, which lldeg uses.

    python benchmarks/graded_bounds.py [--simulations 2000]
"""

import argparse

import numpy as np
from scipy.special import stdtr

from stats.arrays import Floats
from stats.drop import Differences

ALPHA = 0.05


def student(differences: Floats, margin: float) -> float:
    """One-sided t."""
    error = differences.std(ddof=1) / np.sqrt(differences.size)
    return float(stdtr(differences.size - 1, (differences.mean() - margin) / error)) if error else 1.0


def betting(differences: Floats, margin: float) -> float:
    """One over the largest capital of bets on "less than the margin", sized by what was seen before."""
    seen = np.arange(differences.size)
    mean = np.concatenate([[0.0], np.cumsum(differences)[:-1]]) / (seen + 1)
    squares = np.cumsum((differences - mean) ** 2)
    variance = (0.25 + np.concatenate([[0.0], squares[:-1]])) / (seen + 1)
    bets = np.minimum(np.sqrt(2 * np.log(1 / ALPHA) / (differences.size * variance)), 0.9 / (1 - margin))
    return float(np.exp(-max(np.cumsum(np.log1p(bets * (margin - differences))).max(), 0.0)))


def draw(rng: np.random.Generator, kind: str, items: int, drop: float) -> Floats:
    """Differences with a true mean of so much."""
    if kind == "rare losses":
        return np.where(
            rng.random(items) < drop, 1.0, rng.choice([-0.1, 0.0, 0.1], items, p=[0.15, 0.7, 0.15])
        )
    return np.clip(rng.normal(drop, float(kind), items), -1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2_000)
    count = parser.parse_args().simulations
    print(f"{'differences':13}{'items':>6}{'margin':>8}   t level/power   betting       lldeg")
    for kind in ("0.3", "0.1", "rare losses"):
        for items, margin in ((200, 0.05), (500, 0.01), (1_000, 0.03)):
            rng, cells = np.random.default_rng(1), []
            worlds = [[draw(rng, kind, items, drop) for _ in range(count)] for drop in (margin, 0.0)]
            for test in (
                student,
                betting,
                lambda d, m: Differences.of(d).p_noninferior(m),
            ):
                level, power = (np.mean([test(d, margin) <= ALPHA for d in world]) for world in worlds)
                cells.append(f"{level:.3f}/{power:.3f}")
            print(f"{kind:13}{items:6}{margin:8}   {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
