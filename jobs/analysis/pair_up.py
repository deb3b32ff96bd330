"""Lays the columns of a baseline and a variant side by side, task by task."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.gaps import find_gaps, wanted_items
from jobs.analysis.pairing import Pair, Pairing
from jobs.analysis.pairing_notes import (
    note_gaps,
    note_other_temperature,
    note_prompts,
    note_repeats,
    note_share,
)
from jobs.formats.notices import NoticeCode
from jobs.formats.samples import Temperature
from jobs.scores.score_set import Column, ScoreSet, TaskTable
from jobs.scores.writers import mixed_writers
from stats.arrays import Floats, Ints
from stats.scores import TaskScores


def pair_up(
    book: ScoreSet, baseline: str, variant: str, temperature: Temperature, cluster: str | None
) -> Pairing:
    """Pair a variant with the baseline.

    Args:
        book: all scores.
        baseline: name of the baseline.
        variant: name of the variant.
        temperature: at which both are compared.
        cluster: "none", "task", or anything else for the clusters of the input.
    """
    pairing = Pairing(baseline, variant, temperature)
    elsewhere: list[str] = []
    repeated: dict[str, list[tuple[str, int]]] = {}
    for table in book.tasks:
        first = table.columns.get((baseline, temperature))
        second = table.columns.get((variant, temperature))
        if first is None and second is None:
            elsewhere.append(table.info.name)
            continue
        sides = (first or _nothing(table), second or _nothing(table))
        _note_marks(pairing, table.info.name, sides)
        sides = (_unless_silent(sides[0]), _unless_silent(sides[1]))
        _add_task(pairing, table, sides, cluster)
        for who, column in zip(("the baseline", pairing.label), sides, strict=True):
            repeated.setdefault(who, []).append((table.info.name, column.repeated))
    if elsewhere:
        note_other_temperature(pairing, elsewhere, book)
    note_repeats(pairing, repeated)
    note_gaps(pairing)
    pairing.warnings += mixed_writers(book.runs, baseline, variant)
    if book.paired_by is not None:
        note_share(pairing, book.paired_by)
    return pairing


def _nothing(table: TaskTable) -> Column:
    items = len(table.items)
    zeros = np.zeros(items, dtype=np.int64)
    return Column(np.full(items, np.nan), zeros, zeros - 1, reruns=0)


def _note_marks(pairing: Pairing, task: str, sides: tuple[Column, Column]) -> None:
    for code in sides[0].marked.keys() | sides[1].marked.keys():
        before, after = (int(np.sum(side.marked.get(code, 0))) for side in sides)
        pairing.marked.setdefault(code, {})[task] = before, after
    pairing.scored[task] = int(sides[0].answers.sum()), int(sides[1].answers.sum())


def _unless_silent(column: Column) -> Column:
    """A column whose answers count as failed if all of them are empty.

    Then something is wrong with the way the model is asked, and two models that say nothing are not alike.
    """
    answers = column.answers
    empty = column.marked.get(NoticeCode.EMPTY_ANSWERS, 0)
    if not answers.any() or int(np.sum(empty)) < int(answers.sum()):
        return column
    return replace(
        column,
        scores=np.full(len(answers), np.nan),
        answers=np.zeros_like(answers),
        errors=column.errors + int(answers.sum()),
        failed=answers if column.failed is None else column.failed + answers,
        runs=None,
    )


def _add_task(pairing: Pairing, table: TaskTable, sides: tuple[Column, Column], cluster: str | None) -> None:
    first, second = sides
    common = first.answered & second.answered
    clusters, links = _clusters(table, cluster), _links(table, cluster)
    lacking = find_gaps(table, (pairing.baseline, pairing.variant), sides, clusters, links)
    missing = int(wanted_items(table, sides).sum() - common.sum()) + _unlisted(pairing, table)
    pairing.missing += missing
    pairing.owed += first.owed + second.owed
    pairing.withheld.append((table.info.name, (first.withheld, second.withheld)))
    if lacking is not None:
        pairing.gaps.append(lacking)
    if not common.any():
        if lacking is not None:
            pairing.absent.append(lacking)
        said = f"{pairing.label}: task {table.info.name} has no item that both models answered."
        pairing.warn(NoticeCode.NO_COMMON_ITEM, said)
        return
    scores = _paired_scores(table, sides, common, clusters=clusters, links=links)
    scores = replace(scores, lacking=lacking, missing=missing)
    pairing.pairs.append(Pair(table.info, scores))
    note_prompts(pairing, table.info.name, sides, common)
    if not (first.planned or second.planned) and first.reruns != second.reruns:
        pairing.fewer_reruns.append(f"{first.reruns} and {second.reruns} on {table.info.name}")


def _unlisted(pairing: Pairing, table: TaskTable) -> int:
    return max(table.unlisted.get(model, 0) for model in (pairing.baseline, pairing.variant))


def _clusters(table: TaskTable, cluster: str | None) -> Ints | None:
    if cluster == "task":
        return np.zeros(len(table.items), dtype=np.int64)
    return None if cluster == "none" else table.clusters


def _links(table: TaskTable, cluster: str | None) -> Ints | None:
    return None if cluster in {"none", "task"} else table.links


def _paired_scores(
    table: TaskTable,
    sides: tuple[Column, Column],
    common: NDArray[np.bool_],
    *,
    clusters: Ints | None,
    links: Ints | None,
) -> TaskScores:
    first, second = sides
    answers = (first.answers[common], second.answers[common])
    are_unequal = not np.array_equal(*answers)
    return TaskScores(
        task=table.info.name,
        baseline=first.scores[common],
        variant=second.scores[common],
        items=table.items[common],
        clusters=None if clusters is None else clusters[common],
        higher_is_better=table.info.higher_is_better,
        bounds=table.info.bounds,
        reruns=(first.reruns, second.reruns),
        answers=answers if are_unequal else None,
        runs=_runs(sides, common) if are_unequal else None,
        links=None if links is None else links[common],
        margin=table.info.margin,
    )


def _runs(sides: tuple[Column, Column], common: NDArray[np.bool_]) -> tuple[Floats, Floats] | None:
    """The single scores of both models, None where means and numbers say all."""
    if all(column.runs is None for column in sides):
        return None
    first, second = (_single_scores(column)[common] for column in sides)
    return first, second


def _single_scores(column: Column) -> Floats:
    """Scores of the runs, shape (items, reruns), of a right-or-wrong model from how many are right."""
    if column.runs is not None:
        return column.runs
    right = np.rint(np.where(column.answered, column.scores * column.answers, 0.0))[:, None]
    position = np.arange(column.reruns)
    scores = np.where(position < right, 1.0, 0.0)
    single: Floats = np.where(position < column.answers[:, None], scores, np.nan)
    return single
