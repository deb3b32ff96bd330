"""Step-down max-T over variants, with the same signs for all of them.

All variants are compared with one baseline on the same items, so their tests are correlated; flipping an
item's sign for every variant at once keeps that correlation, and the adjustment is no larger than it has to
be. Variants are put on one scale by their p-values rather than by S/√Σd², since their distributions differ in
shape: the min-P form of Westfall & Young (1993, Algorithm 2.8). With few blocks all sign vectors are
enumerated and the adjusted p-values are exact. Otherwise signs are drawn, the observed scores being one more
row, so that the adjusted p-values are valid for any number of rows; where Holm's bound is below what the rows
can resolve, it is taken instead: it needs no simulation.
"""

from collections.abc import Sequence

import numpy as np

from stats.arrays import EvidenceError, Floats, Ints
from stats.distributions.signs import SIGN_VECTORS
from stats.multiplicity import holm
from stats.scores import TaskScores
from stats.sharing import Columns
from stats.tasks.combinations import Combine
from stats.tasks.rows import StatisticRows

FEWEST_SIGN_VECTORS = 5_000
MAX_PRODUCTS = 2_000_000_000
"""Signs × scores (a second) beyond which fewer vectors are drawn; the fewest give .05 an error of .003."""

RESOLUTION = 20
"""Adjusted p-values worth fewer sign vectors than this are Holm's."""


def step_down_max_t(
    variants: Sequence[Sequence[TaskScores]],
    p_values: Floats,
    combine: Combine = "joint",
    sign_vectors: int = SIGN_VECTORS,
    seed: int = 0,
) -> Floats:
    """Adjust the p-values of variants that share their items.

    Args:
        variants: paired scores of every task, by variant; tasks are matched by name and blocks by cluster or
            item (by position where items are not named).
        p_values: the variants' unadjusted p-values, shape (V,).
        combine: the statistic; "any" is calibrated here like "joint".
        sign_vectors: most that are drawn, once for all variants; 5,000 where there are very many items.
        seed: of numpy's default generator.

    Returns:
        Adjusted p-values, shape (V,), between the unadjusted ones and 1.

    Raises:
        EvidenceError: if the variants do not share their blocks (see `shares_blocks`).
    """
    if not shares_blocks(variants):
        raise EvidenceError(
            "Variants have no signs in common: name their items, and cluster all of them or none."
        )
    scores = [task for tasks in variants for task in tasks]
    affordable = MAX_PRODUCTS // sum(task.baseline.size for task in scores)
    vectors = min(sign_vectors, max(FEWEST_SIGN_VECTORS, affordable))
    columns, adjusted = _columns(variants), p_values
    for split in (False, True) if any(task.splits is not None for task in scores) else (False,):
        rows = StatisticRows(columns, vectors, seed, split=split)
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
    """Per task the scores of every variant, None where it lacks the task."""
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
