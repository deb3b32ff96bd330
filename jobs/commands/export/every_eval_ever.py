"""A run in the schema of Every Eval Ever, version 0.3.0: an aggregate file and a sample file per evaluation.

An evaluation is one variant at one temperature and seed. A sample needs a score there, so samples that are
errors are left out and counted.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

import numpy as np

from jobs.commands.export.reruns import Rerun, Row, items_of, reruns_of, responses
from jobs.formats.run_files import RunFiles
from jobs.scores.score_set import ScoreSet, TaskInfo
from orchestrator.rundir.store import segment

VERSION = "0.3.0"
SOURCE = {
    "source_name": "lldeg",
    "source_type": "evaluation_run",
    "source_organization_name": "unknown",
    "evaluator_relationship": "other",
}


@dataclass(frozen=True)
class _Source:
    """What is exported: the run, its tasks, and their items by number."""

    run: RunFiles
    infos: dict[str, TaskInfo]
    items: dict[str, dict[int, Row]]

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.manifest["name"]


def every_eval_ever_files(run: RunFiles, scores: ScoreSet, now: datetime) -> Iterator[tuple[str, Any]]:
    """Every file by its path in the output folder: a value for .json, a list of rows for .jsonl.

    Args:
        run: what to export.
        scores: the same run, for metrics, directions and ranges.
        now: date of the export.
    """
    infos = {table.info.name: table.info for table in scores.tasks}
    source = _Source(run, infos, {task: items_of(run, task) for task in infos})
    for variant in run.models:
        evaluations: dict[Any, list[Rerun]] = {}
        for task, info in infos.items():
            for rerun in reruns_of(run, variant, task):
                scored = [sample for sample in rerun.samples if _score(sample, info) is not None]
                if scored:
                    kept = replace(rerun, samples=scored)
                    evaluations.setdefault((rerun.temperature, rerun.seed), []).append(kept)
        for reruns in evaluations.values():
            yield from _evaluation(source, reruns, now)


def _evaluation(source: _Source, reruns: Sequence[Rerun], now: datetime) -> Iterator[tuple[str, Any]]:
    """The two files of one evaluation: a variant at one temperature and seed, over all tasks."""
    first = reruns[0]
    key = [source.name, first.variant, first.temperature, first.seed]
    evaluation_id = "/".join(map(str, key))
    stem = UUID(bytes=hashlib.sha256(json.dumps(key).encode()).digest()[:16], version=4)
    folder = f"data/lldeg/{segment(source.name)}/{segment(first.variant)}"
    shared = {
        "schema_version": VERSION,
        "evaluation_id": evaluation_id,
        "model_id": f"{source.name}/{first.variant}",
    }
    rows = [shared | _sample(sample, rerun, source) for rerun in reruns for sample in rerun.samples]
    path = f"{folder}/{stem}_samples.jsonl"
    yield path, rows
    aggregate = {
        "schema_version": VERSION,
        "evaluation_id": evaluation_id,
        "retrieved_timestamp": str(int(now.timestamp())),
        "source_metadata": SOURCE,
        "eval_library": {"name": "lldeg", "version": version("lldeg")},
        "model_info": _model(source, first.variant),
        "evaluation_results": [_result(rerun, source.infos[rerun.task]) for rerun in reruns],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": path,
            "total_rows": len(rows),
            "additional_details": {"failed_samples": str(sum(rerun.failed for rerun in reruns))},
        },
    }
    yield f"{folder}/{stem}.json", aggregate


def _model(source: _Source, variant: str) -> Row:
    entry = source.run.models[variant]
    return {
        "name": variant,
        "id": f"{source.name}/{variant}",
        "additional_details": {
            "deployment_type": "unknown",
            "model_availability": "unknown",
            "model": str(entry["model"]),
            "revision": str(entry["revision"]),
            "engine": json.dumps(entry["engine"], sort_keys=True),
        },
    }


def _result(rerun: Rerun, info: TaskInfo) -> Row:
    values = [sample["scores"][info.metric] for sample in rerun.samples]
    uncertainty: Row = {"num_samples": len(values)}
    if len(values) > 1:
        error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
        uncertainty["standard_error"] = {"value": error, "method": "analytic"}
    return {
        "evaluation_result_id": rerun.task,
        "evaluation_name": rerun.task,
        "source_data": {"dataset_name": rerun.task, "source_type": "other"},
        "metric_config": _metric(info),
        "score_details": {"score": float(np.mean(values)), "uncertainty": uncertainty},
        "generation_config": {
            "generation_args": {"temperature": rerun.temperature},
            "additional_details": {"seed": str(rerun.seed)},
        },
    }


def _metric(info: TaskInfo) -> Row:
    found: Row = {
        "metric_id": info.metric,
        "metric_name": info.metric.partition(",")[0],
        "lower_is_better": not info.higher_is_better,
    }
    if info.bounds is not None:
        found |= {"score_type": "continuous", "min_score": info.bounds[0], "max_score": info.bounds[1]}
    return found


def _score(sample: Row, info: TaskInfo) -> float | None:
    value: float | None = sample["scores"].get(info.metric)
    return value


def _sample(sample: Row, rerun: Rerun, source: _Source) -> Row:
    info, item = source.infos[rerun.task], source.items[rerun.task][sample["item"]]
    score = _score(sample, info)
    said = [_text(one) for one in responses(sample, source.run.tasks[rerun.task]["output_type"])]
    best = None if info.bounds is None else info.bounds[info.higher_is_better]
    row: Row = {
        "evaluation_name": rerun.task,
        "evaluation_result_id": rerun.task,
        "sample_id": str(sample["item"]),
        "sample_hash": sample["doc_hash"],
        "interaction_type": "single_turn",
        "input": {"raw": item["prompt"] or "", "reference": [_text(item["target"])]},
        "output": {"raw": said},
        "answer_attribution": _attribution(sample, info),
        "evaluation": {"score": score, "is_correct": score == best},
        "metadata": {"seed": str(rerun.seed), "finish_reason": str(sample["finish_reason"])},
    }
    counts = (sample["prompt_tokens"], sample["output_tokens"])
    if None not in counts:
        names = ("input_tokens", "output_tokens", "total_tokens")
        row["token_usage"] = dict(zip(names, (*counts, sum(counts)), strict=True))
    return row


def _attribution(sample: Row, info: TaskInfo) -> list[Row]:
    """What the filter of the metric took from the answer."""
    filter_name = info.metric.partition(",")[2]
    taken = (sample["filtered"] or {}).get(filter_name)
    if taken is None:
        return []
    where = {"turn_idx": 0, "source": "output.raw", "is_terminal": True}
    return [where | {"extracted_value": taken, "extraction_method": filter_name}]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
