"""A run that stops early: its plan, and its looks. Answers go in, in any order; decisions come out.

The plan is read from the manifest and the items alone. The scores of each model are kept rerun by rerun. An
item counts once all of its reruns are known, failed ones included. Its difference is the mean over the reruns
that both models have, so that both means are over equally many; in the worst case, which certificates are
tested in, every missing rerun is a loss.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from jobs.formats.metrics import certain_range
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles, scan
from jobs.formats.run_tables import RunTask
from jobs.scores.means import task_info
from jobs.scores.read import sign_blocks
from jobs.scores.scales import ScaleOptions, scaled
from jobs.scores.score_set import ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError
from orchestrator.rundir.schema import StoppingEntry
from orchestrator.workers.stopping import NO_SEED, SCORES, ReportedScores
from stats.arrays import EvidenceError, Floats, Ints
from stats.sequential.boundaries import Stopping, parse_spending
from stats.sequential.monitor import Course, SequentialMonitor
from stats.sequential.plan import PlannedTask, SequentialPlan, asking_order

Place = tuple[str, float]  # variant and temperature of a comparison


class AnswerGrid:
    """One model's answers to one task at one temperature.

    Args:
        items: numbers of the items in the order in which they are asked, shape (items,).
        seeds: of the reruns, ascending, shape (reruns,).

    Attributes:
        scores: shape (items, reruns), NaN where one failed or is not known.
        known: shape (items, reruns).
        complete: how many first items have all of their reruns.
    """

    def __init__(self, items: Ints, seeds: Ints) -> None:
        self._items, self._ascending, self._seeds = items, np.argsort(items), seeds
        self.scores = np.full((items.size, seeds.size), np.nan)
        self.known = np.zeros(self.scores.shape, dtype=np.bool_)
        self.complete = 0

    def enter(self, item: Ints, seed: Ints, score: Floats) -> None:
        """Take note of answers, shape (answers,) each; those that are not part of the plan are ignored."""
        where = np.searchsorted(self._items, item, sorter=self._ascending)
        rank = self._ascending[np.minimum(where, self._items.size - 1)]
        column = np.minimum(np.searchsorted(self._seeds, seed), self._seeds.size - 1)
        planned = (self._items[rank] == item) & (self._seeds[column] == seed)
        rank, column = rank[planned], column[planned]
        self.scores[rank, column] = score[planned]
        self.known[rank, column] = True
        rest = self.known[self.complete :].all(axis=1)
        self.complete += rest.size if rest.all() else int(rest.argmin())


class RunMonitor:
    """Takes the looks of a run as its answers become known.

    Attributes:
        tasks: in the order of the plan, without answers, items in the order in which they are asked.
        seeds: those of the reruns, by task and temperature, ascending, `NO_SEED` for answers without one.
        places: variant and temperature of every comparison.
        finished: whether the run asked for the samples that its decisions had left out, too.
        digests: of the scores that the looks of each comparison have used, one per look.

    Raises:
        UserError: the run does not stop early, or its items or its plan are damaged.
    """

    def __init__(self, run: RunFiles) -> None:
        entry = run.manifest.get("stopping")
        if entry is None:
            raise UserError(f"{run.location} does not stop early.")
        if unknown := entry["metrics"].keys() - run.tasks.keys():
            raise UserError(
                f"The manifest of {run.location} is damaged: there is no task {some(sorted(unknown))}."
            )
        self._run = run
        self.baseline = run.manifest.get("baseline") or run.baseline or ""
        self.finished = bool(entry.get("finished"))
        self.places = tuple(dict.fromkeys((variant, float(t)) for variant, t in entry["comparisons"]))
        tables = _empty_tables(run, entry)
        tasks, planned, self.seeds = [], [], dict[str, Mapping[float, Ints]]()
        within = {"cluster_names"} | ({"documents"} if entry.get("documents") else set())
        for table, labels in zip(tables, sign_blocks(tables, within), strict=True):
            name, items = table.info.name, len(table.items)
            clusters = [None] * items if table.cluster_names is None else table.cluster_names
            documents: Iterable[str] = () if table.documents is None else table.documents
            order = asking_order(documents, clusters, entry["seed"])
            blocks = None if labels is None else labels[order]
            tasks.append(table.at(order))
            planned.append(PlannedTask(name, items, blocks, bounded=table.info.bounds is not None))
            own: dict[float, list[int]] = {}
            for temperature, seed in run.tasks[name]["reruns"]:
                own.setdefault(float(temperature or 0.0), []).append(NO_SEED if seed is None else seed)
            self.seeds[name] = {t: np.array(sorted(seeds), dtype=np.int64) for t, seeds in own.items()}
        self.tasks = tuple(tasks)
        has = {place: [table.info.name for table in self.tasks_at(place[1])] for place in self.places}
        try:
            self.plan = SequentialPlan(
                tuple(planned),
                self.places,
                # at some temperatures not all tasks have answers (log-likelihoods have one)
                tasks_of={place: tuple(own) for place, own in has.items() if len(own) < len(tasks)},
                stopping=stopping_of(entry),
                alpha=entry["alpha"],
                margin=entry["margin"],
                balanced="certificate" in entry,  # as runs of older versions were not stopped
            )
        except ValueError as error:
            raise UserError(f"The manifest of {run.location} is damaged: {error}") from None
        self.digests: dict[Place, list[str]] = {place: [] for place in self.places}
        self._monitor = SequentialMonitor(self.plan)
        self._looks: dict[Place, int] = {}
        self._answers = {
            (model, table.info.name, temperature): AnswerGrid(table.items.astype(np.int64), seeds)
            for model in (self.baseline, *{variant for variant, _ in self.places})
            for table in self.tasks
            for temperature, seeds in self.seeds[table.info.name].items()
        }

    def tasks_at(self, temperature: float) -> list[TaskTable]:
        """The tasks that have answers at a temperature."""
        return [table for table in self.tasks if temperature in self.seeds[table.info.name]]

    def items_of(self, place: Place, looks: int) -> dict[str, Ints]:
        """The items that count after some looks of a comparison, by task; sorted numbers."""
        counted = [items for items, _ in self.plan.of(place).layout[:looks]]
        positions = np.concatenate([np.zeros(0, dtype=np.int64), *counted])
        items, start = {}, 0
        for table in self.tasks_at(place[1]):
            here = positions[(positions >= start) & (positions < start + table.items.size)] - start
            items[table.info.name] = np.sort(table.items[here].astype(np.int64))
            start += table.items.size
        return items

    def read_samples(self) -> None:
        """Take note of all answers in the run's samples."""
        damaged: list[str] = []  # which a submit has removed and an analysis named
        for table in self.tasks:
            task = table.info.name
            for model in self._run.models:
                files = self._run.samples(model, task)
                for rows in scan(self._run, files, table.info.metric, "prompt_hash", damaged):
                    seed = rows.column("seed").fill_null(NO_SEED)
                    score = rows.column("score").cast(pa.float64())
                    columns = (rows.column("item"), rows.column("temperature"), seed, score)
                    scores = np.rec.fromarrays([column.to_numpy() for column in columns], dtype=SCORES)
                    self.add(model, task, scores)

    def add(self, model: str, task: str, scores: ReportedScores) -> None:
        """Take note of answers; those that are not part of the plan are ignored."""
        for temperature in self.seeds.get(task, ()):
            answers = self._answers.get((model, task, temperature))
            here = scores["temperature"].astype(np.float32) == np.float32(temperature)
            if answers is not None and here.any():
                answers.enter(*(scores[here][name] for name in ("item", "seed", "score")))
                tasks = self.tasks_at(temperature)
                complete = [self._answers[model, one.info.name, temperature].complete for one in tasks]
                place = next(place for place in self.places if place[1] == temperature)
                self._looks[model, temperature] = self.plan.of(place).looks_in(complete)

    def looks_of(self, model: str, temperature: float) -> int:
        """How many looks the answers of one model at a temperature would allow."""
        return self._looks.get((model, temperature), 0)

    def advance(self) -> bool:
        """Take all looks that have become possible; whether there were any.

        Raises:
            EvidenceError: scores are outside of their metric's range.
        """
        advanced = False
        for place, digests in self.digests.items():
            models = self.baseline, place[0]
            possible = min(self.looks_of(model, place[1]) for model in models)
            if possible <= len(digests):
                continue
            plan, paired, worst = self.plan.of(place), [], []
            for table, planned in zip(self.tasks_at(place[1]), plan.tasks, strict=True):
                seen = planned.seen_at(possible, plan.stopping.looks)
                grids = [self._answers[model, table.info.name, place[1]] for model in models]
                mean, at_worst = _differences(grids[0].scores[:seen], grids[1].scores[:seen], table.info)
                paired.append(mean)
                worst.append(at_worst)
            for look in range(len(digests) + 1, self._monitor.observe(place, paired, worst) + 1):
                digests.append(self._digest(place, look, after=digests[-1] if digests else ""))
                advanced = True
        return advanced

    def _digest(self, place: Place, look: int, after: str) -> str:
        """Digest of the scores that are new at a look, in the order of asking, and of the digest before."""
        plan, digest = self.plan.of(place), blake2b(after.encode(), digest_size=16)
        for task in plan.tasks:
            first, end = (task.seen_at(number, plan.stopping.looks) for number in (look - 1, look))
            for model in (self.baseline, place[0]):
                scores = self._answers[model, task.task, place[1]].scores[first:end]
                digest.update(np.where(np.isnan(scores), np.nan, scores).tobytes())  # one NaN for all
        return digest.hexdigest()

    def has_answers(self) -> bool:
        """Whether any answer of the plan is known."""
        return any(answers.known.any() for answers in self._answers.values())

    def courses(self, *, tested: bool = True) -> dict[Place, Course]:
        """Looks and verdicts of every comparison, with p-values and intervals if they are asked for."""
        return self._monitor.courses(tested=tested, finished=self.finished)


def stopping_of(entry: StoppingEntry) -> Stopping:
    """Looks and spending of a plan in a manifest."""
    degraded, certified = entry["spending"]["degraded"], entry["spending"]["certified"]
    spending = parse_spending(degraded), parse_spending(certified)
    return Stopping(entry["looks"], entry["until"], *spending, entry.get("certificate", "default"))


def follow(run: RunFiles) -> RunMonitor:
    """Take the looks that the samples of a run allow.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
    """
    monitor = RunMonitor(run)
    monitor.read_samples()
    try:
        monitor.advance()
    except EvidenceError as error:
        raise UserError(f"The looks of {run.location} cannot be taken: {error}") from None
    return monitor


def stops_early(scores: ScoreSet) -> bool:
    """Whether scores come from a run whose variants are stopped when they are decided."""
    return any("stopping" in run.manifest for run in scores.runs)


def stopped_notes(runs: Sequence[RunFiles]) -> list[str]:
    """What to know about answers of runs that stop early when they are used for something else.

    Returns:
        One sentence per run whose decisions left samples out: which comparisons were stopped, and where.

    Raises UserError if a run contradicts its plan.
    """
    notes = []
    for run in runs:
        if "stopping" not in run.manifest:
            continue
        monitor = follow(run)
        stopped = [
            f"{variant} at temperature {temperature:g} ({100 * course.share_used:.0f} %)"
            for (variant, temperature), course in monitor.courses(tested=False).items()
            if course.stopped
        ]
        if stopped and not monitor.finished:
            notes.append(
                f"{run.location} stopped variants early, with a share of their samples: {some(stopped)}. "
                "Rates are over the items that were answered; damage that stopped a variant is, on average, "
                "smaller than it looks."
            )
    return notes


def _empty_tables(run: RunFiles, entry: StoppingEntry) -> list[TaskTable]:
    """The tasks without any answers: what decides must not depend on answers, their ranges included.

    Where a range is not certain without answers, or the direction unknown, there is none: damage is found all
    the same, but nothing is certified.
    """
    tables = []
    for task in (RunTask(name, [run], []) for name in entry["metrics"]):
        items, info = task.items(None), task_info(task, dict(entry["metrics"]), [])
        if info is not None:
            own, names = TaskTable(info, items.ids, items.clusters, {}), items.cluster_names
            tables.append(replace(own, documents=items.documents, cluster_names=names))
    settled = []
    for table in scaled(ScoreSet((), tuple(tables)), ScaleOptions()).tasks:
        info = table.info
        bounds = info.bounds if info.stated.bounds else certain_range(info.metric)
        bounds = bounds if info.is_direction_known else None
        settled.append(replace(table, info=replace(info, bounds=bounds)))
    return settled


def _differences(baseline: Floats, variant: Floats, task: TaskInfo) -> tuple[Floats, Floats]:
    """How much worse the variant is on each item, in shares of the range where there is one.

    Returns:
        The means over the reruns that both have, NaN without any; and those with every missing rerun as bad
        for the variant as possible, infinite without a range, of which the margin of a run is a share:
        nothing can be certified then. Shape (items,) each.
    """
    low, high = task.bounds or (0.0, 1.0)

    def losses(first: Floats, second: Floats) -> Floats:
        shares: Floats = (first - second) / (high - low)
        return shares if task.higher_is_better else -shares

    both = ~(np.isnan(baseline) | np.isnan(variant))
    sums, counts = np.where(both, losses(baseline, variant), 0.0).sum(axis=1), both.sum(axis=1)
    means: Floats = np.divide(sums, counts, out=np.full(sums.size, np.nan), where=counts > 0)
    if task.bounds is None:
        return means, np.full(len(variant), np.inf)
    best, least = (high, low) if task.higher_is_better else (low, high)
    worst = losses(np.where(np.isnan(baseline), best, baseline), np.where(np.isnan(variant), least, variant))
    return means, worst.mean(axis=1)
