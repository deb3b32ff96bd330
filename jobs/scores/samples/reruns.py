"""Samples rerun by rerun, as `lldeg flips` looks at them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jobs.formats.samples import as_temperature
from jobs.scores.rerun_set import RepeatedAnswers, RerunSet, Samples, Wanted, lay_out
from jobs.scores.samples.cells import Cell, item_order
from jobs.scores.samples.gather import NO_RERUN, GatheredTask
from jobs.scores.samples.means import info_of, metric_of, refuse_unused
from orchestrator.errors import UserError
from stats.arrays import Ints


def rerun_set(
    tasks: Mapping[str, GatheredTask], cells: Mapping[str, Sequence[Cell]], wanted: Wanted
) -> RerunSet:
    """Lay out what is wanted.

    Args:
        tasks: the samples by task.
        cells: the same by task and model.
        wanted: what of it to lay out.

    Raises:
        UserError: if something wanted is not there, or a task has no metric that is a number per sample.
    """
    models = list(dict.fromkeys(cell.model for held in cells.values() for cell in held))
    wanted.refuse_unknown(list(tasks), models)
    refuse_unused(tasks, wanted.metrics)
    return RerunSet(
        tuple(
            answers
            for name, task in tasks.items()
            if wanted.task in {None, name}
            for cell in cells[name]
            if wanted.variant in {None, cell.model}
            for answers in _by_temperature(task, cell, metric_of(task, cells[name], wanted.metrics), wanted)
        )
    )


def _by_temperature(
    task: GatheredTask, cell: Cell, metric: str | None, wanted: Wanted
) -> Iterator[RepeatedAnswers]:
    if metric is None:
        raise UserError(
            f"Task {task.facts.name} has no metric with a number per sample, so nothing can flip."
        )
    item_order(task)  # refuses items that are not the same everywhere
    names = np.array(list(task.numbers))
    scores = cell.score(metric)
    scores[np.isinf(scores)] = np.nan
    answers = cell.joined(lambda chunk: chunk.answers)
    runs, run_of = _by_label(cell)
    for temperature in np.unique(cell.temperature):
        chosen = np.isnan(cell.temperature) if np.isnan(temperature) else cell.temperature == temperature
        samples = Samples(names[cell.items[chosen]], run_of[chosen], scores[chosen], answers[chosen])
        if wanted.temperature in {None, as_temperature(temperature)}:
            yield lay_out(cell.model, info_of(task, metric), as_temperature(temperature), runs, samples)


def _by_label(cell: Cell) -> tuple[list[tuple[str, int | None]], Ints]:
    """Labels and reruns of the runs, sorted, and the number among them of every sample's run."""
    labelled = [(cell.parts[number].label, rerun) for number, rerun in cell.runs]
    order = sorted(range(len(labelled)), key=lambda run: labelled[run])
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    runs = [(label, None if rerun == NO_RERUN else rerun) for label, rerun in sorted(labelled)]
    return runs, place[cell.run_of]
