"""The items of a task as the runs list them: what was to be asked, and which items belong together.

The item tables, not the answers, say what the task consists of: an item without an answer is missing, not
absent. Runs that are analyzed together must mean the same document by the same number.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.formats.samples import label_codes
from orchestrator.errors import UserError
from stats.arrays import Ints


@dataclass(frozen=True)
class RunItems:
    """Items of one task.

    Attributes:
        ids: sorted item numbers, shape (items,).
        clusters: a label per item, or None where the items are independent.
        documents: hash of each item's document, shape (items,).
        cluster_names: the labels by name, None for an item on its own; None where the items are independent.
    """

    ids: Ints
    clusters: Ints | None
    documents: NDArray[np.object_]
    cluster_names: NDArray[np.object_] | None

    def positions(self, items: Ints, location: str) -> Ints:
        """Index in `ids` of each item.

        Args:
            items: item numbers, shape (answers,).
            location: the run they come from, for the error.

        Raises:
            UserError: if an item is not in the table.
        """
        first, last = int(self.ids[0]), int(self.ids[-1])
        if last - first + 1 == len(self.ids) and first <= items.min() and items.max() <= last:
            return items.astype(np.int64) - first  # none is left out, as in most runs
        where: Ints = np.minimum(np.searchsorted(self.ids, items), len(self.ids) - 1)
        strangers = items[self.ids[where] != items]
        if len(strangers):
            names = some(sorted(set(strangers.tolist())))
            raise UserError(
                f"{location} contains answers to items that its item table does not list: {names}."
            )
        return where


def read_items(task: str, runs: Sequence[RunFiles], cluster_column: str | None) -> RunItems:
    """Read the item tables of a task and lay them over each other.

    Args:
        task: name of the task.
        runs: the runs that have it, at least one.
        cluster_column: a column of the documents to cluster by; None for the clusters of the run itself.

    Raises:
        UserError: if a table is missing, two disagree on a document, or the column does not exist.
    """
    table = pa.concat_tables(_table(task, run, with_docs=cluster_column is not None) for run in runs)
    ids = table.column("item").to_numpy()
    unique, first = np.unique(ids, return_index=True)
    hashes = np.array(table.column("doc_hash").to_pylist(), dtype=object)
    changed = np.flatnonzero(hashes != hashes[first][np.searchsorted(unique, ids)])
    if len(changed):
        raise UserError(
            f"Item {ids[changed[0]]} of task {task} is a different document in {runs[0].location} than in "
            "another of the runs: they used different data and cannot be paired."
        )
    if not len(unique):
        raise UserError(f"The item table of task {task} in {runs[0].location} is empty.")
    names = _cluster_names(task, table.take(first), cluster_column)
    # An item without a label is on its own.
    labels = (
        None if names is None else label_codes((i,) if name is None else name for i, name in enumerate(names))
    )
    return RunItems(unique.astype(np.int64), labels, hashes[first], names)


def _table(task: str, run: RunFiles, *, with_docs: bool) -> pa.Table:
    texts = ["doc_hash", "cluster", *(["doc"] if with_docs else [])]
    schema = pa.schema({"item": pa.int64(), **dict.fromkeys(texts, pa.string())})
    return run.items(task, schema.names).cast(schema)


def _cluster_names(task: str, table: pa.Table, column: str | None) -> NDArray[np.object_] | None:
    if column is None:
        known = table.column("cluster").to_pylist()
        return np.array(known, dtype=object) if any(known) else None
    documents = [json.loads(text or "{}") for text in table.column("doc").to_pylist()]
    columns = sorted({str(key) for document in documents for key in document})
    if column not in columns:
        raise UserError(
            f"--cluster {column}: the documents of task {task} have no such column; they have "
            f"{some(columns, 20)}."
        )
    return np.array(
        [json.dumps(document.get(column), sort_keys=True) for document in documents], dtype=object
    )
