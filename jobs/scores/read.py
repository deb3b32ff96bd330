"""From what the user typed to what verdicts are computed from, whatever format it is in.

Items that are the same document, in one task or several, or of one cluster, are one observation in the sense
of a test, so their signs flip together in all tasks. Items are joined by the hash of their document and by
the name of their cluster; connected over both, they are one group.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jobs.formats.notices import some
from jobs.formats.registry import open_inputs
from jobs.formats.samples import PLAIN, InputQuery, Temperature
from jobs.scores.means import score_set, task_info
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet, repeated_answers
from jobs.scores.scales import AS_READ, ScaleOptions, scaled
from jobs.scores.score_set import ScoreSet, TaskTable
from orchestrator.errors import UserError
from stats.arrays import Ints


def read_scores(paths: Sequence[str], query: InputQuery = PLAIN, scales: ScaleOptions = AS_READ) -> ScoreSet:
    """Read scores averaged over reruns, settle direction and range of every task, and link what tasks share.

    Raises UserError if a path cannot be read, formats are mixed, the reader refuses, or a scale is unknown.
    """
    return linked(read_unlinked(paths, query, scales))


def read_unlinked(
    paths: Sequence[str], query: InputQuery = PLAIN, scales: ScaleOptions = AS_READ
) -> ScoreSet:
    """The same without links, which are numbers of one reading: documents and clusters keep their names."""
    return scaled(score_set(open_inputs(paths, query), query), scales)


def read_reruns(
    paths: Sequence[str],
    query: InputQuery = PLAIN,
    *,
    variant: str | None = None,
    task: str | None = None,
    temperature: Temperature = None,
) -> RerunSet:
    """Read the answers to every item, rerun by rerun; of one variant, task or temperature if it is named.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, something wanted is not
            there, or a task has no metric that is a number per sample.
    """
    tables = open_inputs(paths, replace(query, responses=True), are_reruns=True)
    tasks = [one.name for one in tables.tasks]
    if task is not None and task not in tasks:
        raise UserError(f"There is no task {task!r}; the tasks are {some(tasks, 20)}.")
    if variant is not None and variant not in tables.models:
        raise UserError(f"There is no variant {variant!r}; the variants are {some(tables.models, 20)}.")
    cells: list[RepeatedAnswers] = []
    for one in tables.tasks:
        if task not in {None, one.name}:
            continue
        info = task_info(one, query.metrics, [])
        if info is None:
            raise UserError(f"Task {one.name} has no metric with a number per sample, so nothing can flip.")
        for model in one.models:
            if variant in {None, model}:
                cells += repeated_answers(one, model, info, temperature)
    if not cells:
        raise UserError(f"{some(paths)} has no matching answers; remove a filter, or finish the run.")
    baseline = tables.baselines[0] if len(tables.baselines) == 1 else None
    return RerunSet(tuple(cells), baseline, tables.runs)


def linked(book: ScoreSet) -> ScoreSet:
    """The same with `TaskTable.links` in place of the names of documents and clusters."""
    tables = (
        replace(table, links=part, documents=None, cluster_names=None)
        for table, part in zip(book.tasks, sign_blocks(book.tasks, {"documents"}), strict=True)
    )
    return replace(book, tasks=tuple(tables))


def sign_blocks(tables: Sequence[TaskTable], within: Collection[str]) -> Sequence[Ints | None]:
    """Numbers of the items by task, equal for items of any task whose signs flip together.

    Those are items of one cluster and equal documents, in several tasks, or also `within` one if their names,
    "cluster_names" and "documents", are given.

    Returns:
        Shape (items,) for each task; None where every item of the task has a separate sign.
    """
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
        named = codes if name in within else np.unique(codes * len(tables) + task)
        if named.size > codes.max() + 1:
            partitions.append(codes)
    if not partitions:
        return [None] * len(tables)
    groups = partitions[0]
    if len(partitions) > 1:  # items that any partition puts together are in one group
        documents, clusters = partitions[0] + task.size, partitions[1]
        clusters = clusters + documents.max() + 1
        edges = (np.ones(2 * task.size), (np.tile(np.arange(task.size), 2), np.append(documents, clusters)))
        nodes = int(clusters.max()) + 1
        groups = connected_components(coo_array(edges, shape=(nodes, nodes)))[1][: task.size].astype(np.int64)
    is_shared = np.bincount(groups)[groups] > 1
    ends = np.cumsum([len(table.items) for table in tables])[:-1]
    parts = zip(np.split(groups, ends), np.split(is_shared, ends), strict=True)
    return [own if shared.any() else None for own, shared in parts]
