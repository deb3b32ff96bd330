"""A run that stops early: its plan, and its looks. Answers go in, in any order; decisions come out.

The plan is read from the manifest and the items alone. The scores of each model are kept rerun by rerun. An
item counts once all of its reruns are known, failed ones included. Its difference is the mean over the reruns
that both models have, so that both means are over equally many; in the worst case, which certificates are
tested in, every missing rerun is a loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.formats.metrics import certain_range
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import scan
from jobs.formats.run_tables import RunTask
from jobs.formats.tables import Items
from jobs.scores.links import sign_blocks
from jobs.scores.means import task_info
from jobs.scores.scale_options import ScaleOptions
from jobs.scores.scales import scaled
from jobs.scores.score_set import ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError
from orchestrator.rundir.schema import StoppingEntry
from orchestrator.workers.stopping import NO_SEED, ReportedScores
from stats.arrays import EvidenceError, Floats, Ints
from stats.sequential.boundaries import Stopping, parse_spending
from stats.sequential.monitor import Course, SequentialMonitor
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


@dataclass
class AnswerGrid:
    """One model's answers to one task at one temperature, items in the order in which they are asked.

    Attributes:
        scores: shape (items, reruns), NaN where one failed or is not known.
        known: shape (items, reruns).
        complete: how many first items have all of their reruns.
    """

    scores: Floats
    known: NDArray[np.bool_]
    complete: int = 0

    def enter(self, task: AskedTask, temperature: float, scores: ReportedScores) -> bool:
        """Take note of answers; those that are not part of the plan are ignored.

        Returns:
            Whether any are at this temperature.
        """
        here = scores.temperature.astype(np.float32) == np.float32(temperature)
        if not here.any():
            return False
        item, seed, seeds = scores.item[here], scores.seed[here], task.seeds[temperature]
        where = np.minimum(np.searchsorted(task.items, item), task.items.size - 1)
        column = np.minimum(np.searchsorted(seeds, seed), seeds.size - 1)
        planned = (task.items[where] == item) & (seeds[column] == seed)
        rank, column = task.ranks[where[planned]], column[planned]
        self.scores[rank, column] = scores.score[here][planned]
        self.known[rank, column] = True
        rest = self.known[self.complete :].all(axis=1)
        self.complete += rest.size if rest.all() else int(rest.argmin())
        return True


class RunMonitor:
    """Takes the looks of a run as its answers become known.

    Attributes:
        plan: of the run.
        digests: of the scores that the looks of each comparison have used, one per look.
    """

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.digests: dict[Place, list[str]] = {place: [] for place in plan.places}
        self._monitor = SequentialMonitor(plan.plan)
        self._looks: dict[Place, int] = {}
        self._answers = {
            (model, task.info.name, temperature): AnswerGrid(
                np.full((task.items.size, seeds.size), np.nan),
                np.zeros((task.items.size, seeds.size), dtype=np.bool_),
            )
            for model in (plan.baseline, *{variant for variant, _ in plan.places})
            for task in plan.tasks
            for temperature, seeds in task.seeds.items()
        }

    def add(self, model: str, task: str, scores: ReportedScores) -> None:
        """Take note of answers; those that are not part of the plan are ignored."""
        for asked in self.plan.tasks:
            for temperature in asked.seeds if asked.info.name == task else ():
                answers = self._answers.get((model, task, temperature))
                if answers is not None and answers.enter(asked, temperature, scores):
                    tasks = self.plan.tasks_at(temperature)
                    complete = [self._answers[model, one.info.name, temperature].complete for one in tasks]
                    place = next(place for place in self.plan.places if place[1] == temperature)
                    self._looks[model, temperature] = self.plan.plan_of(place).looks_in(complete)

    def looks_of(self, model: str, temperature: float) -> int:
        """How many looks the answers of one model at a temperature would allow."""
        return self._looks.get((model, temperature), 0)

    def advance(self) -> bool:
        """Take all looks that have become possible.

        Returns:
            whether there were any.

        Raises:
            EvidenceError: scores are outside of their metric's range.
        """
        advanced = False
        for place, digests in self.digests.items():
            models = self.plan.baseline, place[0]
            possible = min(self.looks_of(model, place[1]) for model in models)
            if possible <= len(digests):
                continue
            plan, paired, worst = self.plan.plan_of(place), [], []
            for task, planned in zip(self.plan.tasks_at(place[1]), plan.tasks, strict=True):
                seen = planned.seen_at(possible, plan.stopping.looks)
                first, second = (self._answers[model, task.info.name, place[1]].scores for model in models)
                paired.append(_differences(first[:seen], second[:seen], task))
                worst.append(_worst_differences(first[:seen], second[:seen], task))
            for look in range(len(digests) + 1, self._monitor.observe(name_of(place), paired, worst) + 1):
                digests.append(self._digest(place, look, after=digests[-1] if digests else ""))
                advanced = True
        return advanced

    def _digest(self, place: Place, look: int, after: str) -> str:
        """Digest of the scores that are new at a look, in the order of asking, and of the digest before."""
        plan, digest = self.plan.plan_of(place), blake2b(after.encode(), digest_size=16)
        for task in plan.tasks:
            first, end = (task.seen_at(number, plan.stopping.looks) for number in (look - 1, look))
            for model in (self.plan.baseline, place[0]):
                scores = self._answers[model, task.task, place[1]].scores[first:end]
                digest.update(np.where(np.isnan(scores), np.nan, scores).tobytes())  # one NaN for all
        return digest.hexdigest()

    def has_answers(self) -> bool:
        """Whether any answer of the plan is known."""
        return any(answers.known.any() for answers in self._answers.values())

    def courses(self, *, tested: bool = True) -> dict[Place, Course]:
        """Looks and verdicts of every comparison, with p-values and intervals if they are asked for."""
        courses = self._monitor.courses(tested=tested)
        return {place: courses[name_of(place)] for place in self.plan.places}


def monitor_of(run: RunFiles) -> RunMonitor:
    """All answers of a run, read from its samples; `advance` takes the looks that they allow.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
    """
    monitor = RunMonitor(read_run_plan(run))
    damaged: list[str] = []  # which a submit has removed and an analysis named
    for task in monitor.plan.tasks:
        for model in run.models:
            files = run.samples(model, task.info.name)
            for table in scan(run, files, task.info.metric, "prompt_hash", damaged):
                scores = ReportedScores(
                    table.column("item").to_numpy(),
                    table.column("temperature").cast(pa.float64()).to_numpy(),
                    table.column("seed").fill_null(NO_SEED).to_numpy(),
                    table.column("score").cast(pa.float64()).to_numpy().astype(np.float64),
                )
                monitor.add(model, task.info.name, scores)
    return monitor


def follow(run: RunFiles) -> RunMonitor:
    """Take the looks that the samples of a run allow.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
    """
    monitor = monitor_of(run)
    try:
        monitor.advance()
    except EvidenceError as error:
        raise UserError(f"The looks of {run.location} cannot be taken: {error}") from None
    return monitor


def _differences(baseline: Floats, variant: Floats, task: AskedTask) -> Floats:
    """How much worse the variant is on each item, over the reruns that both have; NaN without any."""
    both = ~(np.isnan(baseline) | np.isnan(variant))
    sums = np.where(both, _losses(baseline, variant, task), 0.0).sum(axis=1)
    counts = both.sum(axis=1)
    means: Floats = np.divide(sums, counts, out=np.full(sums.size, np.nan), where=counts > 0)
    return means


def _worst_differences(baseline: Floats, variant: Floats, task: AskedTask) -> Floats:
    """The same with every missing rerun as bad for the variant as possible.

    Infinite without a range, of which the margin of a run is a share: nothing can be certified then.
    """
    if task.info.bounds is None:
        return np.full(len(variant), np.inf)
    low, high = task.info.bounds if task.info.higher_is_better else task.info.bounds[::-1]
    sides = np.where(np.isnan(baseline), high, baseline), np.where(np.isnan(variant), low, variant)
    worst: Floats = _losses(*sides, task).mean(axis=1)
    return worst


def _losses(baseline: Floats, variant: Floats, task: AskedTask) -> Floats:
    """How much worse the variant is, in shares of the range where there is one."""
    low, high = task.info.bounds or (0.0, 1.0)
    losses: Floats = (baseline - variant) / (high - low)
    return losses if task.info.higher_is_better else -losses
