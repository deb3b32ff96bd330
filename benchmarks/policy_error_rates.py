"""How often a release policy errs: releases without damage that are blocked, damaged ones that pass.

    python benchmarks/policy_error_rates.py [SIMULATIONS] [LOOKS]

With looks, releases stop early: every task, and all together, is decided at looks under its own share of the
level, and a release ends with the first damage or the last certificate. Prints, with standard errors:

- the probability that a release without any damage is blocked for damage. It is two variants at two
  temperatures on six tasks, which share the baseline's answers; all cases, and the tasks together, can block.
- for one variant on six tasks that must all be certified, one or all of which are worse by exactly the
  margin: the probability that all certificates are there (at most alpha: an intersection-union test), that
  the release passes (damage may block it, too), and that some single task at the margin is certified, which
  is no claim of a policy;
- the same for a release without damage and for one with a task that is worse by 1.5 margins: the power;
- with looks, the mean share of the samples until a release is decided.
"""

import sys
from dataclasses import dataclass

import numpy as np

from stats.comparison import compare_family
from stats.results import Settings
from stats.scores import TaskScores
from stats.sequential.boundaries import Stopping
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.plan import Duty, PlannedTask, SequentialPlan
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
        share: of the samples that were used.
    """

    blocked: bool
    certified: list[bool]
    share: float = 1.0

    @property
    def passes(self) -> bool:
        """Whether it ships, if every task must be certified."""
        return all(self.certified) and not self.blocked


def answers(rng: np.random.Generator, baseline: np.ndarray, drop: float) -> np.ndarray:
    """Right or wrong after flips in both directions, more to wrong by `drop` of all items on average."""
    share = baseline.mean()
    lose, gain = (FLIPS + drop) / 2 / share, (FLIPS - drop) / 2 / (1 - share)
    u = rng.random(baseline.size)
    return np.where(baseline > 0, (u >= lose) * 1.0, (u < gain) * 1.0)


def release(
    rng: np.random.Generator, items: int, drops: list[float], variants: int, temperatures: int, looks: int = 0
) -> Release:
    """Simulate one; every task of every variant and temperature has its drop."""
    if looks:
        return stopped_release(rng, items, drops, variants, temperatures, looks)
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


def stopped_release(
    rng: np.random.Generator, items: int, drops: list[float], variants: int, temperatures: int, looks: int
) -> Release:
    """The same release with the duties of a policy decided at looks."""
    tasks, places = [str(number) for number in range(len(drops))], np.ndindex(temperatures, variants)
    keys = [(*place, task) for place in places for task in (*tasks, "all")]
    plan = SequentialPlan(
        tuple(PlannedTask(task, items) for task in tasks),
        tuple(keys),
        Stopping(looks, "decided"),
        ALPHA,
        MARGIN,
        sign_vectors=1999,
        tasks_of={key: (key[2],) for key in keys if key[2] != "all"},
        duties={key: Duty(ALPHA, MARGIN, 0, key[:2]) for key in keys},
    )
    monitor = SequentialMonitor(plan)
    bases = [[(rng.random(items) < 0.7) * 1.0 for _ in drops] for _ in range(temperatures)]
    for place in np.ndindex(temperatures, variants):
        pairs = [(base, answers(rng, base, drop)) for base, drop in zip(bases[place[0]], drops, strict=True)]
        worse = [base - variant for base, variant in pairs]
        for task, values in zip(tasks, worse, strict=True):
            monitor.observe((*place, task), [values])
        monitor.observe((*place, "all"), worse)
    decided = monitor.decisions()
    certified = [
        all(decided[key].verdict is Verdict.CERTIFIED for key in keys if key[2] == task) for task in tasks
    ]
    last = [max(decided[key].look for key in keys if key[:2] == place) for place in {k[:2] for k in keys}]
    blocked = any(decision.verdict is Verdict.DEGRADED for decision in decided.values())
    return Release(blocked, certified, float(np.mean(last)) / looks)


def rate(hits: list[bool]) -> str:
    """A share with its standard error."""
    share = float(np.mean(hits))
    return f"{share:.4f} ± {np.sqrt(share * (1 - share) / len(hits)):.4f}"


def main() -> None:
    """Print all rates."""
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    looks = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for items in (200, 1000):
        runs = [
            release(np.random.default_rng([1, items, i]), items, [0.0] * TASKS, 2, 2, looks)
            for i in range(simulations)
        ]
        print(f"{items} items a task: blocked without damage {rate([r.blocked for r in runs])}")
    for damaged, size in ((1, 1.0), (TASKS, 1.0), (0, 0.0), (1, 1.5)):
        drops = [size * MARGIN] * damaged + [0.0] * (TASKS - damaged)
        runs = [
            release(np.random.default_rng([2, damaged, i]), MARGIN_ITEMS, drops, 1, 1, looks)
            for i in range(simulations)
        ]
        print(f"{damaged} of {TASKS} tasks worse by {size:g} margins, {MARGIN_ITEMS} items a task:")
        print(f"  all certificates {rate([all(r.certified) for r in runs])}")
        print(f"  the release passes {rate([r.passes for r in runs])}")
        print(f"  it is blocked {rate([r.blocked for r in runs])}")
        print(f"  some damaged task certified {rate([any(r.certified[:damaged]) for r in runs])}")
        print(f"  share of the samples {np.mean([r.share for r in runs]):.3f}", flush=True)


if __name__ == "__main__":
    main()
