"""Items that belong together although they are in different tasks.

One document may be asked about in two tasks, and a cluster may span tasks. What such items have in common
makes their differences dependent, so that their signs have to be flipped together in every statistic, within
a task and across tasks. Two blocks of items are joined if any of their items share a label, directly or
through others.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stats.arrays import Ints

PRIVATE = -1
"""In place of a number: the block is in one task only."""


def merged_labels(
    clusters: NDArray[np.generic] | None, links: NDArray[np.generic] | None
) -> NDArray[np.generic] | None:
    """One label per item of a task, equal where items share a cluster or a link.

    Args:
        clusters: cluster of each item, shape (n,), or None.
        links: link of each item, shape (n,), or None.

    Returns:
        The clusters themselves where links join nothing further, the links where there are no clusters; None
        if every item is a separate block.
    """
    if links is None or np.unique(links).size == links.size:
        return clusters
    if clusters is None:
        return links
    names, blocks = np.unique(clusters, return_inverse=True)
    joined = _joined(blocks, np.unique(links, return_inverse=True)[1])
    firsts = np.unique(joined, return_index=True)[1]
    labels: NDArray[np.generic] = names[firsts][joined][blocks]
    return labels


def shared_blocks(
    sizes: Sequence[int], blocks: Sequence[Ints], links: Sequence[NDArray[np.generic]], tasks: Sequence[int]
) -> list[Ints] | None:
    """Number the blocks that are joined across tasks.

    Args:
        sizes: number of blocks of every task.
        blocks: block of each item within its task, one array per group of items.
        links: link of each item, in the same groups.
        tasks: the task of every group.

    Returns:
        Per task the number of each block, 0, 1, ... over all tasks, equal where blocks are joined, and
        PRIVATE where a block is joined to none of another task; None where all are private.
    """
    if len(set(tasks)) < 2:
        return None
    labels = np.unique(np.concatenate(list(links)), return_inverse=True)[1]
    owners = np.repeat(np.asarray(tasks), [part.size for part in blocks])
    offsets = np.cumsum([0, *sizes])
    nodes = np.concatenate(list(blocks)) + offsets[owners]
    joined = _joined(nodes, labels, int(offsets[-1]))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    low, high = (np.full(joined.max() + 1, fill) for fill in (len(sizes), -1))
    np.minimum.at(low, joined, owner)
    np.maximum.at(high, joined, owner)
    spanning = low < high
    if not spanning.any():
        return None
    numbers = np.where(spanning, np.cumsum(spanning) - 1, PRIVATE)[joined]
    return np.split(numbers, offsets[1:-1])


def _joined(blocks: Ints, labels: Ints, size: int | None = None) -> Ints:
    """Connected component of each block, where (blocks[i], labels[i]) are edges; in order of first blocks."""
    count = int(blocks.max()) + 1 if size is None else size
    total = count + int(labels.max()) + 1
    edges = coo_matrix((np.ones(blocks.size, dtype=np.bool_), (blocks, count + labels)), shape=(total, total))
    return np.asarray(connected_components(edges, directed=False)[1][:count], dtype=np.int64)
