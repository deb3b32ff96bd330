"""Items with unequal numbers of runs: what a random split of all their runs into two groups would give.

A mean over one run is more dispersed than a mean over ten, so the difference of the two is not symmetric
under the null and its sign must not be flipped. If the two models do not differ on an item, its K_B + K_V
runs are exchangeable instead, and the observed split is one of C(K_B + K_V, K_B) equally likely ones
(Fisher 1935). Where runs are right or wrong the distribution is hypergeometric; where scores are multiples
of one step it is counted out; otherwise splits are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
from scipy.special import gammaln

from stats.arrays import Bools, Floats, Ints
from stats.distributions.lattice import to_lattice

MAX_COUNTED = 1e8
"""Additions beyond which the splits of graded scores are drawn instead of counted (about a second)."""

SLICE_ITEMS = 1 << 21  # items × draws that are split at once


@dataclass(frozen=True)
class Component:
    """Independent summands alike: values, ascending, and positive chances, shape (k,) each."""

    values: Floats | Ints
    chances: Floats
    count: int

    def draw(self, draws: int, rng: np.random.Generator) -> Floats:
        """Draw sums of all summands, shape (draws,)."""
        if self.count == 1:
            return rng.choice(self.values, draws, p=self.chances)
        times = rng.multinomial(self.count, self.chances, draws)
        return np.asarray(times @ self.values, dtype=np.float64)


@dataclass(frozen=True)
class RunSplits:
    """The items of one task, or of several, whose runs are split at random."""

    # all runs of an item, higher is better, in shares of the range, NaN where there are fewer than columns,
    # shape (m, K); None where every run is right (1) or wrong (0)
    scores: Floats | None
    successes: Floats  # sum of an item's scores, shape (m,)
    # K_B and K_V, runs of the baseline and of the variant, shape (m,) each
    first: Ints
    second: Ints
    observed: float  # sum of the differences found

    @cached_property
    def variance(self) -> float:
        """Of the sum of the differences: Σ s²·(1/K_B + 1/K_V), s² the variance of an item's runs (n − 1)."""
        runs = self.first + self.second
        means = self.successes / runs
        if self.scores is None:
            squares = self.successes * (1.0 - means)
        else:
            squares = np.nansum((self.scores - means[:, None]) ** 2, axis=1)
        return float((squares / (runs - 1) * (1.0 / self.first + 1.0 / self.second)).sum())

    @cached_property
    def components(self) -> tuple[Component, ...] | None:
        """The distinct distributions of an item's difference; None where its splits are too many to count."""
        if self.scores is not None:
            return _counted(self, self.scores)
        kinds = np.stack([self.first, self.second, np.rint(self.successes).astype(np.int64)])
        distinct, counts = np.unique(kinds, axis=1, return_counts=True)
        components = []
        for (first, second, right), count in zip(distinct.T.tolist(), counts.tolist(), strict=True):
            mine = np.arange(max(0, right - second), min(first, right) + 1)  # hypergeometric
            logs = _log_choose(first, mine) + _log_choose(second, right - mine)
            weights = np.exp(logs - logs.max())
            values = (mine * (first + second) - first * right) / (first * second)
            components.append(Component(values, weights / weights.sum(), count))
        return tuple(components)

    @property
    def log_largest(self) -> float:
        """Natural logarithm of the chance that every item's difference is the largest possible one."""
        if self.components is None:
            return -self.successes.size * float(np.log(2.0))
        return float(sum(part.count * np.log(part.chances[-1]) for part in self.components))

    def draw(self, draws: int, seed: int | list[int]) -> Floats:
        """Sums of the differences of random splits, shape (draws,)."""
        rng = np.random.default_rng(seed)
        if self.components is not None:
            return sum((part.draw(draws, rng) for part in self.components), np.zeros(draws))
        # run by run: each goes to the baseline in proportion to the places left
        assert self.scores is not None  # noqa: S101 - right-or-wrong runs always have their components
        weights = 1.0 / self.first + 1.0 / self.second
        fixed = float((self.successes / self.second).sum())
        sums, step = np.zeros(draws), max(1, SLICE_ITEMS // max(self.successes.size, 1))
        for start in range(0, draws, step):
            rows = slice(start, min(start + step, draws))
            places = np.broadcast_to(self.first, (rows.stop - start, self.successes.size)).copy()
            left = self.first + self.second
            for column in self.scores.T:
                present = ~np.isnan(column)
                chosen: Bools = (rng.random(places.shape, dtype=np.float32) * left < places) & present
                sums[rows] += chosen @ np.where(present, column * weights, 0.0)
                places -= chosen
                left = left - present
        return sums - fixed


def join_splits(tasks: Sequence[RunSplits | None]) -> RunSplits | None:
    """The items of several tasks together; None where there are none."""
    parts = [part for part in tasks if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    scores = None
    if any(part.scores is not None for part in parts):
        whole = [_all_runs(part) if part.scores is None else part.scores for part in parts]
        width = max(runs.shape[1] for runs in whole)
        padding = [((0, 0), (0, width - runs.shape[1])) for runs in whole]
        scores = np.concatenate(
            [np.pad(runs, more, constant_values=np.nan) for runs, more in zip(whole, padding, strict=True)]
        )
    return RunSplits(
        scores,
        np.concatenate([part.successes for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        sum(part.observed for part in parts),
    )


def _all_runs(part: RunSplits) -> Floats:
    """Right-or-wrong runs of every item written out."""
    runs = (part.first + part.second)[:, None]
    place = np.arange(runs.max())
    return np.where(place < runs, np.where(place < part.successes[:, None], 1.0, 0.0), np.nan)


def _log_choose(n: int, k: Ints) -> Floats:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _counted(splits: RunSplits, scores: Floats) -> tuple[Component, ...] | None:
    """One distribution per set of scores on a lattice, by counting the subsets of K_B runs with every sum."""
    lattice = to_lattice(np.nan_to_num(scores).ravel())
    if lattice is None:
        return None
    step, integers = lattice
    whole = integers.reshape(scores.shape)
    absent = np.isnan(scores)
    whole = whole - np.where(absent, whole.max(), whole).min(axis=1, keepdims=True)
    whole = np.sort(np.where(absent, -1, whole), axis=1)
    kinds, counts = np.unique(
        np.column_stack([splits.first, splits.second, whole]), axis=0, return_counts=True
    )
    width = float(whole.max()) * scores.shape[1]
    if kinds.shape[0] * scores.shape[1] * float(splits.first.max() + 1) * (width + 1.0) > MAX_COUNTED:
        return None
    components = []
    for (first, second, *steps), count in zip(kinds.tolist(), counts.tolist(), strict=True):
        runs = [score for score in steps if score >= 0]
        total = sum(runs)
        subsets = np.zeros((first + 1, total + 1))
        subsets[0, 0] = 1.0
        for score in runs:
            subsets[1:, score:] += subsets[:-1, : total + 1 - score]
        sums = np.flatnonzero(subsets[first])
        values = step * (sums * (first + second) - first * total) / (first * second)
        components.append(Component(values, subsets[first, sums] / comb(first + second, first), count))
    return tuple(components)
