"""Step-down max-T over variants, with the same signs for all of them.

All variants are compared with one baseline on the same items, so their tests are correlated; flipping an
item's sign for every variant at once keeps that correlation, and the adjustment is no larger than it has to
be. Variants are put on one scale by their p-values rather than by S/√Σd², since their laws differ in shape:
the min-P form of Westfall & Young (1993, Algorithm 2.8). With few blocks all sign vectors are gone through
and the adjusted p-values are exact. Otherwise signs are drawn, the observed scores being one more row, so
that the adjusted p-values are valid for any number of rows; where Holm's bound is below what the rows can
resolve, it is taken instead: it needs no simulation.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from stats.arrays import EvidenceError, Floats, Ints
from stats.combine import Combine
from stats.enumeration import MAX_ENUMERATED, all_signed_sums
from stats.lattice import to_lattice
from stats.montecarlo import flip_slices
from stats.multiplicity import holm
from stats.nulls import null_table
from stats.scores import TaskScores

Columns: TypeAlias = list[TaskScores | None]

SIGN_VECTORS = 20_000
FEWEST_SIGN_VECTORS = 5_000
MAX_PRODUCTS = 2_000_000_000
"""Signs × scores beyond which fewer sign vectors are drawn."""

RESOLUTION = 20
"""Adjusted p-values worth fewer sign vectors than this are Holm's."""

EXACT_IN_SINGLE = 1 << 24
"""Whole numbers up to this are exact in single precision."""

MAX_CELLS = 1 << 23
"""Sign vectors × variants beyond which signs are drawn: three arrays of this size are kept."""

ROW_FLOOR = 1e-30
"""Sums less likely than this count as no less likely: only the observed one can be, for Holm to judge."""

TIE = 1e-9


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
    tasks = _columns(variants)
    if not shares_blocks(variants):
        raise EvidenceError("Variants share no signs: name their items, and cluster all of them or none.")
    few = _few_blocks(tasks)
    drawn = 0 if few is not None else min(sign_vectors, _affordable(variants))
    rows = _StatisticRows(len(variants), drawn + 1 if few is None else 1 << sum(map(len, few)))
    used = 0
    for number, columns in enumerate(tasks):
        if few is None:
            sums = _drawn_sums(_aligned_blocks(columns), rows.rows, [seed, number])
        else:
            sums = _enumerated_sums(few[number], rows.rows, used)
            used += len(few[number])
        rows.add_task(columns, sums, [seed, number])
    adjusted = np.maximum(_step_down(rows.p_values(combine), p_values), p_values)
    if few is None:
        bound = holm(p_values)
        adjusted = np.where(bound * rows.rows <= RESOLUTION, bound, adjusted)
    order = np.argsort(p_values, kind="stable")
    adjusted[order] = np.maximum.accumulate(adjusted[order])
    return adjusted


def shares_blocks(variants: Sequence[Sequence[TaskScores]]) -> bool:
    """Whether it is known which items or clusters the variants have in common.

    Items without names are taken to be the same where there are equally many of them; a task that is
    clustered for one variant only has no common blocks.
    """
    return all(_known_blocks([column for column in columns if column]) for columns in _columns(variants))


def _affordable(variants: Sequence[Sequence[TaskScores]]) -> int:
    """Sign vectors that cost about a second, and no fewer than give .05 a standard error of .003."""
    scores = sum(task.baseline.size for tasks in variants for task in tasks)
    return max(FEWEST_SIGN_VECTORS, MAX_PRODUCTS // scores)


def _known_blocks(columns: Sequence[TaskScores]) -> bool:
    if all(column.clusters is not None for column in columns):
        return True
    if any(column.clusters is not None for column in columns):
        return False
    named = [column.items is not None for column in columns]
    return all(named) or (not any(named) and len({column.baseline.size for column in columns}) == 1)


class _StatisticRows:
    """The three statistics of every variant, in row 0 as observed and in the others under common signs."""

    def __init__(self, variants: int, rows: int) -> None:
        self.rows = rows
        self.sums = np.zeros((variants, rows))
        self.largest = np.full((variants, rows), -np.inf)
        self.fisher = np.zeros((variants, rows))

    def add_task(self, columns: Columns, sums: Floats, seed: list[int]) -> None:
        """Count in one task's sums, shape (rows, V)."""
        for variant, column in enumerate(columns):
            if column is None or not column.block_sums.any():
                continue
            table = null_table(column.block_sums, self.rows, [*seed, variant], ROW_FLOOR)
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


def _columns(variants: Sequence[Sequence[TaskScores]]) -> list[Columns]:
    """Per task the scores of every variant, None where it lacks the task."""
    by_name = [{task.task: task for task in tasks} for tasks in variants]
    names = dict.fromkeys(name for tasks in by_name for name in tasks)
    return [[tasks.get(name) for tasks in by_name] for name in names]


def _aligned_blocks(columns: Columns) -> Floats:
    """Sums per block and variant where any differs, shape (blocks, V); 0 where a variant lacks the block."""
    present = [column for column in columns if column is not None]
    keys = np.unique(np.concatenate([column.block_keys for column in present]))
    blocks = np.zeros((keys.size, len(columns)))
    for variant, column in enumerate(columns):
        if column is not None:
            blocks[np.searchsorted(keys, column.block_keys), variant] = column.block_sums
    return blocks[np.any(blocks != 0.0, axis=1)]


def _few_blocks(tasks: Sequence[Columns]) -> list[Floats] | None:
    """The blocks of every task, or None where their signs are too many to be gone through."""
    found: list[Floats] = []
    for columns in tasks:
        found.append(_aligned_blocks(columns))
        total = sum(map(len, found))
        if total > MAX_ENUMERATED or len(columns) << total > MAX_CELLS:
            return None
    return found


def _enumerated_sums(blocks: Floats, rows: int, used: int) -> Floats:
    """Σ signs × blocks, shape (rows, V), where `used` blocks of other tasks take the faster-turning signs."""
    own = 1 << len(blocks)
    return np.tile(np.repeat(all_signed_sums(blocks), 1 << used, axis=0), (rows // own >> used, 1))


def _drawn_sums(blocks: Floats, rows: int, seed: list[int]) -> Floats:
    """Σ signs × blocks for common random signs, shape (rows, V); row 0 has every sign as it is.

    On a lattice the products are whole numbers, which single precision adds without error and twice as fast.
    """
    lattice = to_lattice(blocks.ravel())
    step, matrix = 1.0, blocks
    if lattice is not None:
        whole = lattice.integers.reshape(blocks.shape)
        if np.abs(whole).sum(axis=0).max(initial=0) < EXACT_IN_SINGLE:
            step, matrix = lattice.step, whole.astype(np.float32)
    total = matrix.sum(axis=0, keepdims=True)
    flipped = [flips @ matrix for flips in flip_slices(matrix.shape[0], rows - 1, seed, matrix.dtype)]
    sums: Floats = np.concatenate([total, *(total - 2.0 * part for part in flipped)]).astype(np.float64)
    return sums * step


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
