"""What stopping early saves, and what it costs in power, beside the fixed test and the e-process.

Also what a proven certificate costs, and how far estimates at a stop are off. Draws paths of right-or-wrong
answers with the flip rates of the quickstart and of Kübler et al. (2026), items independent of each other,
and decides every path with the code that decides a sweep. Run `python benchmarks/sequential_power.py`;
`--simulations` trades time for precision. Seeds are fixed.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stats.drop import Certificate, FlipEvidence
from stats.sequential.boundaries import Spending, Stopping, parse_spending
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.signflip import mcnemar_p
from stats.verdict import Verdict, decide
from stats.watch import log_e_value

ALPHA, MARGIN = 0.05, 0.01
PAPER = {
    "rerun": (25_282, 163, 168),
    "other GPU type": (25_282, 327, 363),
    "FP8": (25_282, 1_096, 1_107),
    "KV-cache FP8": (25_282, 1_241, 1_042),
    "INT4 weights": (25_282, 1_816, 1_378),
    "2:4 sparse": (25_282, 2_981, 2_325),
}
DAMAGE = {
    "quickstart FP8-e5m2, T 0": (780, 104, 38),
    "quickstart FP8, T 0.7": (780, 108, 51),
    "quickstart FP8, T 0": (780, 45, 30),
    **{name: PAPER[name] for name in ("KV-cache FP8", "INT4 weights", "2:4 sparse")},
}
EQUAL = (  # items, margin, and a share of items that changes by so much in either direction: no drop
    (300, 0.03, 0.1, 1.0), (1_000, 0.03, 0.1, 1.0), (3_000, 0.01, 0.09, 1.0), (8_000, 0.01, 0.09, 1.0),
    (3_000, 0.01, 0.02, 1.0), (300, 0.01, 0.3, 0.1), (1_000, 0.01, 0.3, 0.1),
)  # fmt: skip
WORSE = (  # items, share that flips, true drop, until when
    (1_000, 0.1, 0.03, "degraded"), (1_000, 0.1, 0.05, "degraded"), (400, 0.05, 0.03, "degraded"),
    (3_000, 0.09, 0.0, "decided"), (3_000, 0.09, 0.02, "decided"),
)  # fmt: skip
Row = tuple[int, int, int]
Path = NDArray[np.float64]


def path_of(row: Row, rng: np.random.Generator) -> Path:
    """Differences of independent items with the observed rates."""
    items, worse, better = row
    uniform = rng.random(items)
    return np.where(uniform < worse / items, 1.0, np.where(uniform > 1.0 - better / items, -1.0, 0.0))


def sequential(row: Row, stopping: Stopping) -> Callable[[Path], tuple[Verdict, float]]:
    """The real thing: verdict and share of the items of one path."""
    plan = SequentialPlan((PlannedTask("task", row[0]),), ("variant",), stopping, ALPHA, MARGIN)

    def judge(path: Path) -> tuple[Verdict, float]:
        monitor = SequentialMonitor(plan)
        for look in range(1, stopping.looks + 1):
            monitor.observe("variant", [path[: plan.tasks[0].seen_at(look, stopping.looks)]])
            if found := monitor.decisions().get("variant"):
                return found.verdict, plan.share(found.look)
        raise AssertionError("undecided after the last look")

    return judge


@cache
def fixed_p(worse: int, better: int) -> float:
    """McNemar's exact test."""
    return mcnemar_p(worse, better)


def fixed(path: Path) -> tuple[Verdict, float]:
    """The verdict of the fixed analysis, all items used."""
    worse, better = int((path > 0).sum()), int((path < 0).sum())
    acceptable = FlipEvidence(worse, better, path.size).p_noninferior(MARGIN)
    return decide(fixed_p(worse, better), acceptable, ALPHA), 1.0


def union_bound(spending: Spending, looks: int) -> Callable[[Path], tuple[Verdict, float]]:
    """Every look at what is released for it, as if the looks had nothing in common."""
    spent = [spending(look / looks, ALPHA) for look in range(looks + 1)]

    def judge(path: Path) -> tuple[Verdict, float]:
        for look in range(1, looks + 1):
            seen = path[: -(-look * path.size // looks)]
            if fixed_p(int((seen > 0).sum()), int((seen < 0).sum())) <= spent[look] - spent[look - 1]:
                return Verdict.DEGRADED, seen.size / path.size
        return Verdict.INCONCLUSIVE, 1.0

    return judge


def watched(path: Path) -> tuple[Verdict, float]:
    """The e-process, stopped at any flip."""
    flips = np.flatnonzero(path)
    worse, better = np.cumsum(path[flips] > 0), np.cumsum(path[flips] < 0)
    reached = np.flatnonzero(log_e_value(worse, better) >= -np.log(ALPHA))
    if not reached.size:
        return Verdict.INCONCLUSIVE, 1.0
    return Verdict.DEGRADED, (int(flips[reached[0]]) + 1) / path.size


def damage_table(simulations: int) -> None:
    """Power and mean share of five ways to find damage."""
    hsd, obf = Stopping(10), Stopping(10, degraded=parse_spending("obf"))
    print(
        f"{'power, mean share until a verdict or the end':<46}"
        "fixed       HSD -2      OBF         union       e-process"
    )
    for number, (name, row) in enumerate(DAMAGE.items()):
        judges = (fixed, sequential(row, hsd), sequential(row, obf), union_bound(obf.degraded, 10), watched)
        rng = np.random.default_rng([1, number])
        paths = [path_of(row, rng) for _ in range(simulations)]
        cells = []
        for judge in judges:
            found = [judge(path) for path in paths]
            power = np.mean([verdict is Verdict.DEGRADED for verdict, _ in found])
            share = np.mean([share for _, share in found])
            cells.append(f"{power:.3f}" + ("" if judge is fixed else f", {share:.2f}"))
        print(f"{name + ' ' + str(row):<46}" + "  ".join(f"{cell:<10}" for cell in cells), flush=True)


def paper_table(simulations: int, stopping: Stopping) -> None:
    """Every row of the paper, stopped when decided: verdicts beside the fixed ones of the same paths."""
    print(
        f"{stopping.looks} looks, degraded {stopping.degraded}, certified {stopping.certified}, until "
        f"{stopping.until}; fixed and sequential verdicts (degraded certified inconclusive), share, differing"
    )
    shares, order = [], tuple(Verdict)
    for number, (name, row) in enumerate(PAPER.items()):
        rng, judge = np.random.default_rng([2, number]), sequential(row, stopping)
        pairs, used = Counter[tuple[Verdict, Verdict]](), 0.0
        for _ in range(simulations):
            path = path_of(row, rng)
            verdict, share = judge(path)
            pairs[fixed(path)[0], verdict] += 1
            used += share / simulations
        shares.append(used)
        counts = [
            " ".join(
                f"{sum(n for pair, n in pairs.items() if pair[side] is v) / simulations:.3f}" for v in order
            )
            for side in (0, 1)
        ]
        differing = {pair: n for pair, n in pairs.items() if pair[0] is not pair[1]}
        said = ", ".join(f"{a} to {b} {n / simulations:.3f}" for (a, b), n in sorted(differing.items()))
        total = sum(differing.values()) / simulations
        print(f"{name:<16}{counts[0]}   {counts[1]}   {used:.3f}   {total:.3f} ({said})", flush=True)
    print(f"mean share {np.mean(shares):.3f}")


def certificate_table(simulations: int) -> None:
    """Power of both kinds of certificates where nothing is worse, with all items and at 10 looks."""
    kinds = list(product((1, 10), get_args(Certificate)))
    print(f"{'certified, mean share of the items; no drop':<46}" + "  ".join(f"{k} {c}" for k, c in kinds))
    for items, margin, rate, size in EQUAL:
        cells, chances = [], [rate / 2, 1 - rate, rate / 2]
        for looks, kind in kinds:
            task, stopping = PlannedTask("task", items), Stopping(looks, "decided", certificate=kind)
            plan, rng = SequentialPlan((task,), ("v",), stopping, ALPHA, margin), np.random.default_rng(3)
            ends = []
            for _ in range(simulations):
                monitor = SequentialMonitor(plan)
                monitor.observe("v", [rng.choice([-size, 0.0, size], items, p=chances)])
                ends.append(monitor.decisions()["v"])
            power = np.mean([end.verdict is Verdict.CERTIFIED for end in ends])
            cells.append(f"{power:.3f}, {np.mean([end.look for end in ends]) / looks:.2f}")
        title = f"{items:,} items, {rate:.0%} change by {size:g}, margin {margin:g}"
        print(f"{title:<46}" + "  ".join(cells), flush=True)


def estimate_table(simulations: int) -> None:
    """Mean of the drop at the end of 10 looks, and without the bias of stopping, in points."""
    print(f"{'estimates of a drop in points':<46}stopped   raw     adjusted (standard error)")
    for items, rate, drop, until in WORSE:
        plan, rng = (
            SequentialPlan((PlannedTask("task", items),), ("v",), Stopping(10, until)),
            np.random.default_rng(4),
        )
        found = []
        for _ in range(simulations):
            monitor = SequentialMonitor(plan)
            monitor.observe(
                "v", [path_of((items, items * (rate + drop) / 2, items * (rate - drop) / 2), rng)]
            )
            end = monitor.courses()["v"]
            raw = end.looks[-1].drop
            found.append((end.stopped, 100 * raw, 100 * (end.drop_adjusted if end.stopped else raw)))
        means, error = np.mean(found, axis=0), np.std(found, axis=0)[2] / np.sqrt(simulations)
        title = f"{items:,} items, {rate:.0%} flips, {100 * drop:g}, {until}"
        print(f"{title:<46}{means[0]:.2f}      {means[1]:+.2f}   {means[2]:+.2f} ({error:.2f})", flush=True)


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2_000)
    count = parser.parse_args().simulations
    damage_table(count)
    for looks in (5, 10, 20):
        paper_table(count, Stopping(looks, "decided"))
    paper_table(count, Stopping(20, "decided", certified=parse_spending("hsd-6")))
    paper_table(count, Stopping(10))
    certificate_table(count)
    estimate_table(count // 2)


if __name__ == "__main__":
    main()
