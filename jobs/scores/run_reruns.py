"""Run directories rerun by rerun: scores and answers of every seed beside each other."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.formats.metrics import requested_metric, resolve_metric, unused_requests
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import refuse_damaged, scan
from jobs.formats.samples import as_temperature
from jobs.scores.rerun_set import ABSENT, RepeatedAnswers, RerunSet, Samples, Wanted, chosen_answer, lay_out
from jobs.scores.score_set import TaskInfo
from orchestrator.errors import UserError
from stats.arrays import Ints

NO_SEED = -1


@dataclass
class _Answers:
    """Numbers for the answers of a task, given out as they come.

    Attributes:
        are_texts: whether the responses are generated texts, not log-likelihoods.
    """

    are_texts: bool
    known: dict[Hashable, int] = field(default_factory=dict)

    def codes(self, responses: pa.DictionaryArray) -> Ints:
        """A number per distinct answer, ABSENT where there is none; shape (samples,)."""
        texts = responses.dictionary.to_pylist()
        answers = texts if self.are_texts else [chosen_answer(text) for text in texts]
        numbers = [self.known.setdefault(answer, len(self.known)) for answer in answers]
        indices = responses.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        found: Ints = np.array([*numbers, ABSENT], dtype=np.int64)[indices]
        return found


def read_reruns(locations: Sequence[str], wanted: Wanted) -> RerunSet:
    """Read one run, or several whose reruns are laid beside each other.

    Args:
        locations: paths or URLs of run directories.
        wanted: what of them to read.

    Raises:
        UserError: if a run is unreadable, or something wanted is not there.
    """
    runs = tuple(RunFiles.open(location) for location in locations)
    names = {run.baseline for run in runs if run.baseline}
    return RerunSet(tuple(_read(runs, wanted)), names.pop() if len(names) == 1 else None, runs)


def _read(runs: Sequence[RunFiles], wanted: Wanted) -> Iterator[RepeatedAnswers]:
    tasks = {name: entry for run in runs for name, entry in run.tasks.items()}
    variants = list(dict.fromkeys(name for run in runs for name in run.models))
    wanted.refuse_unknown(list(tasks), variants)
    if unknown := unused_requests(
        wanted.metrics, {name: entry.get("group") for name, entry in tasks.items()}
    ):
        raise UserError(f"--metric matches no task: {some(unknown)}; the tasks are {some(list(tasks), 20)}.")
    for task, entry in tasks.items():
        if wanted.task in {None, task}:
            answers = _Answers(entry.get("output_type") == "generate_until")
            for variant in variants:
                if wanted.variant in {None, variant}:
                    yield from _cells(runs, variant, _info(task, entry, wanted), answers, wanted)


def _info(task: str, entry: Mapping[str, Any], wanted: Wanted) -> TaskInfo:
    group = str(entry["group"]) if entry.get("group") else None
    asked = requested_metric(task, group, wanted.metrics) or str(entry["metric"])
    metric = resolve_metric(task, asked, list(entry["metrics"]))
    return TaskInfo(task, metric, bool(entry["metrics"][metric].get("higher_is_better", True)), group)


def _cells(
    runs: Sequence[RunFiles], variant: str, info: TaskInfo, answers: _Answers, wanted: Wanted
) -> Iterator[RepeatedAnswers]:
    """The answers of one variant to one task, by temperature."""
    tables = [(run, table) for run in runs for table in _tables(run, variant, info)]
    if not tables:
        return
    labels, numbers = _passes(tables)
    temperature = np.concatenate([table.column("temperature").to_numpy() for _, table in tables])
    items, scores = (
        np.concatenate([table.column(c).to_numpy() for _, table in tables]) for c in ("item", "score")
    )
    codes = np.concatenate([answers.codes(table.column("response").combine_chunks()) for _, table in tables])
    for value in _lowest_first(temperature):
        if wanted.temperature in {None, as_temperature(value)}:
            here = np.isnan(temperature) if np.isnan(value) else temperature == value
            samples = Samples(items[here], numbers[here], scores[here], codes[here])
            yield lay_out(variant, info, as_temperature(value), labels, samples)


def _lowest_first(temperature: np.ndarray[Any, np.dtype[np.float32]]) -> list[np.float32]:
    """Distinct temperatures, unknown ones first."""
    return sorted(np.unique(temperature), key=lambda value: (not np.isnan(value), value))


def _passes(tables: Sequence[tuple[RunFiles, pa.Table]]) -> tuple[list[tuple[str, int | None]], Ints]:
    """(run directory, seed) of every pass over the items, sorted; the number among them of each sample."""
    seeds = [table.column("seed").fill_null(NO_SEED).to_numpy() for _, table in tables]
    found = sorted(
        {
            (run.location, seed)
            for (run, _), of in zip(tables, seeds, strict=True)
            for seed in np.unique(of).tolist()
        }
    )
    numbers = []
    for (run, _), of in zip(tables, seeds, strict=True):
        unique, indices = np.unique(of, return_inverse=True)
        numbers.append(np.array([found.index((run.location, seed)) for seed in unique.tolist()])[indices])
    labels = [(location, None if seed == NO_SEED else seed) for location, seed in found]
    return labels, np.concatenate(numbers).astype(np.int64)


def _tables(run: RunFiles, variant: str, info: TaskInfo) -> list[pa.Table]:
    damaged: list[str] = []
    tables = list(scan(run, run.samples(variant, info.name), info.metric, "response", damaged))
    refuse_damaged(damaged)
    return tables
