"""From what the user typed to what verdicts are computed from, whatever format it is in."""

from collections.abc import Sequence
from dataclasses import replace

from jobs.formats.notices import some
from jobs.formats.registry import open_inputs
from jobs.formats.samples import PLAIN, InputQuery, Temperature
from jobs.scores.links import linked
from jobs.scores.means import score_set, task_info
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet, repeated_answers
from jobs.scores.scales import AS_READ, ScaleOptions, scaled
from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError


def read_scores(paths: Sequence[str], query: InputQuery = PLAIN, scales: ScaleOptions = AS_READ) -> ScoreSet:
    """Read scores averaged over reruns, settle direction and range of every task, and link what tasks share.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or a scale is unknown.
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
