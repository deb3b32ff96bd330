"""Step-down max-T over variants, with the same signs for all of them.

All variants are compared with one baseline on the same items, so their tests are correlated; flipping an
item's sign for every variant at once keeps that correlation, and the adjustment is no larger than it has to
be (Westfall & Young 1993, Algorithm 2.8). The observed scores are one more row of the simulation, so the
adjusted p-values are valid for any number of sign vectors. Where Holm's bound is below what the sign
vectors can resolve, it is taken instead: it needs no simulation.
"""

from collections.abc import Sequence

import numpy as np

from stats.arrays import EvidenceError, Floats, Ints
from stats.combine import Combine
from stats.lattice import to_lattice
from stats.montecarlo import flip_slices
from stats.multiplicity import holm
from stats.nulls import null_table
from stats.scores import TaskScores

RESOLUTION = 20
"""Adjusted p-values worth fewer sign vectors than this are Holm's."""

EXACT_IN_SINGLE = 1 << 24
"""Whole numbers up to this are exact in single precision."""

TIE = 1e-9


def step_down_max_t(
    variants: Sequence[Sequence[TaskScores]],
    p_values: Floats,
    combine: Combine = "joint",
    sign_vectors: int = 5_000,
    seed: int = 0,
) -> Floats:
    """Adjust the p-values of variants that share their items.

    Args:
        variants: paired scores of every task, by variant; tasks are matched by name and blocks by cluster or
            item (by position where items are not named).
        p_values: the variants' unadjusted p-values, shape (V,).
        combine: the statistic; "any" is calibrated here like "joint".
        sign_vectors: B, drawn once for all variants.
        seed: of numpy's default generator.

    Returns:
        Adjusted p-values, shape (V,), between the unadjusted ones and 1.

    Raises:
        EvidenceError: if items are not named and the variants have different numbers of them.
    """
    rows = _StatisticRows(len(variants), sign_vectors + 1)
    for number, name in enumerate(_task_names(variants)):
        columns = [next((task for task in tasks if task.task == name), None) for tasks in variants]
        rows.add_task(columns, [seed, number])
    counted = _step_down(rows.p_values(combine), p_values)
    bound = holm(p_values)
    adjusted = np.where(bound * (sign_vectors + 1) <= RESOLUTION, bound, np.maximum(counted, p_values))
    order = np.argsort(p_values, kind="stable")
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return adjusted


class _StatisticRows:
    """The three statistics of every variant, in row 0 as observed and in the others under common signs."""

    def __init__(self, variants: int, rows: int) -> None:
        self.rows = rows
        self.sums = np.zeros((variants, rows))
        self.largest = np.full((variants, rows), -np.inf)
        self.fisher = np.zeros((variants, rows))

    def add_task(self, columns: list[TaskScores | None], seed: list[int]) -> None:
        """Draw one task's sums for all variants."""
        blocks = _aligned_blocks(columns)
        sums = _signed_sums(blocks, self.rows, seed)
        for variant, column in enumerate(columns):
            if column is None or not blocks[:, variant].any():
                continue
            table = null_table(column.block_sums, self.rows, [*seed, variant])
            drawn = sums[:, variant]
            self.sums[variant] += drawn
            self.largest[variant] = np.maximum(self.largest[variant], drawn / table.scale)
            places = np.searchsorted(table.support, drawn - table.tolerance)
            self.fisher[variant] -= np.log(table.tails)[np.minimum(places, table.tails.size - 1)]

    def p_values(self, combine: Combine) -> Floats:
        """The p-value of every row within its variant, shape (V, rows)."""
        match combine:
            case "pooled":
                return _row_p_values(self.sums)
            case "max-drop":
                return _row_p_values(self.largest)
            case "fisher":
                return _row_p_values(self.fisher)
        smallest = np.minimum(_row_p_values(self.sums), _row_p_values(self.largest))
        return _row_p_values(-np.minimum(smallest, _row_p_values(self.fisher)))


def _task_names(variants: Sequence[Sequence[TaskScores]]) -> list[str]:
    return list(dict.fromkeys(task.task for tasks in variants for task in tasks))


def _aligned_blocks(columns: list[TaskScores | None]) -> Floats:
    """Sums per block and variant, shape (blocks of any variant, V); 0 where a variant lacks the block."""
    present = [column for column in columns if column is not None]
    by_position = [column.items is None and column.clusters is None for column in present]
    if any(by_position) and len({column.baseline.size for column in present}) > 1:
        raise EvidenceError(
            f"Variants have different numbers of items of task {present[0].task!r}; "
            "name the items so that they can share signs."
        )
    keys = np.unique(np.concatenate([column.block_keys for column in present]))
    blocks = np.zeros((keys.size, len(columns)))
    for variant, column in enumerate(columns):
        if column is not None:
            blocks[np.searchsorted(keys, column.block_keys), variant] = column.block_sums
    return blocks


def _signed_sums(blocks: Floats, rows: int, seed: list[int]) -> Floats:
    """Σ signs × blocks for common signs, shape (rows, V); row 0 has every sign as it is.

    On a lattice the products are whole numbers, which single precision adds without error and twice as fast.
    """
    moving = blocks[np.any(blocks != 0.0, axis=1)]
    lattice = to_lattice(moving.ravel())
    step, matrix = 1.0, moving
    if lattice is not None:
        whole = lattice.integers.reshape(moving.shape)
        if np.abs(whole).sum(axis=0).max(initial=0) < EXACT_IN_SINGLE:
            step, matrix = lattice.step, whole.astype(np.float32)
    total = matrix.sum(axis=0, keepdims=True)
    flipped = [flips @ matrix for flips in flip_slices(matrix.shape[0], rows - 1, seed, matrix.dtype)]
    return np.concatenate([total, *(total - 2.0 * part for part in flipped)]).astype(np.float64) * step


def _row_p_values(statistic: Floats) -> Floats:
    """Share of the rows that are at least as large, ties counted, shape (V, rows)."""
    shares = np.empty_like(statistic)
    for variant, values in enumerate(statistic):
        tolerance = TIE * float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        below = np.searchsorted(np.sort(values), values - tolerance)
        shares[variant] = (values.size - below) / values.size
    return shares


def _step_down(rows: Floats, p_values: Floats) -> Floats:
    """P(the smallest p-value among this variant and all less significant ones is as small as observed)."""
    order: Ints = np.lexsort((p_values, rows[:, 0]))
    smallest = np.minimum.accumulate(rows[order[::-1]], axis=0)[::-1]
    tails = np.mean(smallest <= rows[order, 0][:, None] * (1.0 + 1e-12), axis=1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(tails)
    return adjusted
