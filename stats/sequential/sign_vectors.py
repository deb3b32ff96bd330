"""The group-sequential test of several tasks at once: the fixed analysis's statistics, followed over looks.

Pooled sum, largest standardised drop and Fisher's sum have no common random walk, so their distribution over
looks comes from sign vectors that all looks and tasks share: a block keeps its sign in all tasks and at all
looks in which it counts. The observed signs are one row more. At every look the most extreme rows that have
not crossed before cross, as many as the spending function allows together with those that did. Which rows
cross depends on nothing that tells the observed row from the others under the null, so the probability that
it is among them is at most what was spent, for any number of rows (Westfall & Young 1993; Phipson & Smyth
2010).
"""

from functools import partial

import numpy as np
from scipy.special import ndtri

from stats.arrays import Floats, Ints
from stats.distributions.lattice import GrowingLattice
from stats.distributions.signs import flip_slices
from stats.distributions.sums import LatticeSum
from stats.sequential.plan import SequentialPlan
from stats.sequential.walk import SLACK, LookTest
from stats.tasks.combinations import STATISTICS, Combine, parts_of

DRAWN_FLOOR = 1e-20
"""Probabilities below this are left out of a distribution that is drawn from."""

COUNTED_WIDTH = 1 << 20
"""Whole numbers within such a range are ranked by counting instead of sorting."""


class SignVectors:
    """Sums of every task under common sign vectors, and which of them have crossed.

    Args:
        plan: with the statistic over tasks, of which "any" is calibrated here like "joint".

    Attributes:
        sums: in steps, the observed ones in row 0, shape (vectors + 1, T).
        squares: Σd² of each task in steps², shape (T,).
        crossed: rows that crossed before, by level, shape (L, vectors + 1).
    """

    def __init__(self, plan: SequentialPlan) -> None:
        self._plan, self._levels, self._looks, self._lattice = plan, plan.levels, 0, GrowingLattice()
        rows, tasks = plan.sign_vectors + 1, len(plan.tasks)
        self.sums = np.zeros((rows, tasks), dtype=np.int64)
        self.squares = np.zeros(tasks)
        self.crossed = np.zeros((self._levels.size, rows), dtype=bool)

    def look(self, fraction: float, values: Floats) -> LookTest:
        """Take a look.

        Args:
            fraction: planned share t of the information, in (0, 1], larger than at the look before.
            values: differences of the blocks that are new since then, in every task, shape (g, T).

        Returns:
            What the look says, on the normal scale of the p-value that the statistic has in a test that is
            made once, now.
        """
        self._join(values)
        ranks = _extreme_ranks(self.sums, self.squares, self._plan.combine)
        p_values = np.cumsum(np.bincount(ranks)) / ranks.size
        earlier = self.crossed.sum(axis=1)
        as_extreme = (~self.crossed & (ranks <= ranks[0])).sum(axis=1)
        limits, laxest = np.zeros(self._levels.size, dtype=np.int64), ranks.size
        for place in reversed(range(self._levels.size)):
            allowed = (
                self._plan.stopping.degraded(fraction, float(self._levels[place]))
                * (1.0 + SLACK)
                * ranks.size
            )
            free = np.cumsum(np.bincount(ranks[~self.crossed[place]], minlength=p_values.size))
            laxest = min(laxest, int(np.searchsorted(free, allowed - earlier[place], side="right")))
            limits[place] = laxest
            self.crossed[place] |= ranks < laxest
        nominal = np.append(0.0, p_values)[limits]
        return LookTest(
            statistic=-float(ndtri(p_values[ranks[0]])),
            boundary=-ndtri(nominal),
            spent=self.crossed.mean(axis=1),
            p_stagewise=(earlier + as_extreme) / ranks.size,
            crossed=ranks[0] < limits,
            nominal=lambda place: float(nominal[place]),
        )

    def _join(self, values: Floats) -> None:
        """Take in the signed sums of the new blocks."""
        factor, steps = self._lattice.extend(values)
        rows, seed = self.sums.shape[0] - 1, [self._plan.seed, self._looks]
        signed = np.zeros((rows, steps.shape[1]), dtype=np.int64)
        tasks_of_block = np.count_nonzero(steps, axis=1)
        if len(shared := steps[tasks_of_block > 1]):  # blocks of several tasks need their signs one by one
            slices = flip_slices(len(shared), rows, [*seed, 0])
            flipped = np.concatenate([flips @ shared.astype(np.float64) for flips in slices])
            signed += shared.sum(axis=0) - 2 * np.rint(flipped).astype(np.int64)
        for task, column in enumerate(steps[tasks_of_block == 1].T):
            if column.any():  # the signs of the others serve nothing else, so their sums can be drawn
                sums, chances = LatticeSum.of(column).table(DRAWN_FLOOR)
                heights = np.cumsum(chances)
                drawn = np.random.default_rng([*seed, 1, task]).random(rows) * heights[-1]
                places = np.searchsorted(heights, drawn, side="right")
                signed[:, task] += sums[places.clip(max=sums.size - 1)]
        self._looks += 1
        self.sums = factor * self.sums + np.concatenate([steps.sum(axis=0, keepdims=True), signed])
        self.squares = factor**2 * self.squares + (steps.astype(np.float64) ** 2).sum(axis=0)


def _extreme_ranks(sums: Ints, squares: Floats, combine: Combine) -> Ints:
    """Rank of every row, 0 for the most extreme; ties share one, and none is left out.

    The smallest of three p-values, which are ranks themselves, is the same for rows that lead in different
    statistics; the larger standardised drop then tells them apart.
    """
    moving = squares > 0.0
    if not moving.any():
        return np.zeros(sums.shape[0], dtype=np.int64)
    sums, scales = sums[:, moving], np.sqrt(squares[moving])
    p_values = _smallest_p_values(sums, scales, combine)
    drop = np.maximum(sums.sum(axis=1) / np.sqrt(squares.sum()), (sums / scales).max(axis=1)).round(9)
    if combine in STATISTICS:
        drop = np.zeros_like(p_values)
    order = np.lexsort((-drop, p_values))
    apart = (np.diff(p_values[order]) > 0.0) | (np.diff(drop[order]) != 0.0)
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[order] = np.append(0, np.cumsum(apart))
    return ranks


def _smallest_p_values(sums: Ints, scales: Floats, combine: Combine) -> Floats:
    """The p-value among the rows of a statistic, or the smallest of those that count, shape (rows,)."""
    p_values = []
    for statistic in (STATISTICS[name] for name in parts_of(combine)):
        terms = [
            statistic.term(task, float(scale), partial(_log_shares, task))
            for task, scale in zip(sums.T, scales, strict=True)
        ]
        p_values.append(_shares(statistic.join.reduce(terms).round(9)))
    return np.minimum.reduce(p_values)


def _log_shares(values: Ints) -> Floats:
    return np.log(_shares(values))


def _shares(values: Ints | Floats) -> Floats:
    """Share of the rows that are at least as large, ties counted."""
    width = int(values.max() - values.min()) + 1
    if values.dtype.kind == "i" and width <= COUNTED_WIDTH:
        counts = np.bincount(values - values.min(), minlength=width)
        return np.cumsum(counts[::-1])[::-1][values - values.min()] / values.size
    return (values.size - np.searchsorted(np.sort(values), values)) / values.size
