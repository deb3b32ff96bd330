"""What the answers of a date are compared with: the baseline of the same run, or one old run."""

from dataclasses import replace

import numpy as np

from jobs.scores.score_set import Column, ScoreSet, TaskTable
from orchestrator.errors import UserError


def with_reference(scores: ScoreSet, old: ScoreSet, model: str, name: str) -> ScoreSet:
    """The scores of a date with another run's answers as one more model.

    Args:
        scores: of the date.
        old: of the other run.
        model: whose answers to take from there.
        name: what to call it here.

    Raises:
        UserError: if the two runs mean different documents by the same items.
    """
    tables = {table.info.name: table for table in old.tasks}
    extended = tuple(
        _extended(table, tables[table.info.name], model, name) if table.info.name in tables else table
        for table in scores.tasks
    )
    return replace(scores, tasks=extended, models=(name, *scores.models), baselines=(name,))


def _extended(table: TaskTable, old: TaskTable, model: str, name: str) -> TaskTable:
    common, here, there = np.intersect1d(table.items, old.items, return_indices=True)
    if table.documents is not None and old.documents is not None and common.size:
        different = int((table.documents[here] != old.documents[there]).sum())
        if different:
            raise UserError(
                f"In task {table.info.name}, {different} items refer to different documents than in the "
                "reference run: keep the task unchanged, or start a new history."
            )
    columns = {
        (name, temperature): _moved(column, len(table.items), here, there)
        for (owner, temperature), column in old.columns.items()
        if owner == model
    }
    return replace(table, columns={**table.columns, **columns})


def _moved(column: Column, items: int, here: np.ndarray, there: np.ndarray) -> Column:
    """A column with its answers where their items are in another table."""
    scores, answers = np.full(items, np.nan), np.zeros(items, dtype=np.int64)
    scores[here], answers[here] = column.scores[there], column.answers[there]
    runs = None
    if column.runs is not None:
        runs = np.full((items, column.runs.shape[1]), np.nan)
        runs[here] = column.runs[there]
    unknown = np.full(items, -1, dtype=np.int64)  # prompts are numbered anew in every reading
    return Column(scores, answers, unknown, column.reruns, runs=runs)
