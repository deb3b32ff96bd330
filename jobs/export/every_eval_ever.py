"""A run in the schema of Every Eval Ever, version 0.3.0: an aggregate file and a sample file per evaluation.

An evaluation is one variant at one temperature and seed. A sample needs a score there, so samples that are
errors are left out and counted.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

from jobs.export.passes import Pass, Row, evaluations_of, is_scored, mean_and_error
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


def every_eval_ever_files(run: RunFiles, scores: ScoreSet, now: datetime) -> Iterator[tuple[str, Any]]:
    """Every file by its path in the output folder: a value for .json, a list of rows for .jsonl.

    The scores of the same run tell metrics, directions and ranges; `now` becomes the date of the export.
    """
    name, infos = run.manifest["name"], {table.info.name: table.info for table in scores.tasks}
    for variant, _, at, by_task in evaluations_of(run, infos):
        has = {
            task: [s for s in samples if is_scored(s) and s["scores"].get(infos[task].metric) is not None]
            for task, samples in by_task.items()
        }
        scored = {task: samples for task, samples in has.items() if samples}
        if not scored:
            continue
        key, model, entry = [name, variant, *at], f"{name}/{variant}", run.models[variant]
        stem = UUID(bytes=hashlib.sha256(json.dumps(key).encode()).digest()[:16], version=4)
        path = f"data/lldeg/{segment(name)}/{segment(variant)}/{stem}"
        evaluation = {"schema_version": VERSION, "evaluation_id": "/".join(map(str, key))}
        rows: list[Row] = []
        for task, samples in scored.items():
            about = {"model_id": model, "evaluation_name": task, "evaluation_result_id": task}
            rows += [evaluation | about | _sample(sample, infos[task], at) for sample in samples]
        yield f"{path}_samples.jsonl", rows
        failed = sum(not is_scored(sample) for task in scored for sample in by_task[task])
        aggregate = {
            **evaluation,
            "retrieved_timestamp": str(int(now.timestamp())),
            "source_metadata": SOURCE,
            "eval_library": {"name": "lldeg", "version": version("lldeg")},
            "model_info": {
                "name": variant,
                "id": model,
                "additional_details": {
                    "deployment_type": "unknown",
                    "model_availability": "unknown",
                    "model": str(entry["model"]),
                    "revision": str(entry["revision"]),
                    "engine": json.dumps(entry["engine"], sort_keys=True),
                },
            },
            "evaluation_results": [_result(task, scored[task], infos[task], at) for task in scored],
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": f"{path}_samples.jsonl",
                "total_rows": len(rows),
                "additional_details": {"failed_samples": str(failed)},
            },
        }
        yield f"{path}.json", aggregate


def _result(task: str, samples: Sequence[Row], info: TaskInfo, at: Pass) -> Row:
    values = [sample["scores"][info.metric] for sample in samples]
    mean, error = mean_and_error(values)
    uncertainty: Row = {"num_samples": len(values)}
    if error is not None:
        uncertainty["standard_error"] = {"value": error, "method": "analytic"}
    metric: Row = {
        "metric_id": info.metric,
        "metric_name": info.metric.partition(",")[0],
        "lower_is_better": not info.higher_is_better,
    }
    if info.bounds is not None:
        metric |= {"score_type": "continuous", "min_score": info.bounds[0], "max_score": info.bounds[1]}
    return {
        "evaluation_result_id": task,
        "evaluation_name": task,
        "source_data": {"dataset_name": task, "source_type": "other"},
        "metric_config": metric,
        "score_details": {"score": mean, "uncertainty": uncertainty},
        "generation_config": {
            "generation_args": {"temperature": at[0]},
            "additional_details": {"seed": str(at[1])},
        },
    }


def _sample(sample: Row, info: TaskInfo, at: Pass) -> Row:
    score, filter_name = sample["scores"][info.metric], info.metric.partition(",")[2]
    best = None if info.bounds is None else info.bounds[info.higher_is_better]
    taken = (sample["filtered"] or {}).get(filter_name)
    where = {"turn_idx": 0, "source": "output.raw", "is_terminal": True}
    row: Row = {
        "sample_id": str(sample["item"]),
        "sample_hash": sample["doc_hash"],
        "interaction_type": "single_turn",
        "input": {"raw": sample["prompt"] or "", "reference": [_text(sample["target"])]},
        "output": {"raw": list(map(_text, sample["said"]))},
        "answer_attribution": (
            [] if taken is None else [where | {"extracted_value": taken, "extraction_method": filter_name}]
        ),
        "evaluation": {"score": score, "is_correct": score == best},
        "metadata": {"seed": str(at[1]), "finish_reason": str(sample["finish_reason"])},
    }
    counts = (sample["prompt_tokens"], sample["output_tokens"])
    if None not in counts:
        names = ("input_tokens", "output_tokens", "total_tokens")
        row["token_usage"] = dict(zip(names, (*counts, sum(counts)), strict=True))
    return row


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
