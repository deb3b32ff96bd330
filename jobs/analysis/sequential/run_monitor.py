"""A run that stops early: its plan, and its looks. Answers go in, in any order; decisions come out.

The plan is read from the manifest and the items alone. The scores of each model are kept rerun by rerun. An
item counts once all of its reruns are known, failed ones included. Its difference is the mean over the reruns
that both models have, so that both means are over equally many; in the worst case, which certificates are
tested in, every missing rerun is a loss.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from jobs.analysis.policy import Demand, Mistake, Policy, PolicyError, demands_of, load_policy
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
from stats.results import Settings
from stats.sequential.boundaries import Stopping, parse_spending
from stats.sequential.monitor import Course, SequentialMonitor
from stats.sequential.plan import Duty, PlannedTask, SequentialPlan, asking_order
from stats.verdict import Verdict

Place = tuple[str, float]  # variant and temperature
Key = tuple[str, float, str | None]
"""A comparison: its place, and the task about which a policy demands something, None for all together."""


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
        places: variant and temperature of all that is asked for beside the baseline.
        keys: by place, the comparisons that decide it: its own, and one of each task that a policy judges.
        finished: whether the run asked for the samples that its decisions had left out, too.
        digests: of the scores that the looks of each place have used, one per look.

    Raises:
        UserError: the run does not stop early, or its items, its plan or its policy are damaged.
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
        tables = _empty_tables(run)
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
        self.keys, tasks_of, duties = comparisons_of(run, [table.info for table in self.tasks])
        self.places = tuple(self.keys)
        families = entry.get("families", {})
        try:
            self.plan = SequentialPlan(
                tuple(planned),
                tuple(tasks_of),
                tasks_of={key: own for key, own in tasks_of.items() if len(own) < len(tasks)},
                duties=duties,
                families={key: later for key in tasks_of if (later := families.get(key[0]))},
                stopping=stopping_of(entry),
                alpha=entry["alpha"],
                margin=entry["margin"],
                balanced="certificate" in entry,  # as runs of older versions were not stopped
            )
            at = {t: tuple(own for own in planned if t in self.seeds[own.task]) for _, t in self.places}
            whole = replace(self.plan, tasks_of={}, duties={}, families={})
            self._at = {t: replace(whole, tasks=own) for t, own in at.items()}
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

    def items_of(self, key: Key, looks: int, *, watched: bool = False) -> dict[str, Ints]:
        """The items that count after some looks, by task of a comparison, or of its place; sorted numbers."""
        plan = self._at[key[1]] if watched else self.plan.of(key)
        counted, names = [items for items, _ in plan.layout[:looks]], {task.task for task in plan.tasks}
        positions = np.concatenate([np.zeros(0, dtype=np.int64), *counted])
        items, start = {}, 0
        for table in (table for table in self.tasks if table.info.name in names):
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
                self._looks[model, temperature] = self._at[temperature].looks_in(complete)

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
            plan, found = self._at[place[1]], {}
            for table, planned in zip(self.tasks_at(place[1]), plan.tasks, strict=True):
                seen = planned.seen_at(possible, plan.stopping.looks)
                grids = [self._answers[model, table.info.name, place[1]] for model in models]
                pair = _differences(grids[0].scores[:seen], grids[1].scores[:seen], table.info)
                found[planned.task] = pair
            for key in self.keys[place]:
                own = [found[task.task] for task in self.plan.of(key).tasks]
                self._monitor.observe(key, [mean for mean, _ in own], [worst for _, worst in own])
            for look in range(len(digests) + 1, possible + 1):
                digests.append(self._digest(place, look, after=digests[-1] if digests else ""))
                advanced = True
        return advanced

    def _digest(self, place: Place, look: int, after: str) -> str:
        """Digest of the scores that are new at a look, in the order of asking, and of the digest before."""
        plan, digest = self._at[place[1]], blake2b(after.encode(), digest_size=16)
        for task in plan.tasks:
            first, end = (task.seen_at(number, plan.stopping.looks) for number in (look - 1, look))
            for model in (self.baseline, place[0]):
                scores = self._answers[model, task.task, place[1]].scores[first:end]
                digest.update(np.where(np.isnan(scores), np.nan, scores).tobytes())  # one NaN for all
        return digest.hexdigest()

    def watched(self, place: Place) -> list[str]:
        """The tasks at a place about which no comparison decides."""
        judged = {task.task for key in self.keys[place] for task in self.plan.of(key).tasks}
        return [task.task for task in self._at[place[1]].tasks if task.task not in judged]

    def share(self, temperature: float, looks: int) -> float:
        """Share of the planned items that have come in at a look."""
        return self._at[temperature].share(looks)

    def has_answers(self) -> bool:
        """Whether any answer of the plan is known."""
        return any(answers.known.any() for answers in self._answers.values())

    def courses(self, *, tested: bool = True) -> dict[Key, Course]:
        """Looks and verdicts of every comparison, with p-values and intervals if they are asked for."""
        return self._monitor.courses(tested=tested, finished=self.finished)

    def looks_used(self, courses: Mapping[Key, Course]) -> dict[Place, tuple[int, bool]]:
        """How many looks at a place its comparisons have used, and whether these have decided it."""
        used = {}
        for place, keys in self.keys.items():
            own = [courses[key] for key in keys]
            verdicts = {course.verdict for course in own}
            ended = Verdict.DEGRADED in verdicts or (bool(own) and None not in verdicts)
            used[place] = max((len(course.looks) for course in own), default=len(self.digests[place])), ended
        return used


def comparisons_of(
    run: RunFiles, tasks: Sequence[TaskInfo]
) -> tuple[dict[Place, list[Key]], dict[Key, tuple[str, ...]], dict[Key, Duty]]:
    """By place the comparisons that decide it; by comparison its tasks, and what a policy demands of it.

    Raises:
        PolicyError: the policy does not fit the tasks, or demands what no look can show.
    """
    entry, demands, mistakes = run.manifest["stopping"], list[Demand](), list[Mistake]()
    policy = load_policy(entry["policy"]) if "policy" in entry else None
    if policy is not None:
        demands, mistakes = demands_of(policy, Settings(entry["alpha"], entry["margin"]), tasks)
        said = _beyond_looks(policy, demands, tasks)
        mistakes += [("stops-early", f"{text}: a run that stops early cannot have that") for text in said]
    if mistakes:
        raise PolicyError("The policy", mistakes)
    keys, tasks_of, duties = dict[Place, list[Key]](), dict[Key, tuple[str, ...]](), dict[Key, Duty]()
    # at some temperatures not all tasks have answers (log-likelihoods have one)
    at = {info.name: {t or 0.0 for t, _ in run.tasks[info.name]["reruns"]} for info in tasks}
    for place in dict.fromkeys((variant, float(t)) for variant, t in entry["comparisons"]):
        names = [info.name for info in tasks if place[1] in at[info.name]]
        if policy is None:
            keys[place], tasks_of[*place, None] = [(*place, None)], tuple(names)
            continue
        asked = [demand for demand in policy.asked(demands, names) if demand.blocks]
        keys[place] = [(*place, None if len(asked) == 1 else demand.task) for demand in asked]
        judged = tuple(demand.task for demand in asked if demand.task is not None)
        for key, demand in zip(keys[place], asked, strict=True):
            tasks_of[key] = judged if demand.task is None else (demand.task,)
            duties[key] = Duty(demand.settings.alpha, demand.settings.margin, demand.min_items, place)
    return keys, tasks_of, duties


def _beyond_looks(policy: Policy, demands: Sequence[Demand], tasks: Sequence[TaskInfo]) -> Iterator[str]:
    """What no look at scores can show."""
    if policy.measurements:
        yield "measurements are tested on all planned answers"
    if policy.overall.require == "watched":
        yield "overall is only watched"
    for info, demand in zip(tasks, demands, strict=False):
        is_part = policy.overall.require == "certified" and demand.blocks
        if (is_part or demand.require == "certified") and not info.bounds:
            yield f"{info.metric} of {info.name} has no known direction and range, and must be certified"


def short_of_items(
    run: RunFiles, tasks_of: Mapping[Key, tuple[str, ...]], duties: Mapping[Key, Duty]
) -> list[str]:
    """Where a policy cannot pass, as fewer items are planned than it requires."""
    said = dict[str, None]()
    for key, duty in duties.items():
        planned = sum(run.tasks[name]["items"] for name in tasks_of[key])
        if planned < duty.min_items:
            wanted = f"the policy requires {duty.min_items:,} items of {some(tasks_of[key])}"
            said[f"{wanted}, and {planned:,} are planned: it cannot pass"] = None
    return list(said)


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
        used = monitor.looks_used(monitor.courses(tested=False))
        stopped = [
            f"{variant} at temperature {temperature:g} ({100 * monitor.share(temperature, looks):.0f} %)"
            for (variant, temperature), (looks, ended) in used.items()
            if ended and looks < monitor.plan.stopping.looks
        ]
        if stopped and not monitor.finished:
            notes.append(
                f"{run.location} stopped variants early, with a share of their samples: {some(stopped)}. "
                "Rates are over the items that were answered; damage that stopped a variant is, on average, "
                "smaller than it looks."
            )
    return notes


def settled_tasks(run: RunFiles) -> list[TaskInfo]:
    """The tasks, without any answers: what decides must not depend on answers, their ranges included.

    Where a range is not certain without answers, or the direction unknown, there is none: damage is found all
    the same, but nothing is certified.
    """
    metrics, none = dict(run.manifest["stopping"]["metrics"]), np.zeros(0, dtype=np.int64)
    tasks = [task_info(RunTask(name, [run], []), metrics, []) for name in metrics]
    tables = tuple(TaskTable(info, none, None, {}) for info in tasks if info is not None)
    settled = []
    for table in scaled(ScoreSet((), tables), ScaleOptions()).tasks:
        info = table.info
        bounds = info.bounds if info.stated.bounds else certain_range(info.metric)
        settled.append(replace(info, bounds=bounds if info.is_direction_known else None))
    return settled


def _empty_tables(run: RunFiles) -> list[TaskTable]:
    tables = []
    for info in settled_tasks(run):
        items = RunTask(info.name, [run], []).items(None)
        own, names = TaskTable(info, items.ids, items.clusters, {}), items.cluster_names
        tables.append(replace(own, documents=items.documents, cluster_names=names))
    return tables


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
