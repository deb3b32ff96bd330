"""How often each verdict is wrong where it is hardest to be right: every decision simulated at its boundary.

Two worlds per setting. In the first nothing is worse (the models are exchangeable on every item): how often
is a variant called degraded? In the second the true drop is exactly the margin: how often is it certified? In
            if setting.looks:
                found = [by_looks(tasks, setting) for tasks in variants.values()]
            else:
                found = list(compare_variants(variants, settings).values())

    python benchmarks/decisions.py                 # the table of docs/statistics.md, 27 processor minutes
    python benchmarks/decisions.py --fraction 0.1  # a tenth of the simulations
    python benchmarks/decisions.py --only clusters # settings whose name contains this
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial

import numpy as np

from stats.arrays import Floats
from stats.comparison import Comparison, Settings, TaskScores, Verdict, compare_variants, conclude_course
from stats.scores import MissingAnswers, from_reruns
from stats.sequential.boundaries import Stopping
from stats.sequential.monitor import SequentialMonitor
from stats.sequential.plan import PlannedTask, SequentialPlan

ALPHA = 0.05
Rng = np.random.Generator
Draw = Callable[[Rng, float], list[TaskScores]]
"""Scores of one variant with a true mean drop of so much."""


@dataclass(frozen=True)
class Setting:
    """A way in which sweeps come about.

    Attributes:
        name: what is drawn.
        draw: one variant's tasks for a true drop.
        margin: the true drop of the second world.
        simulations: sweeps in each world.
        variants: how many share the baseline.
        certify: each certificate by itself, or all together.
        null: whether the first world is simulated; answers missing by their score promise nothing there.
        looks: how many are taken until it is decided; 0 for one analysis of all scores.
    """

    name: str
    draw: Draw
    margin: float
    simulations: int = 1_000
    variants: int = 1
    certify: str = "each"
    null: bool = True
    looks: int = 0


@dataclass(frozen=True)
class Rates:
    """What was found: shares of wrong verdicts and of intervals that cover."""

    degraded: float
    certified: float
    covered_null: float
    covered_margin: float
    certified_null: float
    degraded_margin: float
    simulations: int


def flips(rng: Rng, drop: float, items: int, rate: float) -> tuple[Floats, Floats]:
    """Right-or-wrong answers with a given flip rate and expected drop."""
    baseline = (rng.random(items) < 0.6).astype(float)
    # A flip to wrong needs a right baseline, so the chances are those of all pairs over the share that can.
    worse = (baseline == 1.0) & (rng.random(items) < (rate + drop) / 1.2)
    better = (baseline == 0.0) & (rng.random(items) < (rate - drop) / 0.8)
    return baseline, np.where(worse, 0.0, np.where(better, 1.0, baseline))


def binary(rng: Rng, drop: float, *, items: int, rate: float, tasks: int = 1) -> list[TaskScores]:
    """One run each, the same on every task."""
    return [TaskScores(f"t{k}", *flips(rng, drop, items, rate)) for k in range(tasks)]


def graded(rng: Rng, drop: float, *, items: int, kind: str) -> list[TaskScores]:
    """Grades on a fine scale: symmetric changes, rare total losses, or half losses beside small noise."""
    middle = np.full(items, 0.5)
    if kind == "symmetric":
        change = np.round(rng.normal(0.0, 0.2, items) * 20) / 20 + drop
    elif kind == "small":
        change = np.round(rng.normal(0.0, 0.06, items) * 50) / 50 + drop
    else:
        size = 1.0 if kind == "rare losses" else 0.5
        change = rng.choice([-0.1, 0.0, 0.1], items, p=[0.15, 0.7, 0.15])
        change = np.where(rng.random(items) < drop / size, size, change)
    return [TaskScores("t", middle + np.clip(change, -1, 1) / 2, middle - np.clip(change, -1, 1) / 2)]


def reruns(
    rng: Rng, drop: float, *, items: int, runs: tuple[int, int], mixed: bool = False
) -> list[TaskScores]:
    """Means over reruns: half of the items certain, the others lose twice the drop."""
    open_ = rng.random(items) < 0.5
    ability = np.where(open_, rng.uniform(0.3, 0.8, items), rng.random(items) < 0.6)
    lower = np.where(open_, ability - 2.0 * drop, ability)
    first, second = (
        (rng.random((items, k)) < chance[:, None]).astype(float)
        for k, chance in zip(runs, (ability, lower), strict=True)
    )
    if mixed:
        second[rng.random(items) < 0.5, -1] = np.nan
    return [from_reruns("t", first, second)]


def clusters(rng: Rng, drop: float, *, groups: int, size: float, sigma: float) -> list[TaskScores]:
    """Right or wrong in clusters, whose own drops scatter by five points around the drop."""
    sizes = np.ceil(size * np.exp(sigma * rng.normal(size=groups) - sigma**2 / 2)).astype(int)
    own = np.repeat(np.clip(rng.normal(drop, 0.05, groups), drop - 0.15, drop + 0.15), sizes)
    baseline, variant = np.ones(own.size), np.ones(own.size)
    draw = rng.random(own.size)
    variant[draw < (0.2 + own) / 2] = 0.0
    baseline[draw > 1.0 - (0.2 - own) / 2] = 0.0
    return [TaskScores("t", baseline, variant, clusters=np.repeat(np.arange(groups), sizes))]


def whole_losses(
    rng: Rng, drop: float, *, groups: int, size: int, graded: bool, share: float = 1.0
) -> list[TaskScores]:
    """As many clusters as make up the drop lose a share of everything; others flip, or change by a tenth."""
    items, labels = groups * size, np.repeat(np.arange(groups), size)
    change = rng.choice([-1.0, 0.0, 1.0], items, p=[0.05, 0.9, 0.05]) * (0.1 if graded else 1.0)
    lost = np.repeat(rng.random(groups) < drop / share, size) & (rng.random(items) < share)
    change = np.where(lost, 1.0, change)
    return [TaskScores("t", 0.5 + change / 2, 0.5 - change / 2, clusters=labels)]


def one_link(rng: Rng, drop: float, *, items: int, size: float) -> list[TaskScores]:
    """Graded items of which 30 % change by one size and few lose everything; two are one document."""
    change = rng.choice([-size, 0.0, size], items, p=[0.15, 0.7, 0.15])
    change = np.where(rng.random(items) < drop, 1.0, change)
    labels = np.arange(items)
    labels[1] = 0
    return [TaskScores("t", 0.5 + change / 2, 0.5 - change / 2, links=labels)]


def rare_gains(rng: Rng, drop: float, *, items: int, loss: float) -> list[TaskScores]:
    """Most items lose a little and few gain everything."""
    change = np.where(rng.random(items) < (loss - drop) / (1.0 + loss), -1.0, loss)
    return [TaskScores("t", 0.5 + change / 2, 0.5 - change / 2)]


def skewed_clusters(rng: Rng, drop: float, *, groups: int) -> list[TaskScores]:
    """Clusters of very unequal size, of which one in ten is much better and the others worse."""
    sizes = np.maximum(1, np.round(10 * rng.lognormal(0.0, 1.5, groups))).astype(int)
    own = np.repeat(np.where(rng.random(groups) < 0.1, -0.27, 0.03), sizes) + drop
    draw = rng.random(own.size)
    baseline = np.where(draw > 1.0 - (0.3 - own) / 2, 0.0, 1.0)
    variant = np.where(draw < (0.3 + own) / 2, 0.0, 1.0)
    return [TaskScores("t", baseline, variant, clusters=np.repeat(np.arange(groups), sizes))]


def missing(
    rng: Rng, drop: float, *, items: int, rate: float, share: float, at_random: bool
) -> list[TaskScores]:
    """Some answers of both models are missing; or only the variant's, and only where it loses."""
    baseline, variant = flips(rng, drop, items, rate)
    gone = rng.random((2, items)) < share / 2
    if not at_random:
        gone = np.stack([np.zeros(items, dtype=bool), (variant < baseline) & (rng.random(items) < share)])
    both, means = ~gone.any(axis=0), np.where(gone, np.nan, [baseline, variant])
    lacking = MissingAnswers("t", means, (~gone).astype(int), (1, 1)).unless_complete()
    return [TaskScores("t", baseline[both], variant[both], lacking=lacking)]


def all_settings() -> Iterator[Setting]:
    """The settings, and the hardest ones of certificates at looks, too."""
    yield from settings_of_all_scores()
    for setting in settings_of_all_scores():
        if setting.name.startswith(("whole", "rare gains")) and "half" not in setting.name:
            name = f"at 10 looks: {setting.name}"
            yield replace(setting, name=name, looks=10, simulations=300, null=False)


def settings_of_all_scores() -> Iterator[Setting]:
    """The settings, by what varies."""
    for items in (30, 100, 300, 1_000, 5_000, 25_000):
        for rate in (0.03, 0.1, 0.3):
            margin = {30: 0.2, 100: 0.05, 300: 0.03}.get(items, 0.01)
            if rate >= margin:
                yield Setting(
                    f"binary, {items:,} items, {rate:.0%} flip",
                    partial(binary, items=items, rate=rate),
                    margin,
                )
    for items in (30, 100, 500, 2_000, 10_000):
        for kind in ("symmetric", "small", "rare losses", "half losses"):
            margin = {30: 0.1, 100: 0.05, 500: 0.03}.get(items, 0.01)
            simulations = 200 if items > 5_000 else 500 if items > 1_000 else 1_000
            yield Setting(
                f"graded, {items:,} items, {kind}",
                partial(graded, items=items, kind=kind),
                margin,
                simulations,
            )
    for runs, mixed in (((3, 3), False), ((10, 1), False), ((3, 3), True), ((10, 10), False)):
        for items in (30, 200, 1_000):
            margin = {30: 0.1, 200: 0.05}.get(items, 0.02)
            name = "3/2 mixed" if mixed else f"{runs[0]}/{runs[1]}"
            draw = partial(reruns, items=items, runs=runs, mixed=mixed)
            yield Setting(f"reruns {name}, {items:,} items", draw, margin, 500 if items > 500 else 1_000)
    for groups in (15, 20, 30, 100):
        for sigma in (0.0, 1.5):
            name = f"clusters, {groups} of {'equal' if not sigma else 'very unequal'} size"
            yield Setting(name, partial(clusters, groups=groups, size=30, sigma=sigma), 0.03)
    for groups, size, margin in (
        (200, 5, 0.01), (400, 5, 0.01), (200, 5, 0.02), (100, 10, 0.05), (20, 20, 0.05), (50, 10, 0.05),
    ):  # fmt: skip
        for kind, is_graded, share in (("flips", False, 1.0), ("grades", True, 1.0), ("half", False, 0.5)):
            draw = partial(whole_losses, groups=groups, size=size, graded=is_graded, share=share)
            yield Setting(f"whole clusters lose, {groups} × {size}, {margin:.0%}, {kind}", draw, margin, 500)
    for items, margin, size in (
        (100, 0.01, 0.01), (60, 0.02, 0.01), (100, 0.01, 0.1),
        (200, 0.01, 0.01), (500, 0.01, 0.1), (300, 0.02, 0.1),
    ):  # fmt: skip
        draw = partial(one_link, items=items, size=size)
        yield Setting(f"one link, {items} items, {margin:.0%}, ±{size:g}", draw, margin)
    for items, margin, loss in (
        (30, 0.1, 0.2), (100, 0.01, 0.05), (100, 0.05, 0.1), (300, 0.005, 0.02), (1_000, 0.01, 0.05),
    ):  # fmt: skip
        draw = partial(rare_gains, items=items, loss=loss)
        yield Setting(
            f"rare gains, {items:,} items, {margin:.1%}, losses of {loss:g}", draw, margin, null=False
        )
    for groups in (10, 15, 30, 100):
        yield Setting(f"skewed clusters, {groups}", partial(skewed_clusters, groups=groups), 0.05)
    for tasks in (2, 10, 50):
        draw = partial(binary, items=100, rate=0.1, tasks=tasks)
        yield Setting(f"{tasks} tasks of 100 items, 10% flip", draw, 0.03, {2: 500, 10: 300}.get(tasks, 75))
    for variants in (2, 5, 20):
        for certify in ("each", "all"):
            draw = partial(binary, items=400, rate=0.1)
            name = f"{variants} variants, certify {certify}, 400 items"
            yield Setting(
                name, draw, 0.04, {20: 100}.get(variants, 400), variants, certify, certify == "each"
            )
    for share in (0.005, 0.02, 0.1):
        draw = partial(missing, items=2_000, rate=0.1, share=share, at_random=True)
        yield Setting(f"{share:.1%} missing at random, 2,000 items", draw, 0.02)
    for share in (0.02, 0.3, 1.0):
        draw = partial(missing, items=2_000, rate=0.1, share=share, at_random=False)
        yield Setting(f"{share:.0%} of losses missing, 2,000 items", draw, 0.02, null=False)


def simulate(setting: Setting, simulations: int, seed: int) -> Rates:
    """Both worlds of a setting."""
    settings = Settings(
        alpha=ALPHA,
        margin=setting.margin,
        draws=999,
        sign_vectors=999,
        certify=setting.certify,  # type: ignore[arg-type]
    )
    rates = []
    for world, drop in enumerate((0.0, setting.margin)):
        rng = np.random.default_rng([seed, world])
        covered, said = 0, dict.fromkeys((Verdict.DEGRADED, Verdict.CERTIFIED), 0)
        for _ in range(simulations if world or setting.null else 0):
            variants = {str(v): setting.draw(rng, drop) for v in range(setting.variants)}
            if setting.looks:
                found = [by_looks(tasks, setting) for tasks in variants.values()]
            else:
                found = list(compare_variants(variants, settings).values())
            judged = found[:1] if world and setting.certify == "each" else found
            for verdict in said:
                said[verdict] += any(_says(one, verdict) for one in judged)
            low, high = found[0].drop_interval_decision
            covered += low <= drop <= high
        shares = np.array([*said.values(), covered]) / simulations
        rates.append(shares if world or setting.null else np.full(3, np.nan))
    (degraded, power, covered_null), (found_worse, certified, covered_margin) = np.array(rates).tolist()
    return Rates(degraded, certified, covered_null, covered_margin, power, found_worse, simulations)


def by_looks(tasks: list[TaskScores], setting: Setting) -> Comparison:
    """The end of a sweep that stops as soon as it is decided; items come in as they were drawn."""
    planned = tuple(PlannedTask(task.task, task.differences.size, task.labels) for task in tasks)
    stopping = Stopping(setting.looks, "decided")
    plan = SequentialPlan(planned, ("0",), stopping, ALPHA, setting.margin, sign_vectors=999)
    monitor = SequentialMonitor(plan)
    monitor.observe("0", [task.differences for task in tasks])
    return conclude_course(tasks, (), monitor.courses(closed=True)["0"], plan)


def _says(found: Comparison, verdict: Verdict) -> bool:
    """Whether a certificate was given, also where the variant is significantly worse within the margin."""
    if verdict is Verdict.DEGRADED:
        return found.verdict is Verdict.DEGRADED
    return found.p_noninferior_adjusted <= ALPHA


def _run(job: tuple[str, float, int]) -> tuple[str, Rates]:
    name, fraction, seed = job
    setting = next(s for s in all_settings() if s.name == name)
    return name, simulate(setting, max(1, round(fraction * setting.simulations)), seed)


def _cell(rate: float) -> str:
    return "–" if np.isnan(rate) else f"{rate:.3f}".lstrip("0") if rate < 1 else "1.000"


def flags(rates: Rates) -> str:
    """What is out of bounds by more than two standard errors."""
    high = ALPHA + 2.0 * np.sqrt(ALPHA * (1 - ALPHA) / rates.simulations)
    low = 1 - 2 * ALPHA - 0.01 - 2.0 * np.sqrt(0.1 * 0.9 / rates.simulations)
    wrong = [name for name in ("degraded", "certified") if getattr(rates, name) > high]
    return ", ".join(
        wrong + [name for name in ("covered_null", "covered_margin") if getattr(rates, name) < low]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fraction", type=float, default=1.0, help="of the simulations of each setting")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    names = [setting.name for setting in all_settings()]
    jobs = [(name, chosen.fraction, seed) for seed, name in enumerate(names) if chosen.only in name]
    heads = (
        "degraded, no drop",
        "certified, drop = margin",
        "covered, no drop",
        "covered, drop = margin",
        "power: certified, no drop",
        "power: degraded, drop = margin",
        "",
    )
    print(f"| setting | {' | '.join(heads)} |")
    print("|---" * 8 + "|")
    with ProcessPoolExecutor(chosen.processes) as pool:
        for name, rates in pool.map(_run, jobs):
            cells = " | ".join(map(_cell, astuple(rates)[:-1]))
            print(f"| {name} | {cells} | {flags(rates)} |", flush=True)


if __name__ == "__main__":
    main()
