"""Many variants, one rate of false alarms.

Every variant is compared with the same baseline on the same items, so the tests are dependent; Holm holds
under any dependence. Benjamini–Hochberg bounds the share of false discoveries instead. Step-down max-T
flips an item's sign for every variant at once, which keeps their correlation; variants are put on one scale
by their p-values (the min-P form of Westfall & Young 1993, Algorithm 2.8). With few blocks it is exact;
otherwise signs are drawn, and where Holm's bound is below what the rows can resolve, it is taken instead.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import EvidenceError, Floats, Ints
from stats.distributions.nulls import SIGN_VECTORS
from stats.scores import TaskScores, balanced
from stats.sharing import Columns
from stats.tasks.combinations import Combine
from stats.tasks.combine import RESOLUTION, StatisticRows

Adjust: TypeAlias = Literal["maxt", "holm", "bh", "none"]
"""How p-values are adjusted for the number of comparisons: step-down max-T, Holm, Benjamini–Hochberg, not."""

FEWEST_SIGN_VECTORS = 5_000
MAX_PRODUCTS = 2_000_000_000
"""Signs × scores (a second) beyond which fewer vectors are drawn; the fewest give .05 an error of .003."""


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> Floats:
    """Holm's (1979) step-down adjustment of p-values, shape (m,): family-wise error under any dependence."""
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def benjamini_hochberg(p_values: Sequence[float] | NDArray[np.float64]) -> Floats:
    """Benjamini & Hochberg's (1995) step-up adjustment of p-values, shape (m,): false discovery rate."""
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")[::-1]
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum.accumulate(raw[order] * raw.size / np.arange(raw.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def adjust_p_values(p_values: Floats, adjust: Adjust) -> Floats:
    """Adjust p-values, shape (m,), by "holm", "bh" or "none".

    Raises:
        ValueError: for "maxt", which needs the scores (`step_down_max_t`).
    """
    if adjust == "maxt":
        raise ValueError("P-values alone cannot be adjusted by 'maxt': use holm, bh or none.")
    if adjust == "none":
        return p_values
    return holm(p_values) if adjust == "holm" else benjamini_hochberg(p_values)


def step_down_max_t(
    variants: Sequence[Sequence[TaskScores]],
    p_values: Floats,
    combine: Combine = "joint",
    sign_vectors: int = SIGN_VECTORS,
    seed: int = 0,
) -> Floats:
    """Adjust the p-values of V variants that share their items, shape (V,).

    Tasks are matched by name and blocks by cluster or item, by position where items are not named. At most so
    many sign vectors are drawn, once for all variants; 5,000 where there are very many items. The statistic
    "any" is calibrated here like "joint".

    Raises EvidenceError if the variants do not share their blocks (see `shares_blocks`).
    """
    if not shares_blocks(variants):
        raise EvidenceError(
            "Variants have no signs in common: name their items, and cluster all of them or none."
        )
    scores = [task for tasks in variants for task in tasks]
    affordable = MAX_PRODUCTS // sum(task.baseline.size for task in scores)
    vectors = min(sign_vectors, max(FEWEST_SIGN_VECTORS, affordable))
    nulls, adjusted = [(variants, False)], p_values  # those of `combine_scores`
    if any(task.splits is not None for task in scores):
        nulls.append((variants, True))
    even = [balanced(tasks) for tasks in variants]
    if any(even):
        nulls.append(([own or tasks for own, tasks in zip(even, variants, strict=True)], False))
    for chosen, split in nulls:
        rows = StatisticRows(_columns(chosen), vectors, seed, split=split)
        stepped = np.maximum(_step_down(rows.p_values(combine), p_values), p_values)
        if not rows.exact:
            bound = holm(p_values)
            stepped = np.where(bound * rows.rows <= RESOLUTION, bound, stepped)
        adjusted = np.maximum(adjusted, stepped)
    order = np.argsort(p_values, kind="stable")
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return adjusted


def shares_blocks(variants: Sequence[Sequence[TaskScores]]) -> bool:
    """Whether it is known which items or clusters the variants have in common.

    Items without names are taken to be the same where there are equally many of them; a task that is
    clustered for one variant only has no common blocks.
    """
    for columns in _columns(variants):
        present = [column for column in columns if column]
        labelled = [column.labels is not None for column in present]
        named = [column.items is not None for column in present]
        alike = not any(named) and len({column.baseline.size for column in present}) == 1
        if not all(labelled) and (any(labelled) or not (all(named) or alike)):
            return False
    return True


def _columns(variants: Sequence[Sequence[TaskScores]]) -> list[Columns]:
    by_name = [{task.task: task for task in tasks} for tasks in variants]
    names = dict.fromkeys(name for tasks in by_name for name in tasks)
    return [[tasks.get(name) for tasks in by_name] for name in names]


def _step_down(rows: Floats, p_values: Floats) -> Floats:
    """P(the smallest p-value among this variant and all less significant ones is as small as observed)."""
    order: Ints = np.lexsort((p_values, rows[:, 0]))
    smallest = np.minimum.accumulate(rows[order[::-1]], axis=0)[::-1]
    tails = np.mean(smallest <= rows[order, 0][:, None] * (1.0 + 1e-12), axis=1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(tails)
    return adjusted
