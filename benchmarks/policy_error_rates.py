"""How often a release policy errs: releases without damage that are blocked, damaged ones that pass.

    python benchmarks/policy_error_rates.py [SIMULATIONS]

A release is two variants at two temperatures on six tasks, which share the baseline's answers. All cases are
in the family that can block, as is each variant and temperature over all tasks: 28 hypotheses. Prints, with
standard errors: the probability that a release without damage is blocked for damage (at most alpha); the
probability that a release passes in which one task, or every task, is worse by exactly the margin and must be
certified (at most alpha: intersection-union); and, beside it, the probability that some single task of such a
release is certified, which no policy controls.
"""

import sys
from dataclasses import dataclass

import numpy as np

from stats.family import Hypothesis, compare_family
from stats.results import Settings
from stats.scores import TaskScores
from stats.verdict import Verdict

TASKS, VARIANTS, TEMPERATURES = 6, 2, 2
ALPHA, MARGIN, FLIPS = 0.05, 0.02, 0.04
BLOCKED_AT = {"200 items a task": 200, "1,000 items a task": 1000}


@dataclass
class Release:
    """One simulated release: whether it is blocked, whether it passes, how many single certificates it has."""

    blocked: bool
    passes: bool
    certified_at_margin: int


def answers(rng: np.random.Generator, baseline: np.ndarray, drop: float) -> np.ndarray:
    """Right or wrong after flips in both directions, more to wrong by `drop` of all items on average."""
    share = baseline.mean()
    lose, gain = (FLIPS + drop) / 2 / share, (FLIPS - drop) / 2 / (1 - share)
    u = rng.random(baseline.size)
    return np.where(baseline > 0, (u >= lose) * 1.0, (u < gain) * 1.0)


def release(rng: np.random.Generator, items: int, drops: list[float], *, certify: bool) -> Release:
    """Simulate one; every task of every variant and temperature has its drop."""
    hypotheses, at_margin = [], []
    bases = {(t, k): (rng.random(items) < 0.7) * 1.0 for t in range(TEMPERATURES) for k in range(TASKS)}
    for _ in range(VARIANTS):
        for t in range(TEMPERATURES):
            scores = [
                TaskScores(str(k), bases[t, k], answers(rng, bases[t, k], drops[k]), np.arange(items))
                for k in range(TASKS)
            ]
            groups = [*([task] for task in scores), scores]
            hypotheses += [Hypothesis(group, (), ALPHA, MARGIN, blocks=True) for group in groups]
            at_margin += [*(drop > 0 for drop in drops), False]
    found = compare_family(hypotheses, Settings(draws=2000))
    blocked = any(each.verdict is Verdict.DEGRADED for each in found)
    single = [each.p_noninferior <= ALPHA for each in found]
    tasks = [ok for number, ok in enumerate(single) if (number + 1) % (TASKS + 1)]
    certified = sum(ok and worse for ok, worse in zip(single, at_margin, strict=True))
    return Release(blocked, not blocked and (all(tasks) or not certify), certified)


def rate(hits: list[bool]) -> str:
    """A share with its standard error."""
    share = float(np.mean(hits))
    return f"{share:.4f} ± {np.sqrt(share * (1 - share) / len(hits)):.4f}"


def main() -> None:
    """Print all rates."""
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for name, items in BLOCKED_AT.items():
        runs = [
            release(np.random.default_rng([1, items, i]), items, [0.0] * TASKS, certify=False)
            for i in range(simulations)
        ]
        print(f"{name}: blocked without damage {rate([r.blocked for r in runs])}")
    one, every = [MARGIN] + [0.0] * (TASKS - 1), [MARGIN] * TASKS
    for name, drops in {"one task at the margin": one, "every task at the margin": every}.items():
        runs = [
            release(np.random.default_rng([2, len(set(drops)), i]), 3000, drops, certify=True)
            for i in range(simulations)
        ]
        print(f"{name}, 3,000 items: passes {rate([r.passes for r in runs])}", end="; ")
        print(f"some task at the margin certified {rate([r.certified_at_margin > 0 for r in runs])}")


if __name__ == "__main__":
    main()
