"""The statistics of all tasks under common random signs, one row per sign vector.

Where blocks of items are shared, by several variants or by several tasks, the statistics are not independent,
and their joint distribution is obtained by recomputing all of them for the same signs. With few blocks all
sign vectors are enumerated; otherwise signs are drawn, the observed scores being row 0, so that the shares of
rows are valid p-values for any number of rows. Splits of runs are drawn for each variant on its own.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from stats.arrays import Floats
from stats.distributions import nulls
from stats.distributions.lattice import to_lattice
from stats.distributions.nulls import NullTable
from stats.distributions.splits import RunSplits
from stats.sharing import Columns, Sharing
from stats.tasks.combinations import STATISTICS, Combine, parts_of

EXACT_IN_SINGLE = 1 << 24  # whole numbers up to this are exact in single precision

MAX_CELLS = 1 << 23
"""Sign vectors × variants beyond which signs are drawn: three arrays of this size are kept."""

ROW_FLOOR = 1e-30
"""Sums less likely than this count as no less likely: only the observed one can be, for Holm to judge."""

SHARED_STREAM = 1 << 20  # in place of a task's number in the seed of signs that tasks share
RESOLUTION = 20  # p-values worth fewer rows or draws than this are bounded instead of counted


class StatisticRows:
    """All statistics of every variant, in row 0 as observed and in the others under common signs.

    Args:
        tasks: those of `stats.sharing`.
        sign_vectors: how many are drawn where there are too many to enumerate them.
        seed: of numpy's default generator.
        split: whether items with unequal numbers of runs are split rather than flipped.

    Attributes:
        rows: how many there are.
        exact: whether they are all the sign vectors there are.
    """

    def __init__(
        self, tasks: Sequence[Columns], sign_vectors: int, seed: int, *, split: bool = False
    ) -> None:
        sharing = Sharing(tasks, split=split)
        few = None if split else _few_blocks(sharing, len(tasks))
        self.exact = few is not None
        self.rows = sign_vectors + 1 if few is None else 1 << (sum(map(len, few)) + sharing.count)
        shape = (sharing.variants, self.rows)
        self._values = {name: np.full(shape, statistic.start) for name, statistic in STATISTICS.items()}
        used = 0
        for number, columns in enumerate(tasks):
            private, shared = sharing.blocks(number)
            if few is None:
                sums = _drawn_sums(_moving(private), self.rows, [seed, number])
                if sharing.count:
                    sums += _drawn_sums(shared, self.rows, [seed, SHARED_STREAM], may_round=False)
            else:
                sums = _enumerated_sums(few[number], self.rows, used)
                used += len(few[number])
                if sharing.count:
                    sums += _enumerated_sums(shared, self.rows, sum(map(len, few)))
            for variant, column in enumerate(columns):
                if column is not None:
                    own = np.concatenate([private[:, variant], shared[:, variant]])
                    if not sharing.count:
                        own = column.even_sums if split else column.block_sums
                    splits = column.splits if split else None
                    self._add(variant, own, splits, sums[:, variant], [seed, number, variant])

    def _add(
        self, variant: int, blocks: Floats, splits: RunSplits | None, sums: Floats, seed: list[int]
    ) -> None:
        """Count in what one variant has on one task, whose sums are without the splits so far."""
        if splits is None and not blocks.any():
            return
        table = NullTable(blocks, self.rows, seed, ROW_FLOOR, splits)
        if table.scale == 0.0:
            return
        if splits is not None:  # as observed in row 0, then drawn; from their table where there is one
            stream, known = [*seed, nulls.SPLIT_STREAM], splits.components is not None
            of_splits = NullTable(np.zeros(0), 0, stream, ROW_FLOOR, splits) if known else None
            if of_splits is not None and of_splits.exact:
                places = of_splits.draw(np.random.default_rng(stream), self.rows - 1)
                drawn = of_splits.support[places]
            else:
                drawn = splits.draw(self.rows - 1, stream)
            sums = sums + np.append(splits.observed, drawn)
        log_tails = partial(table.log_tails, np.searchsorted(table.support, sums - table.tolerance))
        for name, values in self._values.items():
            STATISTICS[name].add(values[variant], sums, table.scale, log_tails)

    def p_values(self, combine: Combine) -> Floats:
        """The p-value of every row within its variant, shape (V, rows)."""
        p_values = [_row_p_values(self._values[name]) for name in parts_of(combine)]
        return p_values[0] if len(p_values) == 1 else _row_p_values(-np.minimum.reduce(p_values))


def _few_blocks(sharing: Sharing, tasks: int) -> list[Floats] | None:
    """The moving blocks of every task alone, or None where all signs together are too many."""
    blocks: list[Floats] = []
    total = sharing.count
    for number in range(tasks):
        blocks.append(_moving(sharing.blocks(number)[0]))
        total += len(blocks[-1])
        if total > nulls.MAX_ENUMERATED or sharing.variants << total > MAX_CELLS:
            return None
    return blocks


def _moving(blocks: Floats) -> Floats:
    """The blocks that differ for any variant."""
    return blocks[np.any(blocks != 0.0, axis=1)]


def _enumerated_sums(blocks: Floats, rows: int, used: int) -> Floats:
    """Σ signs × blocks, shape (rows, V), where `used` blocks of other tasks take the faster-turning signs."""
    own = 1 << len(blocks)
    return np.tile(np.repeat(nulls.all_signed_sums(blocks), 1 << used, axis=0), (rows // own >> used, 1))


def _drawn_sums(blocks: Floats, rows: int, seed: list[int], *, may_round: bool = True) -> Floats:
    """Σ signs × blocks for common random signs, shape (rows, V); row 0 has every sign as it is.

    On a lattice the products are whole numbers, which single precision adds without error and twice as fast.
    The signs depend on the precision, so that signs which several calls share want `may_round` to be off.
    """
    lattice = to_lattice(blocks.ravel()) if may_round else None
    step, matrix = 1.0, blocks
    if lattice is not None:
        whole = lattice[1].reshape(blocks.shape)
        if np.abs(whole).sum(axis=0).max(initial=0) < EXACT_IN_SINGLE:
            step, matrix = lattice[0], whole.astype(np.float32)
    total = matrix.sum(axis=0, keepdims=True)
    flipped = [flips @ matrix for flips in nulls.flip_slices(matrix.shape[0], rows - 1, seed, matrix.dtype)]
    sums: Floats = np.concatenate([total, *(total - 2.0 * part for part in flipped)]).astype(np.float64)
    return sums * step


def _row_p_values(statistic: Floats) -> Floats:
    """Share of the rows that are at least as large, ties counted, shape (V, rows)."""
    shares = np.empty_like(statistic)
    for variant, values in enumerate(statistic):
        tolerance = nulls.TIE_TOLERANCE * float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        below = np.searchsorted(np.sort(values), values - tolerance)
        shares[variant] = (values.size - below) / values.size
    return shares
