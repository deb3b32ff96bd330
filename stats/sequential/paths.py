"""What is to be expected of looks.

With many flips the sum of the differences is a Brownian motion. With few, or with a test over several tasks,
paths are drawn, with a fixed seed, and looked at by the rules that decide (`stats.sequential.looks` and
`.monitor`): the exact boundary given the flips at every look, or that of the most extreme draws of a test
over tasks, and the p-values of the certificate at their levels.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from scipy.special import bdtr, ndtri

from stats.arrays import Bools, Floats
from stats.drop import MANY_FLIPS, FlipEvidence
from stats.planning import Design
from stats.sequential.boundaries import CertificateLevels, Stopping, exit_probabilities, strip
from stats.sequential.looks import SLACK
from stats.tasks.combinations import Combine
from stats.tasks.power import FEW_FLIPS, DrawnTask, TaskShape, of_flips, statistics

ROWS = 4_000  # paths that are drawn
REJECTED, NULL_DRAWN = 400, 200_000  # paths of the null that cross; most task sums that are drawn for it
GRID = 40  # numbers of flips for which the certificate is worked out; others lie between

Tasks: TypeAlias = Sequence[TaskShape]


def expected_course(
    design: Design, drop: float, stopping: Stopping, margin: float, comparisons: int = 1
) -> tuple[float, float, float]:
    """What is to be expected of looks if the true drop is as given, in every task.

    The sum of the differences is a Brownian motion whose drift is the true drop δ, negative if the variant is
    better, between the boundary of damage and that of the certificate. With few flips, and by a test over
    several tasks, paths are simulated instead. Of m comparisons damage is tested at α/m, the level of each
    before any is passed on.

    Returns:
        P(found degraded), P(certified), and the expected share of the planned samples that are used.

    Raises ValueError if the flip rate does not allow the drop.
    """
    if abs(drop) > design.largest_drop:
        raise ValueError(
            f"A flip rate of {design.flip_rate:g} over {design.reruns} reruns allows a drop of at most "
            f"{design.largest_drop:.3g}, not {abs(drop):g}."
        )
    level, pooled = design.alpha / comparisons, design.is_pooled
    few = design.reruns == 1 and design.items * design.flip_rate < MANY_FLIPS * stopping.looks
    if few or not pooled:
        tasks = (replace(design, tasks=(1.0,)) if pooled else design).shapes(drop)
        return simulated_course(
            tasks, drop, stopping, margin, alpha=design.alpha, level=level, combine=design.combine
        )
    variance = design.variance
    spread = float(np.sqrt(max(variance - drop**2, 1e-12)))
    root, times = float(np.sqrt(design.items)), np.array(stopping.fractions)
    lower, upper = strip(stopping, (design.alpha, level), margin, design.items, variance) / spread
    below, above = exit_probabilities(stopping.fractions, lower, upper, drop * root / spread)
    ends = below + above
    share = float(ends @ times) + max(0.0, 1.0 - float(ends.sum()))
    return float(above.sum()), float(below.sum()), share


def simulated_course(
    tasks: Tasks,
    drop: float,
    stopping: Stopping,
    margin: float,
    *,
    alpha: float,
    level: float,
    combine: Combine,
) -> tuple[float, float, float]:
    """P(found degraded), P(certified) and the expected share of the samples if all tasks have this drop.

    Damage is tested at the level, by the sum of the flips of a single task or by the test over several; the
    certificate has α.
    """
    rng, certificate = np.random.default_rng(0), CertificateLevels(stopping, alpha)
    rows = int(max(min(REJECTED / level, NULL_DRAWN / len(tasks)), ROWS))
    walk, extremes = _Walks(), _Extremes(rows)
    null, paths = (
        _looks(tasks, each, stopping.looks, rng, count) for each, count in ((0.0, rows), (drop, ROWS))
    )
    going, items = np.ones(ROWS, dtype=np.bool_), sum(task.items for task in tasks)
    found, mean_square = np.array([0.0, 0.0, 1.0]), sum(task.unit**2 * task.count for task in tasks) / items
    lower = strip(stopping, (alpha, level), margin, round(items), mean_square)[0] * np.sqrt(items)
    for look, (fraction, drawn) in enumerate(zip(stopping.fractions, paths, strict=True), 1):
        net, squares = np.sum([(task.net, task.squares) for task in drawn], axis=0)
        allowed = stopping.degraded(fraction, level) * (1.0 + SLACK)
        if len(tasks) == 1:
            crossed = walk.look(allowed, (net + squares) / 2.0, squares)
            evidence = net / np.sqrt(squares.clip(1.0))
        else:
            p_values = (statistics(each, combine) for each in (next(null), drawn))
            crossed, evidence = extremes.look(allowed, *p_values)
        if all(task.is_flips for task in tasks) and stopping.certificate == "default":
            levels = [certificate.level(look, few_flips=few) for few in (True, False)]
            certified = (net + squares) / 2.0 <= _most_worse(squares, items * fraction, margin, levels)
        else:
            certified = np.sum([task.unit * task.net for task in drawn], axis=0) <= lower[look - 1]
        certified &= ~crossed & (evidence <= certificate.largest_evidence(look))
        ends = [(going & which).mean() for which in (crossed, certified)]
        found += [*ends, (fraction - 1.0) * sum(ends)]
        going &= ~(crossed | certified)
    return float(found[0]), float(found[1]), float(found[2])


def _looks(
    tasks: Tasks, drop: float, looks: int, rng: np.random.Generator, rows: int
) -> Iterator[list[DrawnTask]]:
    """What the tasks show up to each look."""
    sums = np.zeros((len(tasks), 2, rows))
    for look in range(1, looks + 1):
        drawn = list[DrawnTask]()
        for place, task in enumerate(tasks):
            worse, better = (rate / looks for rate in task.rates(drop))
            if task.is_flips:
                sums[place] += rng.poisson([[worse], [better]], (2, rows))
                is_counted = (worse + better) * look <= FEW_FLIPS
                drawn.append(of_flips(task, *sums[place], is_counted=is_counted))
            else:
                blocks = task.count / looks
                sums[place, 0] += worse - better + np.sqrt(blocks) * rng.standard_normal(rows)
                sums[place, 1] += blocks
                net, squares = sums[place]
                drawn.append(DrawnTask(task.unit, net, squares, 3.0 / (blocks * look)))
        yield drawn


class _Walks:
    """`stats.sequential.looks.SignFlipWalk` of many paths of flips."""

    def __init__(self) -> None:
        self._alive, self._spent, self._flips = np.ones((ROWS, 1)), np.zeros(ROWS), np.zeros(ROWS)

    def look(self, allowed: float, worse: Floats, flips: Floats) -> Bools:
        """Which paths cross, with flips so far, and those of them for the worse; shape (rows,)."""
        new, width = (flips - self._flips).astype(np.int64), self._alive.shape[1]
        joined = np.zeros((ROWS, width + int(new.max())))
        for count in np.unique(new):
            own = np.flatnonzero(new == count)
            part = np.zeros((own.size, joined.shape[1]))
            for more, chance in enumerate(np.diff(bdtr(np.arange(count + 1), count, 0.5), prepend=0.0)):
                part[:, more : more + width] += chance * self._alive[own]
            joined[own] = part
        tails = np.pad(np.cumsum(joined[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))
        cuts = (tails > (allowed - self._spent)[:, None]).sum(axis=1)
        self._spent += tails[np.arange(ROWS), cuts]
        self._alive, self._flips = np.where(np.arange(joined.shape[1]) < cuts[:, None], joined, 0.0), flips
        return np.asarray(worse >= cuts)


class _Extremes:
    """`stats.sequential.looks.SignVectors` with drawn paths of the null in place of signs."""

    def __init__(self, rows: int) -> None:
        self._crossed = np.zeros(rows, dtype=np.bool_)

    def look(self, allowed: float, null: Floats, p_values: Floats) -> tuple[Bools, Floats]:
        """Which paths cross, and how extreme each is on the normal scale; shape (rows,)."""
        free, spare = np.sort(null[~self._crossed]), int(allowed * null.size) - int(self._crossed.sum())
        limit = free[spare] if spare < free.size else np.inf
        self._crossed |= null < limit
        ranks = np.searchsorted(np.sort(null), p_values, side="right")
        return p_values < limit, -ndtri((ranks + 1.0) / (null.size + 1.0))


def _most_worse(flips: Floats, items: float, margin: float, levels: Sequence[float]) -> Floats:
    """Flips to wrong with which each number of flips still certifies, at the level for few and for many."""
    many = np.linspace(MANY_FLIPS, max(flips.max(), MANY_FLIPS + 1.0), GRID).round()
    numbers = np.unique(np.concatenate([np.arange(MANY_FLIPS), many]))

    def most(number: float) -> int:
        level = levels[int(number >= MANY_FLIPS)]
        count = int(number)

        def fails(worse: int) -> bool:
            return FlipEvidence(worse, count - worse, round(items)).p_noninferior(margin) > level

        return bisect_left(range(count + 1), True, key=fails) - 1 if count <= items else -1

    return np.floor(np.interp(flips, numbers, [most(number) for number in numbers]) + 1e-9)
