"""Which blocks of items several variants and several tasks have in common.

Variants share a task's blocks by cluster label or item; tasks share them where items are linked
(`stats.links`). A block that is shared over tasks has one sign in all of them.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stats.arrays import Floats, Ints
from stats.links import PRIVATE, shared_blocks
from stats.scores import TaskScores

Columns: TypeAlias = list[TaskScores | None]


class Sharing:
    """The blocks of all tasks of some variants, those of one task alone apart from those of several.

    Args:
        tasks: per task the scores of every variant, None where it lacks the task.
        split: whether sums leave out items with unequal numbers of runs.

    Attributes:
        variants: how many variants.
        count: blocks that are shared over tasks.
    """

    def __init__(self, tasks: Sequence[Columns], *, split: bool = False) -> None:
        self.variants = len(tasks[0])
        self._columns, self._split = tasks, split
        self._numbers = _shared_numbers(tasks)
        self.count = 0 if self._numbers is None else 1 + max(int(part.max()) for part in self._numbers)

    def blocks(self, task: int) -> tuple[Floats, Floats]:
        """Sums of a task's blocks for every variant, 0 where it lacks the block.

        Returns:
            Of the blocks of this task alone, shape (blocks, V), and of what the shared blocks have in it,
            shape (count, V).
        """
        keys = _keys(self._columns[task])
        sums, shared = np.zeros((keys.size, self.variants)), np.zeros((self.count, self.variants))
        for variant, column in enumerate(self._columns[task]):
            if column is not None:
                own = column.even_sums if self._split else column.block_sums
                sums[np.searchsorted(keys, column.block_keys), variant] = own
        if self._numbers is None:
            return sums, shared
        alone = self._numbers[task] == PRIVATE
        np.add.at(shared, self._numbers[task][~alone], sums[~alone])
        return sums[alone], shared


def merged_blocks(tasks: Sequence[TaskScores], *, split: bool = False) -> tuple[Floats, Floats]:
    """Sums and sizes of the blocks of all tasks, those that are shared over tasks merged.

    Args:
        tasks: the scores of one variant on every task.
        split: whether the sums leave out items with unequal numbers of runs.

    Returns:
        Differences added up over each block, and its number of items, shape (G,) each. Where tasks share
        nothing, the blocks of one task after the other.
    """
    sums = np.concatenate([task.even_sums if split else task.block_sums for task in tasks])
    sizes = np.concatenate([task.block_sizes for task in tasks])
    numbers = _shared_numbers([[task] for task in tasks])
    if numbers is None:
        return sums, sizes
    places = (np.searchsorted(_keys([task]), task.block_keys) for task in tasks)
    joined = np.concatenate([part[place] for part, place in zip(numbers, places, strict=True)])
    alone = joined == PRIVATE
    merged = (np.bincount(joined[~alone], values[~alone]) for values in (sums, sizes))
    shared_sums, shared_sizes = merged
    return np.append(sums[alone], shared_sums), np.append(sizes[alone], shared_sizes)


def links_tasks(tasks: Sequence[TaskScores]) -> bool:
    """Whether some blocks are shared over the tasks of one variant."""
    return _shared_numbers([[task] for task in tasks]) is not None


def _shared_numbers(tasks: Sequence[Columns]) -> list[Ints] | None:
    """Per task the number over all tasks of every block that is shared, in the order of the keys."""
    linked = [
        (number, column)
        for number, columns in enumerate(tasks)
        for column in columns
        if column is not None and column.links is not None
    ]
    if len({number for number, _ in linked}) < 2:
        return None
    keys = [_keys(columns) for columns in tasks]
    blocks = [np.searchsorted(keys[number], column.item_keys) for number, column in linked]
    links = [column.links for _, column in linked if column.links is not None]
    return shared_blocks([part.size for part in keys], blocks, links, [number for number, _ in linked])


def _keys(columns: Columns) -> NDArray[np.generic]:
    return np.unique(np.concatenate([column.block_keys for column in columns if column is not None]))
