"""Sample files of lm-eval as tasks of a run: prompts, responses and every metric that is a number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.inputs.lm_eval.files import ResultSet, read_rows
from jobs.inputs.lm_eval.read import DocId, LmEvalTask, load_tasks, numeric_metrics, to_sample
from jobs.inputs.metrics import as_number
from jobs.inputs.score_set import Reading
from jobs.inputs.write_run import ImportedTask, as_text
from orchestrator.errors import UserError
from orchestrator.rundir.identity import digest


def import_lm_eval(models: Mapping[str, str]) -> list[ImportedTask]:
    """Turn the sample files of several models into tasks; tasks without a number per sample are left out.

    Args:
        models: folder, results file or sample file by the model's name.

    Raises:
        UserError: if no task has a metric that is a number per sample.
    """
    loaded = [(task, numeric_metrics(task)) for task in load_tasks(models, Reading({}))]
    tasks = [_task(task, metrics) for task, metrics in loaded if metrics]
    if not tasks:
        raise UserError("No task there has a metric with a number per sample, so there is nothing to import.")
    return tasks


def _task(source: LmEvalTask, metrics: list[str]) -> ImportedTask:
    first = source.sets[0]
    task = ImportedTask(
        source.name,
        {key: first.higher_is_better(source.name, key) for key in metrics},
        first.group(source.name),
        first.config(source.name).get("output_type"),
    )
    numbers = (
        source.positions if source.has_text_ids else {doc_id: int(doc_id) for doc_id in source.positions}
    )
    for model, held in source.rows.items():
        rows = task.samples.setdefault(model, [])
        for seed, (result_set, _) in enumerate(held):
            samples = _samples(result_set, source, metrics, numbers, task)
            rows += [{**sample, "seed": seed if len(held) > 1 else None} for sample in samples.values()]
    return task


def _samples(
    result_set: ResultSet,
    source: LmEvalTask,
    metrics: list[str],
    numbers: Mapping[DocId, int],
    task: ImportedTask,
) -> dict[int, dict[str, Any]]:
    """One sample per document: its rows, one per filter, laid together."""
    samples: dict[int, dict[str, Any]] = {}
    for row in read_rows(Path(result_set.samples[source.name])):
        slim = to_sample(row)
        item = numbers[slim.doc_id]
        task.items.setdefault(item, _item(row))
        sample = samples.setdefault(item, _sample(row, item, result_set.temperature(source.name)))
        sample["filtered"][slim.filter] = as_text(_single(row.get("filtered_resps")))
        for name, value in slim.values.items():
            if (key := f"{name},{slim.filter}") in metrics:
                sample["scores"][key] = as_number(value)
    return samples


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "doc_hash": row.get("doc_hash") or digest(row.get("doc")),
        "prompt_hash": row.get("prompt_hash"),
        "prompt": as_text(_prompt(row.get("arguments"))),
        "target": as_text(row.get("target")),
        "doc": as_text(row.get("doc")),
    }


def _sample(row: Mapping[str, Any], item: int, temperature: float | None) -> dict[str, Any]:
    return {
        "item": item,
        "temperature": temperature,
        "prompt_hash": row.get("prompt_hash"),
        "scores": {},
        "filtered": {},
        "response": as_text(_single(row.get("resps"))),
    }


def _prompt(arguments: object) -> object:
    """The first argument of the first request: {"gen_args_0": {"arg_0": …}}, or [[…]] in older files."""
    while isinstance(arguments, (list, dict)) and arguments:
        arguments = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
    return arguments


def _single(responses: object) -> object:
    """What is nested in lists of one; several responses, as for log-likelihoods, stay a list."""
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    return responses
