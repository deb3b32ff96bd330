"""Reads answers rerun by rerun: from run directories, or from lm-eval output folders of one model."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.inputs.lm_eval.files import ResultSet, read_rows, refuse_different, result_sets
from jobs.inputs.lm_eval.read import LmEvalTask, numeric_metrics, to_sample
from jobs.inputs.metrics import as_number, requested_metric, resolve_metric, unused_requests
from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.score_set import TaskInfo, Temperature, as_temperature, some
from jobs.inputs.sources import Kind, resolve
from jobs.reruns.answers import AnswerSheet, RepeatedAnswers, chosen_answer, favoured
from orchestrator.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What to read; None and empty mean everything.

    Attributes:
        metrics: metric by task, group or pattern.
        variant: one variant only.
        task: one task only.
        temperature: one temperature only.
    """

    metrics: Mapping[str, str]
    variant: str | None = None
    task: str | None = None
    temperature: Temperature = None


@dataclass(frozen=True)
class Reruns:
    """Everything read.

    Attributes:
        cells: one for each variant, task and temperature, in the order of the input.
        baseline: the baseline that the runs name, None for lm-eval folders.
        runs: the run directories, empty for lm-eval folders.
    """

    cells: tuple[RepeatedAnswers, ...]
    baseline: str | None
    runs: tuple[RunFiles, ...] = ()


def read_reruns(paths: Sequence[str], wanted: Wanted) -> Reruns:
    """Read runs, or lm-eval folders that all hold the same model.

    Args:
        paths: what the user typed, at least one.
        wanted: what of it to read.

    Raises:
        UserError: if a path is neither, nothing is left, or something wanted is not there.
    """
    found = resolve(paths)
    if found.kind is Kind.RUN:
        runs = tuple(RunFiles.open(path) for path in found.paths)
        cells = tuple(_from_runs(runs, wanted))
        names = {run.baseline for run in runs if run.baseline}
        read = Reruns(cells, names.pop() if len(names) == 1 else None, runs)
    elif found.kind is Kind.LM_EVAL:
        read = Reruns(tuple(_from_lm_eval(list(found.models.values()), wanted)), None)
    else:
        raise UserError(
            f"Flips are counted over runs or lm-eval output folders; {paths[0]} is {found.kind.value}."
        )
    if not read.cells:
        raise UserError(f"{some(paths)} holds no answers that match; leave out a filter, or finish the run.")
    return read


def _from_runs(runs: Sequence[RunFiles], wanted: Wanted) -> Iterator[RepeatedAnswers]:
    tasks = {name: entry for run in runs for name, entry in run.tasks.items()}
    variants = list(dict.fromkeys(name for run in runs for name in run.models))
    _refuse_strangers(wanted, tasks, variants)
    for task, entry in tasks.items():
        if wanted.task not in {None, task}:
            continue
        info = _info(task, entry, wanted)
        codes: dict[Hashable, int] = {}
        for variant in variants:
            if wanted.variant not in {None, variant}:
                continue
            sheets: dict[Temperature, AnswerSheet] = defaultdict(AnswerSheet)
            for run in runs:
                _fill(sheets, run, variant, info, generated=entry.get("output_type") == "generate_until")
            for temperature, sheet in sorted(sheets.items(), key=lambda pair: pair[0] or 0.0):
                if wanted.temperature in {None, temperature}:
                    yield sheet.lay_out(variant, info, temperature, codes)


def _refuse_strangers(wanted: Wanted, tasks: Mapping[str, Any], variants: Sequence[str]) -> None:
    if wanted.task is not None and wanted.task not in tasks:
        raise UserError(f"There is no task {wanted.task!r}; there are {some(list(tasks), 20)}.")
    if wanted.variant is not None and wanted.variant not in variants:
        raise UserError(f"There is no variant {wanted.variant!r}; there are {some(variants, 20)}.")
    groups = {name: entry.get("group") if isinstance(entry, dict) else None for name, entry in tasks.items()}
    if unknown := unused_requests(wanted.metrics, groups):
        raise UserError(f"A metric is given for {some(unknown)}, but the tasks are {some(list(tasks), 20)}.")


def _info(task: str, entry: Mapping[str, Any], wanted: Wanted) -> TaskInfo:
    group = str(entry["group"]) if entry.get("group") else None
    asked = requested_metric(task, group, wanted.metrics) or str(entry["metric"])
    metric = resolve_metric(task, asked, list(entry["metrics"]))
    return TaskInfo(task, metric, bool(entry["metrics"][metric].get("higher_is_better", True)), group)


def _fill(
    sheets: dict[Temperature, AnswerSheet], run: RunFiles, variant: str, info: TaskInfo, *, generated: bool
) -> None:
    table = _table(run, variant, info)
    if table is None:
        return
    columns = (
        table.column(name).to_pylist() for name in ("temperature", "item", "seed", "score", "response")
    )
    texts: dict[str | None, Hashable] = {}
    for temperature, item, seed, score, response in zip(*columns, strict=True):
        if response not in texts:
            texts[response] = response if generated else chosen_answer(response)
        sheet = sheets[_known(temperature)]
        sheet.items.append(item)
        sheet.runs.append((run.location, seed))
        sheet.scores.append(float("nan") if score is None else score)
        sheet.texts.append(texts[response])


def _known(temperature: float | None) -> Temperature:
    return None if temperature is None else as_temperature(temperature)


def _table(run: RunFiles, variant: str, info: TaskInfo) -> pa.Table | None:
    files = run.samples(variant, info.name)
    if not files:
        return None
    columns = {name: ds.field(name) for name in ("item", "temperature", "seed", "response")}
    columns["score"] = ds.field("scores", info.metric)
    try:
        return ds.dataset(files, format="parquet", filesystem=run.filesystem).to_table(columns=columns)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"The samples of {variant} on {info.name} in {run.location} cannot be read with the metric "
            f"{info.metric!r}; if a file is torn, submitting the sweep again mends it."
        ) from error


def _from_lm_eval(paths: Sequence[str], wanted: Wanted) -> Iterator[RepeatedAnswers]:
    sets = [result_set for path in paths for result_set in result_sets(Path(path))]
    refuse_different(sets)
    model = next((result_set.model for result_set in sets if result_set.model), None) or "model"
    names = list(dict.fromkeys(name for result_set in sets for name in result_set.samples))
    _refuse_strangers(wanted, dict.fromkeys(names), [model])
    for name in names:
        if wanted.task in {None, name}:
            yield _lm_eval_cell(name, [one for one in sets if name in one.samples], model, wanted)


def _lm_eval_cell(name: str, sets: Sequence[ResultSet], model: str, wanted: Wanted) -> RepeatedAnswers:
    rows = [(result_set, list(read_rows(result_set.samples[name]))) for result_set in sets]
    task = LmEvalTask(name, {model: [(one, [to_sample(row) for row in held]) for one, held in rows]})
    numeric = numeric_metrics(task)
    asked = requested_metric(name, sets[0].group(name), wanted.metrics)
    if not numeric and asked is None:
        raise UserError(f"Task {name} has no metric with a number per sample, so nothing can flip.")
    metric = resolve_metric(name, asked, numeric) if asked else numeric[0]
    sheet = AnswerSheet()
    score, _, filter_name = metric.partition(",")
    for one, held in rows:
        chosen = [row for row in held if (row.get("filter") or "none") == filter_name and score in row]
        sheet.add(
            [row["doc_id"] for row in chosen],
            [(one.label, None)] * len(chosen),
            [_finite(row[score]) for row in chosen],
            [_answer(row) for row in chosen],
        )
    info = TaskInfo(name, metric, sets[0].higher_is_better(name, metric), sets[0].group(name))
    return sheet.lay_out(model, info, sets[0].temperature(name), {})


def _finite(value: object) -> float:
    number = as_number(value)
    return float("nan") if number is None else number


def _answer(row: Mapping[str, Any]) -> Hashable:
    """What lm-eval's row says was answered: the text of a generation, or the favoured choice."""
    responses = row.get("resps") or []
    first = responses[0] if responses else None
    if isinstance(first, list) and first and isinstance(first[0], str) and len(responses) == 1:
        return first[0]
    return favoured([one[0] if isinstance(one, list) and one else one for one in responses])
