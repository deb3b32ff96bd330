"""Reads sample files in the schema of Every Eval Ever: `UUID_samples.jsonl`, with aggregates in `UUID.json`.

A file is an evaluation; each of its lines names the model, the evaluation and the sample. Direction and range
of the metrics, and the temperature, are in the aggregates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_below, head_of, read_lines, read_object
from jobs.formats.metrics import Bounds
from jobs.formats.samples import (
    SAMPLES_AT_ONCE,
    Evaluation,
    Query,
    Sample,
    SampleBatch,
    Stated,
    TaskFacts,
    in_batches,
    prompt_hash,
)
from jobs.formats.write_run import as_text
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError

ENDING = "_samples.jsonl"


class EveryEvalEver(SampleSource):
    """Sample files of Every Eval Ever, or folders of them."""

    described = "a sample file of Every Eval Ever"
    accepted = "sample files of Every Eval Ever"

    def recognises(self, path: str) -> bool:
        """Whether there are sample files."""
        return next(_files(Path(path)), None) is not None

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per sample file."""
        return [Evaluation(str(file), partial(_read, file)) for file in sorted(_files(Path(path.path)))]


SOURCE: Source = EveryEvalEver()


def _files(path: Path) -> Iterator[Path]:
    files = files_below(path, f"*{ENDING}") if path.is_dir() else iter([path])
    for file in files:
        if file.name.endswith(ENDING) and b'"evaluation_name"' in head_of(file, 1 << 16):
            yield file


@dataclass(frozen=True)
class _Scoring:
    """What the aggregates say about the scores of an evaluation."""

    facts: TaskFacts
    metric: str
    temperature: float | None


def _read(file: Path, query: Query) -> Iterator[SampleBatch]:
    aggregates = _aggregates(file)
    scorings: dict[str, _Scoring] = {}
    held: dict[tuple[str, str], list[Sample]] = {}
    version = None
    for number, row in read_lines(file):
        version = version or row.get("schema_version")
        if row.get("schema_version") != version:
            raise UserError(f"Line {number} of {file} has another schema_version than the lines before it.")
        model, task = _names(row, number, file)
        if task not in scorings:
            scorings[task] = _scoring(task, aggregates.get(task, {}))
        samples = held.setdefault((model, task), [])
        samples.append(_sample(row, scorings[task], query))
        if len(samples) == SAMPLES_AT_ONCE:
            yield from in_batches(scorings[task].facts, model, held.pop((model, task)))
    for (model, task), samples in held.items():
        yield from in_batches(scorings[task].facts, model, samples)


def _aggregates(file: Path) -> dict[str, dict[str, Any]]:
    """Content of the aggregate file beside the samples, by evaluation; empty where there is none."""
    path = file.with_name(file.name.removesuffix(ENDING) + ".json")
    if not path.is_file():
        return {}
    results = read_object(path).get("evaluation_results")
    return {
        str(result.get("evaluation_name")): result
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict)
    }


def _names(row: Mapping[str, Any], number: int, file: Path) -> tuple[str, str]:
    """Model and evaluation of a line."""
    model, task = row.get("model_id"), row.get("evaluation_name")
    if isinstance(model, str) and isinstance(task, str) and isinstance(row.get("sample_id"), (str, int)):
        return model, task
    raise UserError(
        f"Line {number} of {file} is not a sample of Every Eval Ever: it lacks model_id, evaluation_name or "
        "sample_id."
    )


def _scoring(task: str, result: Mapping[str, Any]) -> _Scoring:
    config = result.get("metric_config") or {}
    lower = config.get("lower_is_better")
    bounds = _bounds(config.get("min_score"), config.get("max_score"))
    stated = Stated(None if lower is None else not lower, bounds)
    metric = str(config.get("metric_id") or config.get("metric_name") or "score")
    generation = (result.get("generation_config") or {}).get("generation_args") or {}
    temperature = generation.get("temperature")
    return _Scoring(
        TaskFacts(task, stated={metric: stated}, output_type="generate_until"),
        metric,
        float(temperature) if isinstance(temperature, (int, float)) else None,
    )


def _sample(row: Mapping[str, Any], scoring: _Scoring, query: Query) -> Sample:
    asked, evaluation = row.get("input") or {}, row.get("evaluation") or {}
    score = evaluation.get("score")
    prompt = asked.get("formatted") or asked.get("raw")
    label = (row.get("metadata") or {}).get(query.cluster) if query.cluster else None
    failure = row.get("error")
    found = Sample(
        item=row["sample_id"],
        scores={scoring.metric: evaluation.get("is_correct") if score is None else score},
        temperature=scoring.temperature,
        prompt_hash=prompt_hash(prompt if isinstance(prompt, str) else as_text(prompt), query),
        doc_hash=row.get("sample_hash"),
        cluster=None if label is None else str(label),
        error=None if failure is None else as_text(failure),
    )
    if query.needs_prompts:
        found.prompt = as_text(prompt)
    if query.needs_responses:
        found.response = as_text(_single((row.get("output") or {}).get("raw")))
    if query.documents:
        usage = row.get("token_usage") or {}
        found.target = as_text(_single(asked.get("reference")))
        found.doc = {"id": row["sample_id"], "metadata": row.get("metadata")}
        found.prompt_tokens, found.output_tokens = usage.get("input_tokens"), usage.get("output_tokens")
    return found


def _single(values: object) -> object:
    """What is in a list of one; several values stay a list."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def _bounds(low: object, high: object) -> Bounds | None:
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high:
        return float(low), float(high)
    return None
