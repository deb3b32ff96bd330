"""How often a release policy errs: releases without damage that are blocked, damaged ones that pass.

    python benchmarks/policy_error_rates.py [SIMULATIONS]

Prints, with standard errors:

- the probability that a release without any damage is blocked for damage. It is two variants at two
  temperatures on six tasks, which share the baseline's answers; all cases, and the tasks together, can block.
- for one variant on six tasks that must all be certified, one or all of which are worse by exactly the
  margin: the probability that all certificates are there (at most alpha: an intersection-union test), that
  the release passes (damage may block it, too), and that some single task at the margin is certified, which
  is no claim of a policy.
"""

import sys
from dataclasses import dataclass

import numpy as np

from stats.comparison import compare_family
from stats.results import Settings
from stats.scores import TaskScores
from stats.verdict import Verdict

TASKS = 6
ALPHA, MARGIN, FLIPS = 0.05, 0.02, 0.04
MARGIN_ITEMS = 1500


@dataclass
class Release:
    """One simulated release.

    Attributes:
        blocked: whether damage was found.
        certified: for every task, whether all of its certificates are there.
    """

    blocked: bool
    certified: list[bool]


def answers(rng: np.random.Generator, baseline: np.ndarray, drop: float) -> np.ndarray:
    """Right or wrong after flips in both directions, more to wrong by `drop` of all items on average."""
    share = baseline.mean()
    lose, gain = (FLIPS + drop) / 2 / share, (FLIPS - drop) / 2 / (1 - share)
    u = rng.random(baseline.size)
    return np.where(baseline > 0, (u >= lose) * 1.0, (u < gain) * 1.0)


def release(
    rng: np.random.Generator, items: int, drops: list[float], variants: int, temperatures: int
) -> Release:
    """Simulate one; every task of every variant and temperature has its drop."""
    hypotheses, settings = [], Settings(ALPHA, MARGIN, draws=2000)
    bases = [[(rng.random(items) < 0.7) * 1.0 for _ in drops] for _ in range(temperatures)]
    for base in [base for base in bases for _ in range(variants)]:
        scores = [
            TaskScores(str(number), base[number], answers(rng, base[number], drop), np.arange(items))
            for number, drop in enumerate(drops)
        ]
        groups = [*([task] for task in scores), scores]
        hypotheses += [(group, (), settings) for group in groups]
    found = compare_family(hypotheses, [True] * len(hypotheses))
    certified = [
        all(each.p_noninferior <= ALPHA for each in found[number :: TASKS + 1]) for number in range(TASKS)
    ]
    return Release(any(each.verdict is Verdict.DEGRADED for each in found), certified)


def rate(hits: list[bool]) -> str:
    """A share with its standard error."""
    share = float(np.mean(hits))
    return f"{share:.4f} ± {np.sqrt(share * (1 - share) / len(hits)):.4f}"


def main() -> None:
    """Print all rates."""
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for items in (200, 1000):
        runs = [
            release(np.random.default_rng([1, items, i]), items, [0.0] * TASKS, 2, 2)
            for i in range(simulations)
        ]
        print(f"{items} items a task: blocked without damage {rate([r.blocked for r in runs])}")
    for damaged in (1, TASKS):
        drops = [MARGIN] * damaged + [0.0] * (TASKS - damaged)
        runs = [
            release(np.random.default_rng([2, damaged, i]), MARGIN_ITEMS, drops, 1, 1)
            for i in range(simulations)
        ]
        print(f"{damaged} of {TASKS} tasks at the margin, {MARGIN_ITEMS} items a task:")
        print(f"  all certificates {rate([all(r.certified) for r in runs])}")
        print(f"  the release passes {rate([all(r.certified) and not r.blocked for r in runs])}")
        print(f"  some task at the margin certified {rate([any(r.certified[:damaged]) for r in runs])}")


if __name__ == "__main__":
    main()
