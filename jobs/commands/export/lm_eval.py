"""A run as output of `lm_eval --log_samples`: results_DATE.json and samples_TASK_DATE.jsonl.

lm-eval writes one evaluation for each temperature and seed, and so does this: a folder for every variant and
temperature, in which evaluations differ by seed only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from jobs.commands.export.reruns import Rerun, Row, items_of, numbers, reruns_of, responses
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.identity import digest
from orchestrator.rundir.schema import TaskEntry
from orchestrator.rundir.store import segment

Files = Iterator[tuple[str, Any]]


def lm_eval_files(run: RunFiles, now: datetime) -> Files:
    """Every file by its path in the output folder: a value for .json, a list of rows for .jsonl.

    Args:
        run: what to export.
        now: date in the names; evaluations of a folder follow each other by a second.
    """
    items = {task: items_of(run, task) for task in run.tasks}
    for variant in run.models:
        evaluations: dict[Any, list[Rerun]] = defaultdict(list)
        for task in run.tasks:
            for rerun in reruns_of(run, variant, task):
                evaluations[rerun.temperature, rerun.seed].append(rerun)
        for number, ((temperature, _), reruns) in enumerate(evaluations.items()):
            stamp = f"{now + timedelta(seconds=number):%Y-%m-%dT%H-%M-%S.%f}"
            at = "unknown" if temperature is None else f"{temperature:g}"
            folder = f"{segment(variant)}/temperature={at}"
            for rerun in reruns:
                rows = _rows(rerun, run.tasks[rerun.task], items[rerun.task])
                yield f"{folder}/samples_{segment(rerun.task)}_{stamp}.jsonl", rows
            yield f"{folder}/results_{stamp}.json", _results(run, variant, reruns, now)


def _rows(rerun: Rerun, entry: TaskEntry, items: dict[int, Row]) -> list[Row]:
    """A row per sample and filter."""
    rows = []
    for sample in rerun.samples:
        by_filter: dict[str, dict[str, float]] = defaultdict(dict)
        for name, value in numbers(sample["scores"]).items():
            metric, _, filter_name = name.partition(",")
            by_filter[filter_name or "none"][metric] = value
        rows += [
            _row(sample, entry, items[sample["item"]], filter_name, metrics)
            for filter_name, metrics in by_filter.items()
        ]
    return rows


def _row(sample: Row, entry: TaskEntry, item: Row, filter_name: str, metrics: dict[str, float]) -> Row:
    said = responses(sample, entry["output_type"])
    texts = sample["filtered"] or {}
    return {
        "doc_id": sample["item"],
        "doc": item["doc"],
        "target": item["target"],
        "arguments": {"gen_args_0": {"arg_0": item["prompt"]}},
        "resps": [[one] for one in said],
        "filtered_resps": [texts[filter_name]] if texts.get(filter_name) is not None else said,
        "filter": filter_name,
        "metrics": list(metrics),
        "doc_hash": sample["doc_hash"],
        "prompt_hash": sample["prompt_hash"],
        "target_hash": digest(item["target"]),
        **metrics,
    }


def _results(run: RunFiles, variant: str, reruns: Sequence[Rerun], now: datetime) -> Row:
    entries = {rerun.task: run.tasks[rerun.task] for rerun in reruns}
    engine = run.models[variant]
    groups: dict[str, list[str]] = defaultdict(list)
    for task, entry in entries.items():
        if entry["group"] is not None:
            groups[entry["group"]].append(task)
    sampling = {"temperature": reruns[0].temperature, "do_sample": bool(reruns[0].temperature)}
    return {
        "results": {rerun.task: _means(rerun) for rerun in reruns},
        "group_subtasks": dict(groups),
        "configs": {task: _config(task, entry) for task, entry in entries.items()},
        "versions": {task: _config(task, entry).get("version", 0) for task, entry in entries.items()},
        "n-shot": {task: _config(task, entry).get("num_fewshot") or 0 for task, entry in entries.items()},
        "higher_is_better": {task: _directions(entry) for task, entry in entries.items()},
        "n-samples": {
            task: {"original": entry["items"], "effective": entry["items"]} for task, entry in entries.items()
        },
        "config": {
            "model": "lldeg",
            "model_args": {"pretrained": engine["model"], **engine["engine"]},
            "gen_kwargs": sampling | {"seed": reruns[0].seed},
        },
        "date": now.timestamp(),
        "model_source": "lldeg",
        "model_name": variant,
        "model_name_sanitized": segment(variant),
    }


def _config(task: str, entry: TaskEntry) -> Row:
    return {"task": task, "output_type": entry["output_type"], **(entry.get("definition") or {})}


def _directions(entry: TaskEntry) -> dict[str, bool]:
    return {
        name.partition(",")[0]: how.get("higher_is_better", True) for name, how in entry["metrics"].items()
    }


def _means(rerun: Rerun) -> Row:
    """Mean and standard error of every metric over the samples that have it, as lm-eval names them."""
    values: dict[str, list[float]] = defaultdict(list)
    for sample in rerun.samples:
        for name, value in numbers(sample["scores"]).items():
            values[name].append(value)
    found: Row = {"alias": rerun.task}
    for name, scores in values.items():
        metric, _, filter_name = name.partition(",")
        error = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None
        found[f"{metric},{filter_name or 'none'}"] = float(np.mean(scores))
        found[f"{metric}_stderr,{filter_name or 'none'}"] = "N/A" if error is None else error
    return found
