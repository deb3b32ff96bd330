"""Which items of different tasks belong together: the same document, or clusters that span tasks.

Such items are one observation in the sense of a test, so their signs flip together in all tasks. Items are
joined by the hash of their document and by the name of their cluster; connected over both, they are one
group.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jobs.scores.score_set import ScoreSet, TaskTable
from stats.arrays import Ints


def linked(book: ScoreSet) -> ScoreSet:
    """The same with `TaskTable.links` where tasks share a document or a cluster, and without their names."""
    links = [None] * len(book.tasks) if len(book.tasks) < 2 else _numbers(book.tasks, are_clusters_kept=False)
    tables = (
        replace(table, links=part, documents=None, cluster_names=None)
        for table, part in zip(book.tasks, links, strict=True)
    )
    return replace(book, tasks=tuple(tables))


def sign_blocks(tables: Sequence[TaskTable]) -> Sequence[Ints | None]:
    """Numbers of the items by task, equal for items of any task whose signs flip together.

    Those are items of one cluster, and the same document in several tasks.

    Returns:
        Shape (items,) for each task; None for all where every item has a separate sign.
    """
    return _numbers(tables, are_clusters_kept=True)


def _numbers(tables: Sequence[TaskTable], *, are_clusters_kept: bool) -> Sequence[Ints | None]:
    """The same; clusters within tasks count only if they are kept."""
    task = np.repeat(np.arange(len(tables)), [len(table.items) for table in tables])
    partitions = []
    for name in ("documents", "cluster_names"):
        columns = [getattr(table, name) for table in tables]
        if all(column is None for column in columns):
            continue
        chunks = [
            pa.nulls(len(table.items), pa.string()) if column is None else pa.array(column, pa.string())
            for column, table in zip(columns, tables, strict=True)
        ]
        coded = pa.chunked_array(chunks).combine_chunks().dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        unnamed = codes < 0  # items without a name have a number of their own
        codes[unnamed] = np.arange(int(unnamed.sum())) + codes.max() + 1
        spans_tasks = np.unique(codes * len(tables) + task).size > np.unique(codes).size
        if spans_tasks or (are_clusters_kept and name == "cluster_names"):
            partitions.append(codes)
    if not partitions:
        return [None] * len(tables)
    return np.split(_connected(partitions), np.cumsum([len(table.items) for table in tables])[:-1])


def _connected(partitions: Sequence[Ints]) -> Ints:
    """Number of the group of each item, where items that any partition puts together are in one group."""
    if len(partitions) == 1:
        return partitions[0]
    items = partitions[0].size
    rows, columns, first = [], [], items
    for codes in partitions:
        rows.append(np.arange(items))
        columns.append(codes + first)
        first += int(codes.max()) + 1
    edges = (np.ones(items * len(partitions)), (np.concatenate(rows), np.concatenate(columns)))
    groups: Ints = connected_components(coo_array(edges, shape=(first, first)))[1][:items].astype(np.int64)
    return groups
