"""Do sequential decisions keep their level, however many looks are taken?

Simulates nulls with fixed seeds and decides every sweep with the code that decides real ones: one comparison;
4 variants × 2 temperatures, some of them damaged; 6 tasks with the joint statistic; clusters; certificates at
a true drop of exactly the margin. Rows that end in "signs" are the exact test with far less noise: for some
draws its boundaries are computed once and a thousand sign vectors are held against them. A nominal .05 may be
exceeded only by simulation error. Run `python benchmarks/sequential_size.py`; `--simulations` trades time for
precision.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stats.drop import MANY_FLIPS
from stats.sequential.boundaries import CertificateLevels, Stopping, parse_spending
from stats.sequential.looks import SignFlipWalk
from stats.sequential.monitor import Crossings, SequentialMonitor, holm_rounds
from stats.sequential.plan import PlannedTask, SequentialPlan
from stats.verdict import Verdict

LOOKS = (5, 10, 20)
Scores = dict[str, list[NDArray[np.float64]]]
Draw = Callable[[np.random.Generator], Scores]


def flips(rng: np.random.Generator, items: int, worse: float, better: float) -> NDArray[np.float64]:
    """Differences of right-or-wrong answers."""
    uniform = rng.random(items)
    return np.where(uniform < worse, 1.0, np.where(uniform > 1.0 - better, -1.0, 0.0))


def averages(rng: np.random.Generator, items: int, reruns: int, drop: float) -> NDArray[np.float64]:
    """Differences of means over reruns, half of the items easy or hard; the drop is in the others."""
    ability = np.where(rng.random(items) < 0.5, rng.random(items) < 0.5, rng.uniform(0.2, 0.8, items))
    lower = np.where((ability > 0.0) & (ability < 1.0), ability - 2 * drop, ability)
    return (rng.binomial(reruns, ability) - rng.binomial(reruns, lower)) / reruns


def rate(plan: SequentialPlan, draw: Draw, wrong: Callable[[dict[str, Verdict]], bool], runs: int) -> float:
    """Share of the simulated sweeps with a wrong verdict."""
    rng, found = np.random.default_rng([7, plan.stopping.looks, plan.items]), 0
    for _ in range(runs):
        monitor = SequentialMonitor(plan)
        for name, scores in draw(rng).items():
            monitor.observe(name, scores)
        found += wrong({name: end.verdict for name, end in monitor.decisions(closed=True).items()})
    return found / runs


def signed_rate(plan: SequentialPlan, draw: Draw, damaged: int, draws: int, signs: int = 1_000) -> float:
    """The same for one task over random signs, an item's common to all comparisons that are not damaged."""
    rng, found, task = np.random.default_rng([8, plan.stopping.looks, plan.items]), 0, plan.tasks[0]
    labels = np.arange(task.items) if task.blocks is None else task.blocks
    ends = [task.seen_at(look, plan.stopping.looks) for look in range(1, plan.stopping.looks + 1)]
    for _ in range(draws):
        scores = draw(rng)
        flipped = rng.choice([-1.0, 1.0], (signs, int(labels.max()) + 1))[:, labels]
        crossed = [
            first_crossings(
                plan, values[0], ends, flipped if number >= damaged else np.ones((signs, task.items))
            )
            for number, values in enumerate(scores.values())
        ]
        for row in range(signs):
            tests = {
                name: Crossings(len(ends), tuple(looks[row].tolist()), 0)
                for name, looks in zip(scores, crossed, strict=True)
            }
            decided, _ = holm_rounds(tests, len(ends))
            found += any(decided[name].verdict is Verdict.DEGRADED for name in list(scores)[damaged:])
    return found / (draws * signs)


def first_crossings(
    plan: SequentialPlan, values: NDArray[np.float64], ends: list[int], flipped: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Look at which every sign vector first crosses each level, 0 for never, shape (vectors, L)."""
    walk = SignFlipWalk(plan.levels, plan.stopping.degraded)
    first = np.zeros((len(flipped), plan.levels.size), dtype=np.int64)
    blocks, start = plan.tasks[0].blocks, 0
    for look, end in enumerate(ends, 1):
        law = walk.look(plan.stopping.fractions[look - 1], block_sums(values[start:end], blocks, start, end))
        scale = np.sqrt((block_sums(values[:end], blocks, 0, end) ** 2).sum()) or 1.0
        statistics = flipped[:, :end] @ values[:end] / scale
        first = np.where((first == 0) & (statistics[:, None] >= law.boundary - 1e-9), look, first)
        start = end
    return first


def block_sums(
    values: NDArray[np.float64], blocks: NDArray[np.int64] | None, start: int, end: int
) -> NDArray[np.float64]:
    """Values added up over blocks that lie between two looks."""
    if blocks is None:
        return values
    return np.bincount(blocks[start:end] - blocks[start], weights=values)


def report(title: str, runs: int, rates: list[float]) -> None:
    """One line per question, a column per number of looks."""
    errors = 2.0 * np.sqrt(0.05 * 0.95 / runs)
    flag = "" if max(rates) <= 0.05 + errors else "  ABOVE"
    print(f"{title:<58}{runs:>6}  " + "  ".join(f"{found:.4f}" for found in rates) + flag, flush=True)


def over_looks(
    title: str,
    runs: int,
    plan: Callable[[Stopping], SequentialPlan],
    draw: Draw,
    wrong: object,
    name: str = "hsd-2",
) -> None:
    """One question at 5, 10 and 20 looks; `wrong` is a verdict that no comparison may get, or a test."""
    until = "decided" if wrong is Verdict.CERTIFIED else "degraded"
    judge = (
        wrong if callable(wrong) and not isinstance(wrong, Verdict) else lambda ends: wrong in ends.values()
    )
    kinds = [Stopping(looks, until, degraded=parse_spending(name)) for looks in LOOKS]
    report(title, runs, [rate(plan(stopping), draw, judge, runs) for stopping in kinds])


def signs_over_looks(
    title: str,
    runs: int,
    plan: Callable[[Stopping], SequentialPlan],
    draw: Draw,
    damaged: int = 0,
    name: str = "hsd-2",
) -> None:
    """One question at 5, 10 and 20 looks, a hundredth of the runs as draws with 1,000 sign vectors each."""
    draws = max(2, runs // 100)
    kinds = [Stopping(looks, degraded=parse_spending(name)) for looks in LOOKS]
    report(
        f"{title}; signs", draws * 1_000, [signed_rate(plan(kind), draw, damaged, draws) for kind in kinds]
    )


def one(items: int, blocks: NDArray[np.int64] | None = None) -> Callable[[Stopping], SequentialPlan]:
    """A plan with one task and one variant."""
    task = PlannedTask("task", items, blocks)
    return lambda stopping: SequentialPlan((task,), ("variant",), stopping)


def single(runs: int) -> None:
    """One comparison without damage."""
    for items, flip_rate in ((780, 0.1), (3_000, 0.09)):
        title = f"{items:,} items, {flip_rate:.0%} flips"

        def draw(rng: np.random.Generator, n: int = items, p: float = flip_rate) -> Scores:
            return {"variant": [flips(rng, n, p / 2, p / 2)]}

        over_looks(f"degraded: {title}, hsd-2", runs, one(items), draw, Verdict.DEGRADED)
        for name in ("hsd-2", "hsd-4", "obf"):
            signs_over_looks(f"degraded: {title}, {name}", runs, one(items), draw, name=name)
    over_looks(
        "degraded: 300 items, means of 10 reruns",
        runs,
        one(300),
        lambda rng: {"variant": [averages(rng, 300, 10, 0.0)]},
        Verdict.DEGRADED,
    )
    over_looks(
        "degraded: 200 items, continuous scores",
        runs,
        one(200),
        lambda rng: {"variant": [np.clip(0.2 * rng.normal(size=200) * rng.random(200), -1, 1)]},
        Verdict.DEGRADED,
    )


def clusters(runs: int) -> None:
    """60 clusters of 20 items whose share of flips to wrong varies by 0.25 around one half."""
    labels = np.repeat(np.arange(60), 20)

    def draw(rng: np.random.Generator) -> Scores:
        share = np.clip(rng.normal(0.5, 0.25, 60), 0.0, 1.0)[labels]
        flipped = rng.random(labels.size) < 0.2
        return {"variant": [np.where(flipped, np.where(rng.random(labels.size) < share, 1.0, -1.0), 0.0)]}

    title = "degraded: 60 clusters of 20 items"
    signs_over_looks(title, runs, one(1_200, labels), draw)
    over_looks(
        "degraded: 60 clusters of 20 items, signs by cluster",
        runs,
        one(1_200, labels),
        draw,
        Verdict.DEGRADED,
    )
    over_looks("(the same with items taken as independent)", runs, one(1_200), draw, Verdict.DEGRADED)


def variants(runs: int, damaged: int, items: int = 600) -> None:
    """4 variants × 2 temperatures on the same items; any false alarm among those not damaged."""
    names = [f"{variant}@{temperature}" for variant in range(4) for temperature in (0, 0.7)]

    def draw(rng: np.random.Generator) -> Scores:
        ability = rng.beta(0.5, 0.5, items)
        baselines = [rng.random(items) < ability for _ in range(2)]
        found = {}
        for number, name in enumerate(names):
            lower = ability - (0.06 if number < damaged else 0.0)
            found[name] = [baselines[number % 2].astype(float) - (rng.random(items) < lower)]
        return found

    def wrong(ends: dict[str, Verdict]) -> bool:
        return any(ends[name] is Verdict.DEGRADED for name in names[damaged:])

    task = PlannedTask("task", items)
    title = f"degraded: 4 variants x 2 temperatures, {damaged} of 8 damaged"

    def plan(stopping: Stopping) -> SequentialPlan:
        return SequentialPlan((task,), tuple(names), stopping)

    signs_over_looks(title, runs, plan, draw, damaged)
    over_looks(title, runs, plan, draw, wrong)


def tasks(runs: int) -> None:
    """Six tasks of unequal size with the joint statistic."""
    sizes = (920, 190, 86, 212, 1_926, 120)
    planned = tuple(PlannedTask(str(size), size) for size in sizes)

    def plan(stopping: Stopping) -> SequentialPlan:
        return SequentialPlan(planned, ("variant",), stopping, sign_vectors=1_999)

    def draw(rng: np.random.Generator) -> Scores:
        return {"variant": [flips(rng, size, 0.1, 0.1) for size in sizes]}

    over_looks("degraded: 6 tasks, joint statistic", runs, plan, draw, Verdict.DEGRADED)


def certificates(runs: int) -> None:
    """A true drop of exactly one point, until decided."""
    for items, flip_rate in ((25_282, 0.09), (3_000, 0.09), (3_000, 0.02), (1_000, 0.012), (600, 0.3)):
        over_looks(
            f"certified: {items:,} items, {flip_rate:.1%} flips",
            runs,
            one(items),
            lambda rng, n=items, p=flip_rate: {"variant": [flips(rng, n, (p + 0.01) / 2, (p - 0.01) / 2)]},
            Verdict.CERTIFIED,
        )
    for items, reruns in ((1_000, 10), (3_000, 3)):
        over_looks(
            f"certified: {items:,} items, means of {reruns} reruns",
            runs,
            one(items),
            lambda rng, n=items, k=reruns: {"variant": [averages(rng, n, k, 0.01)]},
            Verdict.CERTIFIED,
        )
    over_looks(
        "certified: 3,000 items, 1 % of them missing, drop else 0",
        runs,
        one(3_000),
        lambda rng: {
            "variant": [np.where(rng.random(3_000) < 0.01, np.nan, flips(rng, 3_000, 0.045, 0.045))]
        },
        Verdict.CERTIFIED,
    )


def certificate_boundaries(runs: int) -> None:
    """The same for the boundaries of Tango's z alone: nothing is found degraded first, nothing held back."""
    for items, flip_rate in ((25_282, 0.09), (3_000, 0.09), (3_000, 0.02), (600, 0.3)):
        rng, rates = np.random.default_rng([9, items]), []
        for looks in LOOKS:
            certificate = CertificateLevels(Stopping(looks, "decided"), 0.05)
            boundaries = np.array(certificate.boundaries)
            seen = np.ceil(np.arange(1, looks + 1) * items / looks)
            chances = [(flip_rate + 0.01) / 2, (flip_rate - 0.01) / 2, 1 - flip_rate]
            parts = [rng.multinomial(int(new), chances, runs)[:, :2] for new in np.diff(seen, prepend=0)]
            worse, better = np.cumsum(parts, axis=0).transpose(2, 1, 0)
            crossed = (-tango_scores(worse, better, seen) >= boundaries) & (worse + better >= MANY_FLIPS)
            rates.append(float(crossed.any(axis=1).mean()))
        report(f"certificate boundary: {items:,} items, {flip_rate:.0%} flips", runs, rates)


def tango_scores(
    worse: NDArray[np.int64], better: NDArray[np.int64], items: NDArray[np.float64], drop: float = 0.01
) -> NDArray[np.float64]:
    """`stats.drop.tango_score` for arrays."""
    linear = -worse - better + (2 * items - worse + better) * drop
    root = np.sqrt(linear**2 + 8.0 * items * better * drop * (1.0 - drop))
    variance = items * ((root - linear) / (2.0 * items) + drop * (1.0 - drop))
    scores: NDArray[np.float64] = (worse - better - items * drop) / np.sqrt(variance)
    return scores


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2_000)
    count = parser.parse_args().simulations
    print(
        f"{'share of sweeps with a wrong verdict, nominal .05':<58}{'runs':>6}  "
        + "  ".join(map("{:<6}".format, LOOKS))
    )
    single(count)
    clusters(count)
    for damaged in (0, 2, 4):
        variants(max(1, count // 2), damaged)
    tasks(count)
    certificates(count)
    certificate_boundaries(20 * count)


if __name__ == "__main__":
    main()
