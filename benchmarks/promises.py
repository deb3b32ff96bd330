"""Do drops, items and looks have the power that is promised, whatever decides?

Every promise is put to the code that decides, on simulated right-or-wrong answers with fixed seeds: `mde` and
`items_needed` of a comparison that shows what is to be expected, and the expected course of looks. Run
`python benchmarks/promises.py` (about four minutes of one core); `--simulations` trades time for precision.
"""

import argparse
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from stats.comparison import Comparison, Settings, TaskScores, compare_variants
from stats.drop import FlipEvidence
from stats.planning import Design
from stats.sequential.boundaries import Stopping, Until
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.paths import expected_course
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.signflip import SignFlipTest, mcnemar_p
from stats.tasks.combinations import Combine
from stats.tasks.combine import combine_tasks
from stats.verdict import Verdict

ALPHA, POWER, MARGIN = 0.05, 0.8, 0.01
DRAWS = 8_000  # of the joint null of every simulated comparison
SHARES = {2: 1.0, 3: 1.0, 6: 0.8, 20: 0.25}
"""By the number of tasks the share of the simulations that a row gets: many tasks take long."""
Array = NDArray[np.float64]

DROPS: list[tuple[Combine, tuple[int, ...], float, int, int]] = [
    ("joint", (1_000,), 0.10, 1, 1),
    ("joint", (300,), 0.03, 1, 1),
    ("joint", (60,), 0.10, 1, 1),
    ("joint", (5_000,), 0.01, 8, 1),
    ("joint", (25_282,), 0.09, 8, 1),
    ("joint", (600,), 0.10, 1, 50),
    ("joint", (1_000,), 0.10, 1, 50),
    ("joint", (2_000,), 0.10, 8, 20),
    ("joint", (1_500,), 0.02, 1, 5),
    ("pooled", (167,) * 6, 0.10, 1, 1),
    ("joint", (500,) * 2, 0.02, 1, 1),
    ("joint", (3_000, 500, 100), 0.10, 1, 1),
    ("joint", (167,) * 6, 0.10, 1, 1),
    ("joint", (167,) * 6, 0.03, 1, 1),
    ("joint", (2_000,) * 6, 0.09, 8, 1),
    ("joint", (400,) * 6, 0.10, 1, 20),
    ("max-drop", (167,) * 6, 0.10, 1, 1),
    ("fisher", (167,) * 6, 0.10, 8, 1),
    ("any", (167,) * 6, 0.10, 1, 1),
    ("joint", (50,) * 20, 0.10, 1, 1),
    ("max-drop", (300,) * 20, 0.03, 8, 1),
]
"""Combination, items of each task, flip rate, variants (Holm), and items of a cluster."""

COURSES: list[tuple[tuple[int, ...], float, float, int, Until, Combine]] = [
    ((800,), 0.02, 0.0, 10, "decided", "joint"),
    ((800,), 0.02, 0.01, 10, "decided", "joint"),
    ((3_000,), 0.02, 0.0, 10, "decided", "joint"),
    ((3_000,), 0.09, 0.01, 10, "decided", "joint"),
    ((300,), 0.10, 0.04, 5, "degraded", "joint"),
    ((1_000,), 0.10, 0.025, 20, "degraded", "joint"),
    ((167,) * 6, 0.10, 0.03, 5, "decided", "joint"),
    ((500,) * 6, 0.02, 0.0, 10, "decided", "joint"),
    ((500,) * 6, 0.05, 0.012, 10, "degraded", "max-drop"),
]
"""Items of each task, flip rate, drop, looks, until and combination."""

NEEDED: list[tuple[Combine, tuple[int, ...], int, int, int]] = [
    ("joint", (1_000,), 56, 44, 1),
    ("joint", (200,), 8, 4, 1),
    ("joint", (1_000,), 60, 40, 8),
    ("joint", (500,) * 2, 26, 20, 1),
    ("joint", (167,) * 6, 11, 8, 1),
    ("max-drop", (167,) * 6, 11, 8, 1),
    ("joint", (400,), 20, 20, 1),
    ("joint", (500,), 15, 15, 1),
]
"""Combination, items of each task, flips of each to wrong and to right, variants."""


def drawn_sums(
    items: int, flip_rate: float, drop: float, size: int, rng: np.random.Generator, runs: int
) -> Array:
    """Differences of independent items, added up over clusters of one size, shape (runs, clusters)."""
    cells = rng.random((runs, items // size, size))
    worse, better = cells < (flip_rate + drop) / 2, cells > 1 - (flip_rate - drop) / 2
    return (worse.astype(np.float64) - better).sum(axis=2)


def typical_task(name: str, items: int, flip_rate: float, size: int) -> TaskScores:
    """A task with as many flips as expected, half of them to wrong; by clusters with sums as large."""
    worse = np.arange(items) < round(items * flip_rate / 2)
    better = ~worse & (np.arange(items) < round(items * flip_rate))
    differences = worse.astype(np.float64) - better
    clusters = np.arange(items) // size
    if size > 1:
        sums = [
            np.bincount(clusters, np.random.default_rng(seed).permutation(differences)) for seed in range(400)
        ]
        square = size * flip_rate * (1 - size / items)  # about their mean
        moments = np.array(
            [[np.mean(each**2) / square, np.mean(each**4) / (square + 3 * square**2)] for each in sums]
        )
        chosen = int(np.abs(moments - 1.0).sum(axis=1).argmin())
        differences = np.random.default_rng(chosen).permutation(differences)
    return TaskScores(
        name, (differences > 0) * 1.0, (differences < 0) * 1.0, clusters=clusters if size > 1 else None
    )


def compared(
    tasks: Sequence[TaskScores], combine: Combine, variants: int, margin: float = MARGIN
) -> Comparison:
    """One of several variants that are all alike."""
    settings = Settings(combine=combine, adjust="holm", margin=margin, draws=DRAWS)
    return compare_variants({f"variant {number}": tasks for number in range(variants)}, settings)["variant 0"]


def drop_table(simulations: int) -> None:
    """`mde`, and how often a true drop as large is found."""
    print("rule      tasks × items        flips   variants  cluster  mde, points  found (of .800)")
    for number, (combine, items, flip_rate, variants, size) in enumerate(DROPS):
        tasks = [typical_task(f"task {t}", n, flip_rate, size) for t, n in enumerate(items)]
        drop = compared(tasks, combine, variants).mde
        rate = max(round(items[0] * flip_rate) / items[0], drop)  # where even all flips are too few
        rng, level = np.random.default_rng([1, number]), ALPHA / variants
        runs = int(simulations * SHARES.get(len(items), 3.0))
        if size == 1 and (len(items) == 1 or combine == "pooled"):
            runs = 20 * simulations
            chances = [(rate + drop) / 2, (rate - drop) / 2, 1 - rate]
            worse, better, _ = rng.multinomial(sum(items), chances, runs).T
            found = np.mean(binom.sf(worse - 1, worse + better, 0.5) <= level)
        else:
            p_values = [_p_value(items, rate, drop, size, rng, combine) for _ in range(runs)]
            found = np.mean(np.array(p_values) <= level)
        label = f"{len(items)} × {items[0]:,}" if len(set(items)) == 1 else " + ".join(map(str, items))
        print(
            f"{combine:<10}{label:<21}{flip_rate:<8.0%}{variants:<10}{size:<9}{100 * drop:<13.2f}"
            + _beside(POWER, float(found), runs),
            flush=True,
        )


def _p_value(
    items: Sequence[int], flip_rate: float, drop: float, size: int, rng: np.random.Generator, combine: Combine
) -> float:
    sums = [drawn_sums(n, flip_rate, drop, size, rng, 1)[0] for n in items]
    if len(sums) == 1:
        return SignFlipTest(sums[0]).p
    return combine_tasks(sums, DRAWS, int(rng.integers(1 << 30))).p[combine]


def _beside(promised: float, found: float, runs: int) -> str:
    error = float(np.sqrt(max(promised * (1.0 - promised), 1e-3) / runs))
    return f"{found:.3f} ± {2 * error:.3f}{'' if abs(found - promised) <= 2 * error else ' *'}"


def course_table(simulations: int) -> None:
    """What is expected of looks, and what the monitor decides."""
    print("tasks × items  flips  drop  looks  until     rule      degraded         certified        share")
    for number, (items, flip_rate, drop, looks, until, combine) in enumerate(COURSES):
        shares, stopping = tuple(n / sum(items) for n in items), Stopping(looks, until)
        design = Design(sum(items), flip_rate, alpha=ALPHA, tasks=shares, combine=combine)
        expected = expected_course(design, drop, stopping, MARGIN)
        plan = SequentialPlan(
            tuple(PlannedTask(f"task {t}", n) for t, n in enumerate(items)),
            ("variant",),
            stopping,
            ALPHA,
            MARGIN,
            combine,
            sign_vectors=1_999,
        )
        rng, ends = np.random.default_rng([2, number]), []
        runs = simulations if len(items) == 1 else simulations // 2
        for _ in range(runs):
            monitor = SequentialMonitor(plan)
            monitor.observe("variant", [drawn_sums(n, flip_rate, drop, 1, rng, 1)[0] for n in items])
            ends.append(monitor.decisions()["variant"])
        cells = [
            f"{promised:.3f} {_beside(promised, sum(end.verdict is verdict for end in ends) / runs, runs)}"
            for promised, verdict in zip(expected, (Verdict.DEGRADED, Verdict.CERTIFIED), strict=False)
        ]
        used = np.mean([plan.share(end.look) for end in ends])
        print(
            f"{len(items)} × {items[0]:<11,}{flip_rate:<7.0%}{drop:<6.1%}{looks:<7}{until:<10}{combine:<10}"
            f"{'  '.join(cells)}  {expected[2]:.2f} {used:.2f}",
            flush=True,
        )


def items_table(simulations: int) -> None:
    """`items_needed`, and how often so many bring the verdict, with differences as observed.

    With a drop that is damage, for a margin that no variant keeps, else a certificate.
    """
    print("rule      tasks × items  worse/better  variants  items needed  verdict (of .800)")
    for number, (combine, items, worse, better, variants) in enumerate(NEEDED):
        tasks = []
        for t, n in enumerate(items):
            place = np.arange(n)
            scores = (place < worse) * 1.0, ((place >= worse) & (place < worse + better)) * 1.0
            tasks.append(TaskScores(f"task {t}", *scores))
        needed = compared(tasks, combine, variants, MARGIN if worse == better else 1e-4).items_needed
        if needed is None:
            raise AssertionError("no number of items decides")
        sizes = [round(n * needed / sum(items)) for n in items]
        rng, level = np.random.default_rng([3, number]), ALPHA / variants
        runs, decided = int(simulations * SHARES.get(len(items), 2.0)), 0
        for _ in range(runs):
            counts = np.array(
                [
                    rng.multinomial(size, [worse / n, better / n, 1 - (worse + better) / n])
                    for size, n in zip(sizes, items, strict=True)
                ]
            )
            b, c, _ = counts.sum(axis=0).tolist()
            if worse == better:
                decided += _acceptable(b, c, sum(sizes))
            elif len(items) == 1:
                decided += mcnemar_p(b, c) <= level
            else:
                sums = [np.repeat([1.0, -1.0], count[:2]) for count in counts]
                decided += combine_tasks(sums, DRAWS, int(rng.integers(1 << 30))).p[combine] <= level
        print(
            f"{combine:<10}{len(items)} × {items[0]:<11,}{f'{worse}/{better}':<14}{variants:<10}{needed:<14,}"
            + _beside(POWER, decided / runs, runs),
            flush=True,
        )


@cache
def _acceptable(worse: int, better: int, items: int) -> bool:
    return FlipEvidence(worse, better, items).p_noninferior(MARGIN) <= ALPHA


def main() -> None:
    """Run everything and print it; an asterisk marks what is more than two standard errors off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1_000)
    parser.add_argument("--only", choices=TABLES, help="one of the tables")
    chosen = parser.parse_args()
    for name, table in TABLES.items():
        if chosen.only in {None, name}:
            table(chosen.simulations)


TABLES = {"drops": drop_table, "courses": course_table, "items": items_table}

if __name__ == "__main__":
    main()
