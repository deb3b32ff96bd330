"""Reads sample files in the schema of Every Eval Ever: `UUID_samples.jsonl`, with aggregates in `UUID.json`.

A file is an evaluation; each of its lines names the model, the evaluation and the sample. Direction and range
of the metrics, and the temperature, are in the aggregates.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import files_at, head_of, read_lines, read_object
from jobs.formats.samples import (
    SAMPLES_AT_ONCE,
    Evaluation,
    InputQuery,
    SampleBatch,
    Stated,
    TaskFacts,
    as_text,
    in_batches,
    prompt_hash,
)
from orchestrator.errors import UserError

ENDING = "_samples.jsonl"


def _files(path: str) -> Iterator[Path]:
    for file in files_at(path, f"*{ENDING}"):
        if file.name.endswith(ENDING) and b'"evaluation_name"' in head_of(file, 1 << 16):
            yield file


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per sample file."""
    return [Evaluation(str(file), partial(_read, file)) for file in sorted(_files(path.path))]


FORMAT = InputFormat(
    "a sample file of Every Eval Ever", "sample files of Every Eval Ever", _files, _evaluations
)


def _read(file: Path, query: InputQuery) -> Iterator[SampleBatch]:
    aggregates = _aggregates(file)
    known: dict[str, tuple[TaskFacts, float | None]] = {}
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    version = None
    for number, row in read_lines(file):
        version = version or row.get("schema_version")
        if row.get("schema_version") != version:
            raise UserError(f"Line {number} of {file} has another schema_version than the lines before it.")
        model, task, item = row.get("model_id"), row.get("evaluation_name"), row.get("sample_id")
        if not isinstance(model, str) or not isinstance(task, str) or not isinstance(item, (str, int)):
            raise UserError(
                f"Line {number} of {file} is not a sample of Every Eval Ever: it lacks model_id, "
                "evaluation_name or sample_id."
            )
        if task not in known:
            known[task] = _facts(task, aggregates.get(task, {}))
        samples = held.setdefault((model, task), [])
        samples.append(_sample(row, *known[task], query))
        if len(samples) == SAMPLES_AT_ONCE:
            yield from in_batches(known[task][0], model, held.pop((model, task)))
    for (model, task), samples in held.items():
        yield from in_batches(known[task][0], model, samples)


def _aggregates(file: Path) -> dict[str, dict[str, Any]]:
    """Content of the aggregate file beside the samples, by evaluation; empty where there is none."""
    path = file.with_name(file.name.removesuffix(ENDING) + ".json")
    results = read_object(path).get("evaluation_results") if path.is_file() else None
    return {
        str(result.get("evaluation_name")): result
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict)
    }


def _facts(task: str, result: Mapping[str, Any]) -> tuple[TaskFacts, float | None]:
    """What the aggregates say about the scores of an evaluation, by the one metric, and its temperature."""
    config = result.get("metric_config") or {}
    low, high, lower = config.get("min_score"), config.get("max_score"), config.get("lower_is_better")
    bounds = None
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high:
        bounds = float(low), float(high)
    stated = Stated(None if lower is None else not lower, bounds)
    metric = str(config.get("metric_id") or config.get("metric_name") or "score")
    generation = (result.get("generation_config") or {}).get("generation_args") or {}
    temperature = generation.get("temperature")
    known = float(temperature) if isinstance(temperature, (int, float)) else None
    return TaskFacts(task, stated={metric: stated}), known


def _sample(
    row: Mapping[str, Any], facts: TaskFacts, temperature: float | None, query: InputQuery
) -> dict[str, Any]:
    asked, evaluation = row.get("input") or {}, row.get("evaluation") or {}
    prompt = asked.get("formatted") or asked.get("raw")
    score, failure = evaluation.get("score"), row.get("error")
    sample: dict[str, Any] = {
        "item": row["sample_id"],
        "scores": dict.fromkeys(facts.stated, evaluation.get("is_correct") if score is None else score),
        "temperature": temperature,
        "prompt_hash": prompt_hash(prompt if isinstance(prompt, str) else as_text(prompt), query),
        "doc_hash": row.get("sample_hash"),
        "cluster": query.label(row.get("metadata")),
        "error": None if failure is None else as_text(failure),
    }
    if query.needs_prompts:
        sample["prompt"] = as_text(prompt)
    if query.needs_responses:
        sample["response"] = as_text(_single((row.get("output") or {}).get("raw")))
    if query.documents:
        usage = row.get("token_usage") or {}
        sample["target"] = as_text(_single(asked.get("reference")))
        sample["doc"] = {"id": row["sample_id"], "metadata": row.get("metadata")}
        sample |= {"prompt_tokens": usage.get("input_tokens"), "output_tokens": usage.get("output_tokens")}
    return sample


def _single(values: object) -> object:
    """What is in a list of one; several values stay a list."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values
