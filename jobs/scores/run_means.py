"""Score means of run directories: what a sweep has left, one or several of them taken together.

Only the columns a test needs are read, and they are averaged as they stream, task by task, so that a run of
millions of samples needs the memory of one task. Several runs are one body of evidence: what they hold of the
same model and task is pooled, which is allowed only where their digests agree that it *is* the same.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.formats.metrics import parse_range, requested_metric, resolve_metric, unused_requests
from jobs.formats.notices import Notice, NoticeCode, joined, some
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import MARKS, count_withheld, scan
from jobs.formats.samples import Stated, Temperature
from jobs.scores.items import RunItems, read_items
from jobs.scores.rerun_means import NO_SEED, Answers, Planned, RerunMeans
from jobs.scores.score_set import Column, Reading, ScoreSet, TaskInfo, TaskTable
from orchestrator.errors import UserError
from orchestrator.rundir.schema import TaskEntry
from orchestrator.sweep.item_subset import refuse_reused_in
from stats.arrays import LARGEST_SCORE, Ints

MOST_SHOWN = 12
MODELS_AT_ONCE = 2  # one is read while the other is counted


@dataclass
class _Notes:
    """What is noticed while reading."""

    warnings: list[Notice] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)

    def add(self, code: NoticeCode, text: str, task: str | None = None) -> None:
        self.warnings.append(Notice(code, text, task))


class _Prompts:
    """Numbers for the prompts of a task, given out as they come."""

    def __init__(self) -> None:
        self._known = pa.array([], pa.string())
        self._lock = Lock()

    def codes(self, hashes: pa.Array) -> Ints:
        """A number per distinct hash, -1 for none; the dictionary of the column is all that is looked up."""
        coded = hashes if isinstance(hashes, pa.DictionaryArray) else hashes.dictionary_encode()
        hashes = coded.dictionary.cast(pa.string())
        with self._lock:
            unknown = hashes.filter(pc.is_null(pc.index_in(hashes, self._known)))
            if len(unknown):
                self._known = pa.concat_arrays([self._known, unknown.unique()])
            numbers = pc.index_in(hashes, self._known).to_numpy(zero_copy_only=False)
        indices = coded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        prompts: Ints = np.append(numbers, -1).astype(np.int64)[indices]
        return prompts


@dataclass(frozen=True)
class _Task:
    """One task in the runs that hold it; prompts are numbered across all of its models."""

    runs: Sequence[RunFiles]
    items: RunItems
    notes: _Notes
    prompts: _Prompts = field(default_factory=_Prompts)


def read_runs(locations: Sequence[str], reading: Reading) -> ScoreSet:
    """Read one run, or several as one.

    Args:
        locations: paths or URLs of run directories.
        reading: metrics and clusters asked for.

    Raises:
        UserError: if a run is not readable, holds no answers, or contradicts another run.
    """
    runs = [RunFiles.open(location) for location in locations]
    _refuse_contradictions(runs)
    baselines = tuple(dict.fromkeys(run.baseline for run in runs if run.baseline))
    for baseline in baselines:
        refuse_reused_in([run.manifest for run in runs], baseline)
    tasks = {name: entry.get("group") for run in runs for name, entry in run.tasks.items()}
    if unknown := unused_requests(reading.metrics, tasks):
        raise UserError(
            f"--metric matches no task of the run: {some(unknown)}; its tasks are {some(list(tasks), 20)}."
        )
    notes = _Notes()
    testable = [task for task in tasks if _is_testable(task, runs, notes)]
    scored = [_read_task(task, runs, reading, notes) for task in testable]
    models = tuple(dict.fromkeys(model for run in runs for model in run.models))
    if not any(column.reruns for task in scored for column in task.columns.values()):
        said = joined(notes.warnings) or "run `lldeg submit` on its configuration first."
        raise UserError(f"{some(locations)} has no samples to test: {said}")
    _note_missing_variants(runs, models, notes)
    _note_corpus_scores(runs, notes)
    alpha, margin = (_agreed(runs, key, notes) for key in ("alpha", "margin"))
    warnings = (*notes.warnings, *_torn(notes.torn))
    return ScoreSet(models, tuple(scored), baselines, warnings, alpha, margin, tuple(runs))


def _refuse_contradictions(runs: Sequence[RunFiles]) -> None:
    for kind in ("models", "tasks"):
        first: dict[str, RunFiles] = {}
        for run in runs:
            for name, entry in getattr(run, kind).items():
                known = first.setdefault(name, run)
                if getattr(known, kind)[name].get("digest") != entry.get("digest"):
                    what = "variant" if kind == "models" else "task"
                    raise UserError(
                        f"The {what} {name} is defined differently in {known.location} and in "
                        f"{run.location} (their digests differ), so they cannot be pooled: rename one."
                    )


def _note_missing_variants(runs: Sequence[RunFiles], models: Sequence[str], notes: _Notes) -> None:
    """Say which variants the sweeps name that no manifest knows, and which could not run on the machine."""
    left_out = {name: why for run in runs for name, why in run.manifest.get("skipped", {}).items()}
    for name, why in left_out.items():
        if name not in models:
            notes.add(NoticeCode.LEFT_OUT, f"{name} was skipped in the run: {why}.")
    named = dict.fromkeys(name for run in runs for name in run.sweep.get("variants") or {})
    if unknown := [name for name in named if name not in models and name not in left_out]:
        notes.add(
            NoticeCode.MISSING_VARIANT,
            f"The sweep names variants that were not run ({some(unknown)}): submit it again to run them.",
        )


def _note_corpus_scores(runs: Sequence[RunFiles], notes: _Notes) -> None:
    """Say what lm-eval makes of all items of a task, where that is not the mean of their scores."""
    found: dict[tuple[str, str, float], dict[str, list[float]]] = {}
    for row in (row for run in runs for row in run.store.read_aggregates()):
        where = (row["task"], row["metric"], row["temperature"])
        found.setdefault(where, {}).setdefault(row["variant"], []).append(row["value"])
    if found:
        said = [
            f"{task} {metric} at temperature {temperature:g}: "
            + ", ".join(f"{model} {np.mean(values):.4f}" for model, values in models.items())
            for (task, metric, temperature), models in found.items()
        ]
        text = f"lm-eval's own scores over all items (aggregates.csv): {'; '.join(said[:MOST_SHOWN])}"
        more = f"; and {len(said) - MOST_SHOWN} more" if said[MOST_SHOWN:] else ""
        notes.add(NoticeCode.CORPUS_SCORES, f"{text}{more}.")


def _agreed(runs: Sequence[RunFiles], key: str, notes: _Notes) -> float | None:
    values = {run.analysis[key] for run in runs if key in run.analysis}
    if len(values) > 1:
        notes.add(
            NoticeCode.SETTINGS_DISAGREE,
            f"The runs set different values of {key}: none of them is used.",
        )
    return float(values.pop()) if len(values) == 1 else None


def _is_testable(task: str, runs: Sequence[RunFiles], notes: _Notes) -> bool:
    """Whether the task has a number per sample; if not, a warning says so and the others are tested."""
    has_metric = all(run.tasks[task].get("metrics") for run in runs if task in run.tasks)
    if not has_metric:
        notes.add(
            NoticeCode.NO_TESTABLE_METRIC,
            f"Task {task} has no metric with a number per sample, so it is not tested.",
            task,
        )
    return has_metric


def _torn(files: Sequence[str]) -> list[Notice]:
    if not files:
        return []
    said = f"{len(files)} unreadable sample files were ignored, as if not yet written: {some(sorted(files))}."
    return [Notice(NoticeCode.UNREADABLE_FILES, said)]


def _read_task(task: str, runs: Sequence[RunFiles], reading: Reading, notes: _Notes) -> TaskTable:
    holders = [run for run in runs if task in run.tasks]
    info = task_info(task, holders[0].tasks[task], reading)
    held = _Task(holders, read_items(task, holders, reading.cluster_column), notes)
    models = list(dict.fromkeys(model for run in holders for model in run.models))
    with ThreadPoolExecutor(MODELS_AT_ONCE) as pool:
        read = list(pool.map(lambda model: _read_model(model, info, held), models))
    columns: dict[tuple[str, Temperature], Column] = {}
    unscored = np.zeros(len(held.items.ids), dtype=np.bool_)
    for model, (averaged, means) in zip(models, read, strict=True):
        columns |= {(model, t): column for t, column in averaged.items()}
        unscored |= means.unscored
        if means.mixed_prompts:
            notes.add(
                NoticeCode.MIXED_RERUN_PROMPTS,
                f"{model}: reruns of the same item of {task} had different prompts.",
            )
    items = held.items
    table = TaskTable(
        info,
        items.ids,
        items.clusters,
        columns,
        planned=True,
        documents=items.documents,
        cluster_names=items.cluster_names,
    )
    return _own_items(table, unscored, notes)


def _own_items(table: TaskTable, unscored: NDArray[np.bool_], notes: _Notes) -> TaskTable:
    """The items that have the metric; others are of another kind, such as another length of RULER's texts."""
    scored = np.zeros_like(unscored)
    for column in table.columns.values():
        scored |= column.answered
    others = unscored & ~scored
    if not others.any() or not scored.any():
        return table
    notes.add(
        NoticeCode.OTHER_ITEMS,
        f"{table.info.name}: {table.info.metric} is no score of {others.sum()} of its {len(others)} items, "
        "which are left out.",
        table.info.name,
    )
    return table.at(np.flatnonzero(~others))


def _read_model(model: str, info: TaskInfo, held: _Task) -> tuple[dict[Temperature, Column], RerunMeans]:
    """The averaged answers of one model to a task, by temperature, and what else was noticed."""
    means = _means(info.name, model, info.metric, held)
    holders = [run for run in held.runs if model in run.models]
    columns = means.columns(_planned(holders, info.name, len(held.items.ids)))
    if any(column.errors for column in columns.values()):
        withheld = count_withheld(holders, model, info.name)
        columns = {t: replace(column, withheld=withheld[t]) for t, column in columns.items()}
    if all(run.is_monotonous(model, info.name) for run in holders):
        columns = {
            t: replace(column, marked={**column.marked, NoticeCode.EQUAL_ANSWERS: column.answers})
            for t, column in columns.items()
        }
    return columns, means


def task_info(task: str, entry: TaskEntry, reading: Reading) -> TaskInfo:
    """Metric and direction of a task, and what its manifest states of the range."""
    metrics, group = entry["metrics"], entry.get("group")
    wanted = requested_metric(task, group, reading.metrics) or entry.get("metric") or next(iter(metrics))
    metric = resolve_metric(task, wanted, list(metrics))
    direction, limits = metrics[metric].get("higher_is_better"), metrics[metric].get("range")
    bounds = parse_range(limits, f"range of {metric} of task {task}") if limits else None
    stated = Stated(direction, bounds, metrics[metric].get("unit"))
    return TaskInfo(task, metric, direction is not False, group, stated)


def _planned(runs: Sequence[RunFiles], task: str, items: int) -> dict[Temperature, Planned]:
    """What one model was to answer, by temperature, over all runs that plan it (a rerun counts once).

    Args:
        runs: those that know the model and the task.
        task: name of the task.
        items: of the task, in all runs together; a rerun planned for fewer of them counts as samples only.
    """
    owed: dict[tuple[Temperature, int | None], int] = {}
    for run in runs:
        entry = run.tasks[task]
        for temperature, seed in entry["reruns"]:
            key = (None if temperature is None else float(temperature), seed)
            owed[key] = max(owed.get(key, 0), int(entry["items"]))
    counts: dict[Temperature, list[int]] = {}
    for (temperature, _), count in owed.items():
        counts.setdefault(temperature, []).append(count)
    return {
        temperature: Planned(sum(found), max(1, sum(count >= items for count in found)))
        for temperature, found in counts.items()
    }


def _means(task: str, model: str, metric: str, held: _Task) -> RerunMeans:
    """Average all answers of one model to one task, leaving out files that are damaged."""
    means = RerunMeans(len(held.items.ids))
    for run in held.runs:
        for table in scan(run, run.samples(model, task), metric, "prompt_hash", held.notes.torn):
            means.add(_answers(table, task, run, held))
    return means


def _answers(table: pa.Table, task: str, run: RunFiles, held: _Task) -> Answers:
    score = table.column("score").cast(pa.float64()).to_numpy()
    if np.fmax.reduce(np.abs(score)) > LARGEST_SCORE:
        raise UserError(
            f"The samples of {task} in {run.location} contain scores beyond ±{LARGEST_SCORE:g}, "
            "which cannot be tested."
        )
    return Answers(
        positions=held.items.positions(table.column("item").to_numpy(), run.location),
        temperature=table.column("temperature").cast(pa.float32()).to_numpy(),
        rerun=table.column("seed").fill_null(NO_SEED).to_numpy().astype(np.int64),
        score=score,
        prompts=held.prompts.codes(table.column("prompt_hash").combine_chunks()),
        marked={code: table.column(code).fill_null(False).to_numpy() for code in MARKS},
        unscored=table.column("unscored").to_numpy(),
    )
