"""Reads sample files in the schema of Every Eval Ever: `UUID_samples.jsonl`, with aggregates in `UUID.json`.

A file is an evaluation; each of its lines names the model, the evaluation and the sample. Direction and range
of the metrics, and the temperature, are in the aggregates.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.inputs.samples.batch import (
    SAMPLES_AT_ONCE,
    Evaluation,
    Query,
    Sample,
    SampleBatch,
    TaskFacts,
    in_batches,
    text_hash,
)
from jobs.inputs.samples.json_files import head_of, read_lines, read_object
from jobs.inputs.samples.source import SampleSource
from jobs.inputs.score_set import Stated
from jobs.inputs.source import NamedPath, Source
from jobs.inputs.write_run import as_text
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
    files = path.rglob(f"*{ENDING}") if path.is_dir() else iter([path])
    for file in files:
        if file.name.endswith(ENDING) and b'"evaluation_name"' in head_of(file, 1 << 16):
            yield file


def _read(file: Path, query: Query) -> Iterator[SampleBatch]:
    aggregates = _aggregates(file)
    held: dict[tuple[str, str], list[Sample]] = {}
    for number, row in read_lines(file):
        key = _names(row, number, file)
        samples = held.setdefault(key, [])
        samples.append(_sample(row, aggregates.get(key[1], {}), query))
        if len(samples) == SAMPLES_AT_ONCE:
            yield from in_batches(_facts(key[1], aggregates), key[0], held.pop(key))
    for (model, task), samples in held.items():
        yield from in_batches(_facts(task, aggregates), model, samples)


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
    model, task, sample = (row.get(name) for name in ("model_id", "evaluation_name", "sample_id"))
    if not isinstance(model, str) or not isinstance(task, str) or not isinstance(sample, (str, int)):
        raise UserError(
            f"Line {number} of {file} is not a sample of Every Eval Ever: it lacks model_id, evaluation_name "
            "or sample_id."
        )
    return model, task


def _facts(task: str, aggregates: Mapping[str, Mapping[str, Any]]) -> TaskFacts:
    config = aggregates.get(task, {}).get("metric_config") or {}
    lower, limits = config.get("lower_is_better"), (config.get("min_score"), config.get("max_score"))
    low, high = (float(limit) if isinstance(limit, (int, float)) else None for limit in limits)
    bounds = None if low is None or high is None or not low < high else (low, high)
    stated = Stated(None if lower is None else not lower, bounds)
    return TaskFacts(task, stated={_metric(aggregates.get(task, {})): stated}, output_type="generate_until")


def _metric(result: Mapping[str, Any]) -> str:
    config = result.get("metric_config") or {}
    return str(config.get("metric_id") or config.get("metric_name") or "score")


def _temperature(result: Mapping[str, Any]) -> float | None:
    generation = result.get("generation_config") or {}
    stated = (generation.get("generation_args") or {}).get("temperature")
    return float(stated) if isinstance(stated, (int, float)) else None


def _sample(row: Mapping[str, Any], result: Mapping[str, Any], query: Query) -> Sample:
    asked, answered = (row.get(name) or {} for name in ("input", "output"))
    evaluation, usage = row.get("evaluation") or {}, row.get("token_usage") or {}
    score = evaluation.get("score")
    prompt = as_text(asked.get("formatted") or asked.get("raw"))
    label = (row.get("metadata") or {}).get(query.cluster) if query.cluster else None
    found = Sample(
        item=row["sample_id"],
        scores={_metric(result): evaluation.get("is_correct") if score is None else score},
        temperature=_temperature(result),
        prompt_hash=text_hash(prompt),
        doc_hash=row.get("sample_hash"),
        cluster=None if label is None else str(label),
        error=as_text(row.get("error")),
    )
    if query.responses or query.documents:
        found.response = as_text(_single(answered.get("raw")))
    if query.documents:
        reference = asked.get("reference")
        found.prompt = prompt
        found.target = as_text(
            reference[0] if isinstance(reference, list) and len(reference) == 1 else reference
        )
        found.doc = {"id": row["sample_id"], "metadata": row.get("metadata")}
        found.prompt_tokens, found.output_tokens = usage.get("input_tokens"), usage.get("output_tokens")
    return found


def _single(values: object) -> object:
    """What is in a list of one; several values stay a list."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values
