"""Run directories as tables: what a sweep has left, one or several of them taken together.

Only the columns that are needed are read, and they stream, task by task, so that a run of millions of samples
needs the memory of one task. Several runs are one body of evidence: what they hold of the same model and task
is pooled, which is allowed only where their digests agree that it *is* the same. The item tables, not the
answers, say what a task consists of: an item without an answer is missing, not absent.
"""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.formats.log_tables import chosen_answer
from jobs.formats.metrics import parse_range, refuse_unused, requested, resolve_metric
from jobs.formats.notices import Notice, NoticeCode, some
from jobs.formats.run_files import (
    MARKS,
    PLACE,
    RunFiles,
    refuse_damaged,
    runs_in,
    scan,
    scores_of_answers,
)
from jobs.formats.samples import InputFormat, Stated, Temperature
from jobs.formats.tables import ABSENT, NO_SEED, Answers, Items, Tables, TaskTables
from orchestrator.errors import UserError
from orchestrator.rundir.measurements import Measurement, of_answers
from stats.arrays import Floats, Ints
from stats.fidelity import NAMES, choice_fidelity, text_fidelity

FORMAT = InputFormat(
    "a run directory or a folder of runs", "a run directory, a folder of runs", runs_in, None
)
MOST_SHOWN = 12


class RunTask(TaskTables):
    """One task in the runs that hold it; prompts and answers are numbered across all of its models.

    Paths of files that are torn or damaged are added to `torn`.
    """

    is_planned = True

    def __init__(self, name: str, runs: Sequence[RunFiles], torn: list[str]) -> None:
        self.name, self._torn = name, torn
        self._runs = [run for run in runs if name in run.tasks]
        self._entry = self._runs[0].tasks[name]
        self.group = self._entry.get("group") or None
        self.models = list(dict.fromkeys(model for run in self._runs for model in run.models))
        self.is_testable = all(run.tasks[name].get("metrics") for run in self._runs)
        self.has_seeds = not any(run.manifest.get("imported") for run in self._runs)
        self._prompts, self._lock = pa.array([], pa.string()), Lock()
        self._answers: dict[Hashable, int] = {}
        self._scored: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {}  # by the baseline of a run

    def metric(self, metrics: Mapping[str, str], notices: list[Notice]) -> str | None:
        """The metric asked for, else the one that the manifest names."""
        known = self._entry["metrics"]
        if not self.is_testable:
            said = f"Task {self.name} has no metric with a number per sample, so it is not tested."
            notices.append(Notice(NoticeCode.NO_TESTABLE_METRIC, said, self.name))
            return None
        wanted = requested(self.name, self.group, metrics) or self._entry.get("metric") or next(iter(known))
        return resolve_metric(self.name, wanted, list(known))

    def stated(self, metric: str) -> Stated:
        """What the manifest states."""
        entry = self._entry["metrics"][metric]
        limits = entry.get("range")
        bounds = parse_range(limits, f"range of {metric} of task {self.name}") if limits else None
        return Stated(entry.get("higher_is_better"), bounds, entry.get("unit"))

    def items(self, cluster: str | None) -> Items:
        """The item tables of the runs, laid over each other."""
        texts = ("doc_hash", "cluster" if cluster is None else "doc")
        schema = pa.schema({"item": pa.int64(), **dict.fromkeys(texts, pa.string())})
        table = pa.concat_tables(run.items(self.name, schema.names).cast(schema) for run in self._runs)
        ids = table.column("item").to_numpy()
        unique, first = np.unique(ids, return_index=True)
        hashes = np.array(table.column("doc_hash").to_pylist(), dtype=object)
        changed = np.flatnonzero(hashes != hashes[first][np.searchsorted(unique, ids)])
        if len(changed):
            raise UserError(
                f"Item {ids[changed[0]]} of task {self.name} is a different document in "
                f"{self._runs[0].location} than in another of the runs: they used different data and cannot "
                "be paired."
            )
        if not len(unique):
            raise UserError(f"The item table of task {self.name} in {self._runs[0].location} is empty.")
        labels = table.take(first).column(texts[1]).to_pylist()
        if cluster is not None:
            documents = [json.loads(text or "{}") for text in labels]
            columns = sorted({str(key) for document in documents for key in document})
            if cluster not in columns:
                raise UserError(
                    f"--cluster {cluster}: the documents of task {self.name} have no such column; they have "
                    f"{some(columns, 20)}."
                )
            labels = [json.dumps(document.get(cluster), sort_keys=True) for document in documents]
        ids = unique.astype(np.int64)
        return Items(ids, hashes[first], np.array(labels, dtype=object) if any(labels) else None, ids)

    def answers(self, model: str, metric: str, text: Literal["prompt_hash", "response"]) -> Iterator[Answers]:
        """The answers of a model; files that are damaged are left out where prompts are asked for."""
        torn, measured = [], list[Measurement]()
        if text == "prompt_hash":
            torn, measured = self._torn, of_answers(self._entry.get("output_type"))
        for run in self._runs:
            fidelity = self._fidelity(run, model) if text == "prompt_hash" else {}
            for table in scan(run, run.samples(model, self.name), metric, text, torn, measured=measured):
                told = {one.name: table.column(one.name).to_numpy() for one in measured}
                yield Answers(
                    label=run.location,
                    part=0,
                    items=table.column("item").to_numpy(),
                    temperature=table.column("temperature").cast(pa.float32()).to_numpy(),
                    rerun=table.column("seed").fill_null(NO_SEED).to_numpy().astype(np.int64),
                    score=table.column("score").cast(pa.float64()).to_numpy(),
                    texts=self._codes(table.column(text).combine_chunks(), text),
                    marked={code: table.column(code).fill_null(False).to_numpy() for code in MARKS},
                    unscored=table.column("unscored").to_numpy(),
                    measured=told | _at_places(table, fidelity),
                )
            if text == "response":
                refuse_damaged(torn)

    def _fidelity(self, run: RunFiles, model: str) -> dict[tuple[Any, ...], Floats]:
        """How far a model is from the run's baseline, by place: the numbers of `stats.fidelity.NAMES`."""
        own, known = scores_of_answers(run, model, self.name), {}
        if own and run.location not in self._scored:
            self._scored[run.location] = scores_of_answers(run, str(run.baseline), self.name)
        for place, scores in own.items():
            first = self._scored[run.location].get(place, ())
            if len(first) == 2:
                known[place] = text_fidelity(*zip(first, scores, strict=True))
            elif first and scores[0].size == first[0].size > 1:
                known[place] = choice_fidelity(first[0], scores[0])
        return known

    def _codes(self, column: pa.Array, text: str) -> Ints:
        """A number per distinct prompt or answer; the dictionary of the column is all that is looked up."""
        coded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        if text == "prompt_hash":
            hashes = coded.dictionary.cast(pa.string())
            with self._lock:
                unknown = hashes.filter(pc.is_null(pc.index_in(hashes, self._prompts)))
                if len(unknown):
                    self._prompts = pa.concat_arrays([self._prompts, unknown.unique()])
                numbers = pc.index_in(hashes, self._prompts).to_numpy(zero_copy_only=False)
        else:
            answers = coded.dictionary.to_pylist()
            if self._entry.get("output_type") != "generate_until":
                answers = map(chosen_answer, answers)
            numbers = [self._answers.setdefault(answer, len(self._answers)) for answer in answers]
        indices = coded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        return np.append(numbers, ABSENT).astype(np.int64)[indices]

    def planned(self, model: str, items: int) -> dict[Temperature, tuple[int, int]]:
        """The same over all runs that plan it: a rerun counts once, one of fewer items as answers only."""
        owed: dict[tuple[Temperature, int | None], int] = {}
        for run in self._runs:
            entry = run.tasks[self.name]
            for temperature, seed in entry["reruns"] if model in run.models else ():
                key = (None if temperature is None else float(temperature), seed)
                owed[key] = max(owed.get(key, 0), int(entry["items"]))
        counts: dict[Temperature, list[int]] = {}
        for (temperature, _), count in owed.items():
            counts.setdefault(temperature, []).append(count)
        return {
            temperature: (sum(found), max(1, sum(count >= items for count in found)))
            for temperature, found in counts.items()
        }

    def answers_equally(self, model: str) -> bool:
        """Whether the footers of the files tell that there is one text."""
        return all(run.is_monotonous(model, self.name) for run in self._runs if model in run.models)


def _at_places(table: pa.Table, known: Mapping[tuple[Any, ...], Floats]) -> dict[str, NDArray[np.float32]]:
    """Numbers of `stats.fidelity.NAMES` that are known by place, as columns beside a table of samples."""
    if not known:
        return {}
    items, numbers = table.column("item").to_numpy(), np.full((len(NAMES), table.num_rows), np.nan, "f4")
    rows = np.flatnonzero(np.isin(items, list({item for item, *_ in known})))
    others = (table.column(name).take(rows).to_pylist() for name in PLACE[1:])
    for row, temperature, seed in zip(rows, *others, strict=True):
        numbers[:, row] = known.get((int(items[row]), np.float32(temperature), seed), np.nan)
    return dict(zip(NAMES, numbers, strict=True))


def open_runs(locations: Sequence[str], metrics: Mapping[str, str], *, are_reruns: bool = False) -> Tables:
    """Open the run directory at a path or URL, or several as one; `metrics` are as in `InputQuery`.

    With `are_reruns` reruns are laid beside each other, instead of models being compared.

    Raises UserError if a run is not readable, contradicts another, or a metric is of no task.
    """
    runs = tuple(RunFiles.open(location) for location in locations)
    models = tuple(dict.fromkeys(model for run in runs for model in run.models))
    baselines = tuple(dict.fromkeys(run.baseline for run in runs if run.baseline))
    if not are_reruns:
        _refuse_contradictions(runs)
        from orchestrator.sweep.item_subset import refuse_reused_in  # noqa: PLC0415 - it needs much of scipy

        for baseline in baselines:
            refuse_reused_in([run.manifest for run in runs], baseline)
    torn: list[str] = []
    names = dict.fromkeys(name for run in runs for name in run.tasks)
    tasks = [RunTask(name, runs, torn) for name in names]
    refuse_unused("--metric", metrics, {task.name: task.group for task in tasks})
    if are_reruns:
        return Tables(models, tasks, baselines=baselines, runs=runs)
    notices, last = (
        list[Notice](),
        [*_missing_variants(runs, models), *_unscored(runs), *_corpus_scores(runs)],
    )
    for task in tasks:
        if not task.is_testable:
            task.metric(metrics, notices)
    settings: dict[str, float | None] = {}
    for key in ("alpha", "margin"):
        asked = [run.sweep.get("analysis") or {} for run in runs]
        values = {float(analysis[key]) for analysis in asked if key in analysis}
        settings[key] = values.pop() if len(values) == 1 else None
        if values:
            said = f"The runs set different values of {key}: none of them is used."
            last.append(Notice(NoticeCode.SETTINGS_DISAGREE, said))
    testable = [task for task in tasks if task.is_testable]
    alpha, margin = settings["alpha"], settings["margin"]
    return Tables(models, testable, notices, last, {}, baselines, alpha, margin, runs, torn)


def _refuse_contradictions(runs: Sequence[RunFiles]) -> None:
    for kind, what in (("models", "variant"), ("tasks", "task")):
        first: dict[str, RunFiles] = {}
        for run in runs:
            for name, entry in getattr(run, kind).items():
                known = first.setdefault(name, run)
                if getattr(known, kind)[name].get("digest") != entry.get("digest"):
                    raise UserError(
                        f"The {what} {name} is defined differently in {known.location} and in "
                        f"{run.location} (their digests differ), so they cannot be pooled: rename one."
                    )


def _missing_variants(runs: Sequence[RunFiles], models: Sequence[str]) -> Iterator[Notice]:
    """Say which variants the sweeps name that no manifest knows, and which could not run on the machine."""
    left_out = {name: why for run in runs for name, why in run.manifest.get("skipped", {}).items()}
    for name, why in left_out.items():
        if name not in models:
            yield Notice(NoticeCode.LEFT_OUT, f"{name} was skipped in the run: {why}.")
    named = dict.fromkeys(name for run in runs for name in run.sweep.get("variants") or {})
    if unknown := [name for name in named if name not in models and name not in left_out]:
        said = f"The sweep names variants that were not run ({some(unknown)}): submit it again to run them."
        yield Notice(NoticeCode.MISSING_VARIANT, said)


def _unscored(runs: Sequence[RunFiles]) -> Iterator[Notice]:
    """Say which models have not scored all answers of the baseline that the sweep asks for."""
    owed = {model: count for run in runs for model in run.models if (count := run.unscored(model))}
    if owed:
        said = some([f"{count:,} by {model}" for model, count in owed.items()])
        text = f"Answers of the baseline have not been scored yet ({said}); the run is incomplete."
        yield Notice(NoticeCode.OWED_ANSWERS, text)


def _corpus_scores(runs: Sequence[RunFiles]) -> Iterator[Notice]:
    """Say what lm-eval makes of all items of a task, where that is not the mean of their scores."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in (row for run in runs for row in run.store.read_aggregates()):
        where = f"{row['task']} {row['metric']} at temperature {row['temperature']:g}"
        values.setdefault(where, {}).setdefault(row["variant"], []).append(row["value"])
    said = [
        f"{where}: " + ", ".join(f"{model} {np.mean(scores):.4f}" for model, scores in of_models.items())
        for where, of_models in values.items()
    ]
    if said:
        text = f"lm-eval's own scores over all items (aggregates.csv): {'; '.join(said[:MOST_SHOWN])}"
        more = f"; and {len(said) - MOST_SHOWN} more" if said[MOST_SHOWN:] else ""
        yield Notice(NoticeCode.CORPUS_SCORES, f"{text}{more}.")
