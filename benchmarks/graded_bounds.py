"""Three ways to certify a mean of graded differences: level where it is the margin, power where it is 0.

Student's t, the bound by betting of `--certificate proven`, and the default.

    python benchmarks/graded_bounds.py [--simulations 2000]
"""

import argparse

import numpy as np
from scipy.special import stdtr

from stats.arrays import Floats
from stats.drop import Differences, ProvenEvidence

ALPHA = 0.05


def student(differences: Floats, margin: float) -> float:
    """One-sided t."""
    error = differences.std(ddof=1) / np.sqrt(differences.size)
    return float(stdtr(differences.size - 1, (differences.mean() - margin) / error)) if error else 1.0


def betting(differences: Floats, margin: float) -> float:
    """What `--certificate proven` asks for."""
    return ProvenEvidence(differences, np.ones_like(differences)).p_noninferior(margin)


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
    print(f"{'differences':13}{'items':>6}{'margin':>8}   t level/power   proven        default")
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
