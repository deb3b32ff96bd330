"""The looks of a run: answers go in, in any order; decisions come out.

The scores of each model are kept rerun by rerun. An item counts once all of its reruns are known, failed ones
included. Its difference is the mean over the reruns that both models have, so that both means are over
equally many; in the worst case, which certificates are tested in, every missing rerun is a loss.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.analysis.sequential.plan import AskedTask, Place, RunPlan, name_of, read_run_plan
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import scan
from orchestrator.errors import UserError
from orchestrator.workers.stopping import NO_SEED, ReportedScores
from stats.arrays import EvidenceError, Floats
from stats.sequential.monitor import Course, SequentialMonitor


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
