"""A run as output of `lm_eval --log_samples`: results_DATE.json and samples_TASK_DATE.jsonl.

lm-eval writes one evaluation for each temperature and seed, and so does this: a folder for every variant and
temperature, in which evaluations differ by seed only.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from jobs.export.passes import Pass, Row, evaluations_of, is_scored, mean_and_error
from jobs.formats.run_files import RunFiles
from orchestrator.rundir.identity import digest
from orchestrator.rundir.store import segment


def lm_eval_files(run: RunFiles, now: datetime) -> Iterator[tuple[str, Any]]:
    """Every file by its path in the output folder: a value for .json, a list of rows for .jsonl.

    Names have the date `now`; evaluations of a folder follow each other by a second.
    """
    for variant, number, at, by_task in evaluations_of(run, run.tasks):
        stamp = f"{now + timedelta(seconds=number):%Y-%m-%dT%H-%M-%S.%f}"
        temperature = "unknown" if at[0] is None else f"{at[0]:g}"
        folder = f"{segment(variant)}/temperature={temperature}"
        scored = {task: list(filter(is_scored, samples)) for task, samples in by_task.items()}
        for task, samples in scored.items():
            rows = [row for sample in samples for row in _rows(sample)]
            yield f"{folder}/samples_{segment(task)}_{stamp}.jsonl", rows
        yield f"{folder}/results_{stamp}.json", _results(run, variant, at, scored, now)


def _rows(sample: Row) -> Iterator[Row]:
    """A row for each filter."""
    said, texts = sample["said"], sample["filtered"] or {}
    by_filter: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in sample["scores"].items():
        if value is not None:
            metric, _, filter_name = name.partition(",")
            by_filter[filter_name or "none"][metric] = value
    for filter_name, metrics in by_filter.items():
        yield {
            "doc_id": sample["item"],
            "doc": sample["doc"],
            "target": sample["target"],
            "arguments": {"gen_args_0": {"arg_0": sample["prompt"]}},
            "resps": [[one] for one in said],
            "filtered_resps": [texts[filter_name]] if texts.get(filter_name) is not None else said,
            "filter": filter_name,
            "metrics": list(metrics),
            "doc_hash": sample["doc_hash"],
            "prompt_hash": sample["prompt_hash"],
            "target_hash": digest(sample["target"]),
            **metrics,
        }


def _results(
    run: RunFiles, variant: str, at: Pass, scored: Mapping[str, Sequence[Row]], now: datetime
) -> Row:
    entries, engine = {task: run.tasks[task] for task in scored}, run.models[variant]
    configs: dict[str, Row] = {
        task: {"task": task, "output_type": entry["output_type"], **(entry.get("definition") or {})}
        for task, entry in entries.items()
    }
    groups: dict[str, list[str]] = defaultdict(list)
    for task, entry in entries.items():
        if entry["group"] is not None:
            groups[entry["group"]].append(task)
    return {
        "results": {task: _means(task, samples) for task, samples in scored.items()},
        "group_subtasks": dict(groups),
        "configs": configs,
        "versions": {task: config.get("version", 0) for task, config in configs.items()},
        "n-shot": {task: config.get("num_fewshot") or 0 for task, config in configs.items()},
        "higher_is_better": {
            task: {
                name.partition(",")[0]: how.get("higher_is_better") for name, how in entry["metrics"].items()
            }
            for task, entry in entries.items()
        },
        "n-samples": {
            task: {"original": entry["items"], "effective": entry["items"]} for task, entry in entries.items()
        },
        "config": {
            "model": "lldeg",
            "model_args": {"pretrained": engine["model"], **engine["engine"]},
            "gen_kwargs": {"temperature": at[0], "do_sample": bool(at[0]), "seed": at[1]},
        },
        "date": now.timestamp(),
        "model_source": "lldeg",
        "model_name": variant,
        "model_name_sanitized": segment(variant),
    }


def _means(task: str, samples: Sequence[Row]) -> Row:
    """Mean and standard error of every metric over the samples that have it, as lm-eval names them."""
    values: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        for name, value in sample["scores"].items():
            if value is not None:
                values[name].append(value)
    found: Row = {"alias": task}
    for name, scores in values.items():
        metric, _, filter_name = name.partition(",")
        found[f"{metric},{filter_name or 'none'}"], error = mean_and_error(scores)
        found[f"{metric}_stderr,{filter_name or 'none'}"] = "N/A" if error is None else error
    return found
