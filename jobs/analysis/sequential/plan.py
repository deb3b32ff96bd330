"""The plan of a run that stops early as the statistics take it, from its manifest and its items alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jobs.formats.metrics import certain_range
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.formats.run_tables import RunTask
from jobs.formats.tables import Items
from jobs.scores.links import sign_blocks
from jobs.scores.means import task_info
from jobs.scores.scale_options import ScaleOptions
from jobs.scores.scales import scaled
from jobs.scores.score_set import ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError
from orchestrator.rundir.schema import StoppingEntry
from orchestrator.workers.stopping import NO_SEED
from stats.arrays import Ints
from stats.sequential.boundaries import Stopping, parse_spending
from stats.sequential.plan import PlannedTask, SequentialPlan, asking_order

Place = tuple[str, float]
"""Variant and temperature of a comparison."""


@dataclass(frozen=True, eq=False)
class AskedTask:
    """A task with its items in the order in which they are asked.

    Attributes:
        info: metric, direction and range.
        items: item numbers, ascending, shape (items,).
        order: indices into `items` in the order of asking, shape (items,).
        seeds: those of its reruns by temperature, ascending, `NO_SEED` for answers without one.
    """

    info: TaskInfo
    items: Ints
    order: Ints
    seeds: Mapping[float, Ints]

    @cached_property
    def ranks(self) -> Ints:
        """Place of each item in the order, shape (items,)."""
        ranks = np.empty_like(self.order)
        ranks[self.order] = np.arange(self.order.size)
        return ranks


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What decides the run, apart from its answers.

    Attributes:
        baseline: name of the baseline.
        tasks: in the order of the plan.
        places: variant and temperature of every comparison.
        plan: looks, spending and levels.
        finished: whether the run asked for the samples that its decisions had left out, too.
    """

    baseline: str
    tasks: tuple[AskedTask, ...]
    places: tuple[Place, ...]
    plan: SequentialPlan
    finished: bool

    def plan_of(self, place: Place) -> SequentialPlan:
        """The plan of one comparison."""
        return self.plan.of(name_of(place))

    def items_of(self, place: Place, looks: int) -> dict[str, Ints]:
        """The items that count after some looks of a comparison, by task; sorted numbers."""
        counted = [part.items for part in self.plan_of(place).layout[:looks]]
        positions = np.concatenate([np.zeros(0, dtype=np.int64), *counted])
        items, start = {}, 0
        for task in self.tasks_at(place[1]):
            here = positions[(positions >= start) & (positions < start + task.items.size)] - start
            items[task.info.name] = np.sort(task.items[task.order[here]])
            start += task.items.size
        return items

    def tasks_at(self, temperature: float) -> tuple[AskedTask, ...]:
        """The tasks that have answers at a temperature."""
        return tuple(task for task in self.tasks if temperature in task.seeds)


def name_of(place: Place) -> str:
    """What the statistics call a comparison."""
    return f"{place[0]} at {place[1]!r}"


def read_run_plan(run: RunFiles) -> RunPlan:
    """The plan of a run that stops early.

    Raises:
        UserError: the run does not stop early, or its items or its plan are damaged.
    """
    entry = run.manifest.get("stopping")
    if entry is None:
        raise UserError(f"{run.location} does not stop early.")
    if unknown := entry["metrics"].keys() - run.tasks.keys():
        raise UserError(
            f"The manifest of {run.location} is damaged: there is no task {some(sorted(unknown))}."
        )
    planned_tasks = [RunTask(name, [run], []) for name in entry["metrics"]]
    items = {task.name: task.items(None) for task in planned_tasks}
    tables = _empty_tables(planned_tasks, entry, items)
    blocks = sign_blocks(tables)
    tasks = tuple(_asked(run, entry, table, items[table.info.name]) for table in tables)
    planned = tuple(
        PlannedTask(
            task.info.name,
            task.items.size,
            None if labels is None else labels[task.order],
            bounded=task.info.bounds is not None,
        )
        for task, labels in zip(tasks, blocks, strict=True)
    )
    places = tuple(dict.fromkeys((variant, float(t)) for variant, t in entry["comparisons"]))
    tasks_of = {
        name_of(place): tuple(task.info.name for task in tasks if place[1] in task.seeds) for place in places
    }
    try:
        plan = SequentialPlan(
            planned,
            tuple(map(name_of, places)),
            # at some temperatures not all tasks have answers (log-likelihoods have one)
            tasks_of={name: has for name, has in tasks_of.items() if len(has) < len(tasks)},
            stopping=stopping_of(entry),
            alpha=entry["alpha"],
            margin=entry["margin"],
        )
    except ValueError as error:
        raise UserError(f"The manifest of {run.location} is damaged: {error}") from None
    baseline = run.manifest.get("baseline") or run.baseline or ""
    return RunPlan(baseline, tasks, places, plan, bool(entry.get("finished")))


def _empty_tables(
    tasks: Sequence[RunTask], entry: StoppingEntry, items: Mapping[str, Items]
) -> tuple[TaskTable, ...]:
    """The tasks without any answers: what decides must not depend on answers, their ranges included.

    Where a range is not certain without answers, there is none: damage is found all the same, but nothing is
    certified.
    """
    tables = tuple(
        TaskTable(
            info,
            (held := items[task.name]).ids,
            held.clusters,
            {},
            documents=held.documents,
            cluster_names=held.cluster_names,
        )
        for task in tasks
        if (info := task_info(task, dict(entry["metrics"]), [])) is not None
    )
    settled = scaled(ScoreSet((), tables), ScaleOptions()).tasks
    infos = [table.info for table in settled]
    ranges = [info.bounds if info.stated.bounds else certain_range(info.metric) for info in infos]
    return tuple(
        replace(table, info=replace(table.info, bounds=bounds))
        for table, bounds in zip(settled, ranges, strict=True)
    )


def _asked(run: RunFiles, entry: StoppingEntry, table: TaskTable, items: Items) -> AskedTask:
    clusters = [None] * len(items.ids) if items.cluster_names is None else items.cluster_names
    seeds: dict[float, list[int]] = {}
    for temperature, seed in run.tasks[table.info.name]["reruns"]:
        seeds.setdefault(float(temperature or 0.0), []).append(NO_SEED if seed is None else seed)
    return AskedTask(
        table.info,
        np.asarray(items.ids, dtype=np.int64),
        asking_order(items.documents, clusters, entry["seed"]),
        {temperature: np.array(sorted(found), dtype=np.int64) for temperature, found in seeds.items()},
    )


def stopping_of(entry: StoppingEntry) -> Stopping:
    """Looks and spending of a plan in a manifest."""
    degraded, certified = entry["spending"]["degraded"], entry["spending"]["certified"]
    return Stopping(entry["looks"], entry["until"], parse_spending(degraded), parse_spending(certified))
