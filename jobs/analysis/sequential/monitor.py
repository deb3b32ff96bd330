"""The looks of a run: answers go in, in any order; decisions come out.

The scores of each model are kept rerun by rerun. An item counts once all of its reruns are known, failed ones
included. Its difference is the mean over the reruns that both models have, so that both means are over
equally many; in the worst case, which certificates are tested in, every missing rerun is a loss.
"""

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.analysis.sequential.plan import AskedTask, Place, RunPlan, read_run_plan
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import scan
from orchestrator.errors import UserError
from orchestrator.workers.stopping import NO_SEED, ReportedScores
from stats.arrays import EvidenceError, Floats
from stats.sequential.monitor import Course, SequentialMonitor


@dataclass
class _Answers:
    """One model's answers to one task at one temperature, items in the order in which they are asked.

    Attributes:
        scores: shape (items, reruns), NaN where one failed or is not known.
        known: shape (items, reruns).
        complete: how many first items have all of their reruns.
    """

    scores: Floats
    known: NDArray[np.bool_]
    complete: int = 0

    def enter(self, task: AskedTask, temperature: float, scores: ReportedScores) -> None:
        """Take note of answers; those that are not part of the plan are ignored."""
        seeds = task.seeds[temperature]
        where = np.minimum(np.searchsorted(task.items, scores.item), task.items.size - 1)
        column = np.minimum(np.searchsorted(seeds, scores.seed), seeds.size - 1)
        planned = scores.temperature.astype(np.float32) == np.float32(temperature)
        planned &= (task.items[where] == scores.item) & (seeds[column] == scores.seed)
        rank, column = task.ranks[where[planned]], column[planned]
        self.scores[rank, column] = scores.score[planned]
        self.known[rank, column] = True
        rest = self.known[self.complete :].all(axis=1)
        self.complete += rest.size if rest.all() else int(rest.argmin())


@dataclass(eq=False)
class RunMonitor:
    """Takes the looks of a run as its answers become known.

    Attributes:
        plan: of the run.
        digests: of the scores that the looks of each comparison have used, one per look.
    """

    plan: RunPlan
    _answers: dict[tuple[str, str, float], _Answers] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._monitor = SequentialMonitor(self.plan.plan)
        self._taken = dict.fromkeys(self.plan.places, 0)
        self.digests: dict[Place, list[str]] = {place: [] for place in self.plan.places.values()}
        self._looks: dict[tuple[str, float], int] = {}
        for model in (self.plan.baseline, *{variant for variant, _ in self.plan.places.values()}):
            for task in self.plan.tasks:
                for temperature, seeds in task.seeds.items():
                    shape = (task.items.size, seeds.size)
                    self._answers[model, task.info.name, temperature] = _Answers(
                        np.full(shape, np.nan), np.zeros(shape, dtype=np.bool_)
                    )

    def add(self, model: str, task: str, scores: ReportedScores) -> None:
        """Take note of answers; those that are not part of the plan are ignored."""
        asked = next((one for one in self.plan.tasks if one.info.name == task), None)
        if asked is None:
            return
        for temperature in asked.seeds:
            here = scores.temperature.astype(np.float32) == np.float32(temperature)
            answers = self._answers.get((model, task, temperature))
            if answers is not None and here.any():
                answers.enter(asked, temperature, scores)
                tasks = self.plan.tasks_at(temperature)
                complete = [self._answers[model, one.info.name, temperature].complete for one in tasks]
                place = next(place for place in self.plan.places.values() if place[1] == temperature)
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
        before = dict(self._taken)
        for name, (variant, temperature) in self.plan.places.items():
            possible = min(self.looks_of(model, temperature) for model in (self.plan.baseline, variant))
            if possible > self._taken[name]:
                self._taken[name] = self._observe(name, possible)
        return self._taken != before

    def _observe(self, name: str, look: int) -> int:
        variant, temperature = self.plan.places[name]
        plan = self.plan.plan.of(name)
        paired, worst = [], []
        for task, planned in zip(self.plan.tasks_at(temperature), plan.tasks, strict=True):
            seen = planned.seen_at(look, plan.stopping.looks)
            baseline, scores = (
                self._answers[model, task.info.name, temperature].scores[:seen]
                for model in (self.plan.baseline, variant)
            )
            paired.append(_differences(baseline, scores, task))
            worst.append(_worst_differences(baseline, scores, task))
        taken = self._monitor.observe(name, paired, worst)
        digests = self.digests[variant, temperature]
        for number in range(len(digests) + 1, taken + 1):
            digests.append(self._digest(name, number, after=digests[-1] if digests else ""))
        return taken

    def _digest(self, name: str, look: int, after: str) -> str:
        """Digest of the scores that are new at a look, in the order of asking, and of the digest before."""
        variant, temperature = self.plan.places[name]
        plan = self.plan.plan.of(name)
        found = blake2b(after.encode(), digest_size=16)
        for task in plan.tasks:
            first, end = (task.seen_at(number, plan.stopping.looks) for number in (look - 1, look))
            for model in (self.plan.baseline, variant):
                scores = self._answers[model, task.task, temperature].scores[first:end]
                found.update(np.where(np.isnan(scores), np.nan, scores).tobytes())  # one NaN for all
        return found.hexdigest()

    def has_answers(self) -> bool:
        """Whether any answer of the plan is known."""
        return any(answers.known.any() for answers in self._answers.values())

    def outlines(self) -> dict[Place, Course]:
        """Looks and verdicts of every comparison."""
        return {
            self.plan.places[name]: outline for name, outline in self._monitor.courses(tested=False).items()
        }

    def courses(self) -> dict[Place, Course]:
        """The same with p-values and intervals."""
        return {self.plan.places[name]: course for name, course in self._monitor.courses().items()}


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
    found: Floats = np.divide(sums, counts, out=np.full(sums.size, np.nan), where=counts > 0)
    return found


def _worst_differences(baseline: Floats, variant: Floats, task: AskedTask) -> Floats:
    """The same with every missing rerun as bad for the variant as possible.

    Infinite without a range, of which the margin of a run is a share: nothing can be certified then.
    """
    if task.info.bounds is None:
        return np.full(len(variant), np.inf)
    low, high = task.info.bounds if task.info.higher_is_better else task.info.bounds[::-1]
    filled = _losses(
        np.where(np.isnan(baseline), high, baseline), np.where(np.isnan(variant), low, variant), task
    )
    worst: Floats = filled.mean(axis=1)
    return worst


def _losses(baseline: Floats, variant: Floats, task: AskedTask) -> Floats:
    """How much worse the variant is, in shares of the range where there is one."""
    low, high = task.info.bounds or (0.0, 1.0)
    losses: Floats = (baseline - variant) / (high - low)
    return losses if task.info.higher_is_better else -losses
