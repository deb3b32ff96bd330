"""Which blocks of items belong together: within a task, over tasks, and over variants.

One document may be asked about in two tasks, and a cluster may span tasks. What such items have in common
makes their differences dependent, so that their signs have to be flipped together in every statistic. Two
blocks of items are joined if any of their items share a label, directly or through others. Variants share a
task's blocks by cluster label or item; a block that is shared over tasks has one sign in all of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stats.arrays import Floats, Ints

if TYPE_CHECKING:  # `scores` asks which items of a task belong together
    from stats.scores import TaskScores

Columns: TypeAlias = "list[TaskScores | None]"
"""The scores of every variant on one task, None where it lacks the task."""

PRIVATE = -1  # in place of a number: the block is in one task only


def merged_labels(
    clusters: NDArray[np.generic] | None, links: NDArray[np.generic] | None
) -> NDArray[np.generic] | None:
    """One label per item of a task, shape (n,), equal where items share a cluster or a link.

    The clusters themselves where links join nothing further, the links where there are no clusters; None if
    every item is a separate block.
    """
    if links is None or np.unique(links).size == links.size:
        return clusters
    if clusters is None:
        return links
    names, blocks = np.unique(clusters, return_inverse=True)
    joined = _joined(blocks, np.unique(links, return_inverse=True)[1], names.size)
    firsts = np.unique(joined, return_index=True)[1]
    labels: NDArray[np.generic] = names[firsts][joined][blocks]
    return labels


class Sharing:
    """The blocks of all tasks of some variants, those of one task alone apart from those of several.

    Args:
        tasks: per task the scores of every variant.
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

        Of the blocks of this task alone, shape (blocks, V), and of what shared ones have in it, (count, V).
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


def merged_blocks(tasks: "Sequence[TaskScores]", *, split: bool = False) -> tuple[Floats, Floats]:
    """Sums and sizes of the blocks of one variant on all tasks, those that are shared over tasks merged.

    Differences added up over each block, if `split` without items with unequal numbers of runs, and how many
    items it has, shape (G,) each. Where tasks share nothing, the blocks of one task after the other.
    """
    sums = np.concatenate([task.even_sums if split else task.block_sums for task in tasks])
    sizes = np.concatenate([task.block_sizes for task in tasks])
    numbers = _shared_numbers([[task] for task in tasks])
    if numbers is None:
        return sums, sizes
    places = (np.searchsorted(_keys([task]), task.block_keys) for task in tasks)
    joined = np.concatenate([part[place] for part, place in zip(numbers, places, strict=True)])
    alone = joined == PRIVATE
    merged = [
        np.append(values[alone], np.bincount(joined[~alone], values[~alone])) for values in (sums, sizes)
    ]
    return merged[0], merged[1]


def links_tasks(tasks: "Sequence[TaskScores]") -> bool:
    """Whether some blocks are shared over the tasks of one variant."""
    return _shared_numbers([[task] for task in tasks]) is not None


def _shared_numbers(tasks: Sequence[Columns]) -> list[Ints] | None:
    """Per task the number of each block in the order of its keys, 0, 1, ... over all tasks.

    It is equal where blocks are joined, and PRIVATE where a block is joined to none of another task; None
    where all are private.
    """
    linked = [
        (number, column, column.links)
        for number, columns in enumerate(tasks)
        for column in columns
        if column is not None and column.links is not None
    ]
    if len({number for number, _, _ in linked}) < 2:
        return None
    keys = [_keys(columns) for columns in tasks]
    sizes = [part.size for part in keys]
    offsets = np.cumsum([0, *sizes])
    nodes = [offsets[task] + np.searchsorted(keys[task], column.item_keys) for task, column, _ in linked]
    labels = np.unique(np.concatenate([links for _, _, links in linked]), return_inverse=True)[1]
    joined = _joined(np.concatenate(nodes), labels, int(offsets[-1]))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    low, high = (np.full(joined.max() + 1, fill) for fill in (len(sizes), -1))
    np.minimum.at(low, joined, owner)
    np.maximum.at(high, joined, owner)
    spanning = low < high
    if not spanning.any():
        return None
    numbers = np.where(spanning, np.cumsum(spanning) - 1, PRIVATE)[joined]
    return np.split(numbers, offsets[1:-1])


def _keys(columns: Columns) -> NDArray[np.generic]:
    return np.unique(np.concatenate([column.block_keys for column in columns if column is not None]))


def _joined(blocks: Ints, labels: Ints, count: int) -> Ints:
    """Connected component of each block, where (blocks[i], labels[i]) are edges; in order of first blocks."""
    total = count + int(labels.max()) + 1
    edges = coo_matrix((np.ones(blocks.size, dtype=np.bool_), (blocks, count + labels)), shape=(total, total))
    return np.asarray(connected_components(edges, directed=False)[1][:count], dtype=np.int64)
