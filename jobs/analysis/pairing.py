"""Lays the columns of a baseline and a variant side by side, and says what of them does not pair."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.inputs.score_set import Column, ScoreBook, TaskInfo, TaskTable, Temperature, some
from stats.scores import TaskScores


@dataclass(frozen=True)
class Pair:
    """One task on which both models have answers.

    Attributes:
        info: name, metric, direction and group of the task.
        scores: the common items.
        missing: items that were to be compared and cannot be.
    """

    info: TaskInfo
    scores: TaskScores
    missing: int


@dataclass
class Pairing:
    """A variant beside its baseline at one temperature, task by task.

    Attributes:
        variant: its name.
        temperature: the common temperature, None if unknown.
        pairs: tasks with at least one common item.
        missing: items that do not pair, those of tasks that do not pair at all included.
        owed: samples that were asked for and are not there, of both models.
        warnings: sentences about what does not pair.
        mixed_prompts: sentences about items whose prompts differ; also among the warnings.
    """

    variant: str
    temperature: Temperature
    pairs: list[Pair] = field(default_factory=list)
    missing: int = 0
    owed: int = 0
    warnings: list[str] = field(default_factory=list)
    mixed_prompts: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name and temperature for a sentence."""
        return (
            self.variant
            if self.temperature is None
            else f"{self.variant} at temperature {self.temperature:g}"
        )

    @property
    def common(self) -> int:
        """Items that pair, over all tasks."""
        return sum(pair.scores.baseline.size for pair in self.pairs)

    @property
    def common_share(self) -> float:
        """Common items as a share of all that should have paired."""
        return self.common / (self.common + self.missing)


def pair_up(
    book: ScoreBook, baseline: str, variant: str, temperature: Temperature, cluster: str | None
) -> Pairing:
    """Pair a variant with the baseline.

    Args:
        book: all scores.
        baseline: name of the baseline.
        variant: name of the variant.
        temperature: at which both are compared.
        cluster: "none", "task", or anything else for the clusters of the input.
    """
    pairing = Pairing(variant, temperature)
    elsewhere: list[str] = []
    for table in book.tasks:
        first = table.columns.get((baseline, temperature))
        second = table.columns.get((variant, temperature))
        if first is None and second is None:
            elsewhere.append(table.info.name)
        else:
            _add_task(pairing, table, first or _nothing(table), second or _nothing(table), cluster)
    if elsewhere:
        pairing.warnings.append(_elsewhere(pairing, elsewhere, book))
    _warn_of_gaps(pairing)
    return pairing


def _nothing(table: TaskTable) -> Column:
    items = len(table.items)
    zeros = np.zeros(items, dtype=np.int64)
    return Column(np.full(items, np.nan), zeros, zeros - 1, reruns=0)


def _add_task(pairing: Pairing, table: TaskTable, first: Column, second: Column, cluster: str | None) -> None:
    common = first.answered & second.answered
    wanted = len(table.items) if table.planned else int((first.answered | second.answered).sum())
    missing = wanted - int(common.sum())
    pairing.missing += missing
    pairing.owed += first.owed + second.owed
    if not common.any():
        pairing.warnings.append(
            f"{pairing.label}: task {table.info.name} has no item that both models answered."
        )
        return
    scores = _paired_scores(table, first, second, common, cluster=cluster, missing=missing)
    pairing.pairs.append(Pair(table.info, scores, missing))
    _note_columns(pairing, table, first, second, common)


def _paired_scores(
    table: TaskTable,
    first: Column,
    second: Column,
    common: NDArray[np.bool_],
    *,
    cluster: str | None,
    missing: int,
) -> TaskScores:
    labels = None if cluster == "none" else table.clusters
    if cluster == "task":
        labels = np.zeros(len(table.items), dtype=np.int64)
    return TaskScores(
        task=table.info.name,
        baseline=first.scores[common],
        variant=second.scores[common],
        items=table.items[common],
        clusters=None if labels is None else labels[common],
        higher_is_better=table.info.higher_is_better,
        bounds=table.bounds,
        reruns=(first.reruns, second.reruns),
        missing=missing,
    )


def _note_columns(
    pairing: Pairing, table: TaskTable, first: Column, second: Column, common: NDArray[np.bool_]
) -> None:
    known = common & (first.prompts != -1) & (second.prompts != -1)
    different = int((first.prompts != second.prompts)[known].sum())
    if different:
        sentence = (
            f"{pairing.label}: {different} of {int(common.sum())} items of {table.info.name} were asked with "
            "another prompt than the baseline's, so the comparison is not of the models alone."
        )
        pairing.mixed_prompts.append(sentence)
        pairing.warnings.append(sentence)
    for who, column in (("the baseline", first), (pairing.label, second)):
        if column.errors:
            pairing.warnings.append(
                f"{who} failed on {column.errors} samples of {table.info.name}; they count as missing."
            )
        if column.repeated:
            pairing.warnings.append(
                f"{who} has {column.repeated} samples of {table.info.name} twice; the first of each counts."
            )


def _elsewhere(pairing: Pairing, tasks: Sequence[str], book: ScoreBook) -> str:
    found = {t for table in book.tasks if table.info.name in tasks for (_, t) in table.columns}
    where = some(sorted(f"{t:g}" for t in found if t is not None)) or "no known temperature"
    at = "" if pairing.temperature is None else f" at temperature {pairing.temperature:g}"
    return f"Nothing is compared{at} on {some(tasks)}: answers to that stand only at temperature {where}."


def _warn_of_gaps(pairing: Pairing) -> None:
    if not pairing.pairs:
        pairing.warnings = [f"{pairing.label}: not compared, for no item was answered by both models."]
    elif pairing.missing:
        pairing.warnings.append(f"{pairing.label}: {pairing.missing} items do not pair with the baseline.")
    if pairing.owed:
        owed = f"{pairing.owed} samples of it and the baseline are still owed"
        pairing.warnings.append(f"{pairing.label}: {owed}; the run is incomplete.")
