"""Reads sample files in the schema of Every Eval Ever: `UUID_samples.jsonl`, with aggregates in `UUID.json`.

A file is an evaluation; each of its lines names the model, the evaluation and the sample. Direction and range
of the metrics, and the temperature, are in the aggregates.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_at, head_of, read_lines, read_object, single
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Samples, Stated, TaskFacts
from orchestrator.errors import UserError

ENDING = "_samples.jsonl"
NEEDED: dict[str, type | tuple[type, ...]] = {
    "model_id": str,
    "evaluation_name": str,
    "sample_id": (int, str),
}


def _files(path: str) -> Iterator[Path]:
    for file in files_at(path, f"*{ENDING}"):
        if file.name.endswith(ENDING) and b'"evaluation_name"' in head_of(file, 1 << 16):
            yield file


FORMAT = InputFormat(
    "a sample file of Every Eval Ever",
    "sample files of Every Eval Ever",
    _files,
    lambda path: [Evaluation(str(file), partial(_read, file)) for file in sorted(_files(path))],
)


def _read(file: Path, query: InputQuery) -> Samples:
    beside, version = file.with_name(file.name.removesuffix(ENDING) + ".json"), None
    results = read_object(beside).get("evaluation_results") if beside.is_file() else None
    listed = [one for one in (results if isinstance(results, list) else []) if isinstance(one, dict)]
    aggregates = {str(result.get("evaluation_name")): result for result in listed}
    known, now, has_answers = dict[tuple[str, str], TaskFacts](), None, "response" in query.wanted
    for number, row in read_lines(file, "a sample of Every Eval Ever", NEEDED):
        stated = row.get("schema_version")
        version = version or stated
        if stated != version:
            raise UserError(f"Line {number} of {file} has another schema_version than the lines before it.")
        item, subject = row["sample_id"], (row["model_id"], row["evaluation_name"])
        if subject != now:
            now, (model, task) = subject, subject
            if subject not in known:
                known[subject] = _facts(task, model, aggregates.get(task, {}))
            yield known[subject]
            (metric,) = known[subject].stated
        asked, evaluation, labels = row.get("input") or {}, row.get("evaluation") or {}, row.get("metadata")
        score, usage = evaluation.get("score"), row.get("token_usage") or {}
        answer = single((row.get("output") or {}).get("raw")) if has_answers else None
        yield query.sample(
            item,
            {metric: evaluation.get("is_correct") if score is None else score},
            labels=labels,
            prompt=asked.get("formatted") or asked.get("raw"),
            doc_hash=row.get("sample_hash"),
            error=row.get("error"),
            response=answer,
            target=single(asked.get("reference")) if query.documents else None,
            doc={"id": item, "metadata": labels} if query.documents else None,
            prompt_tokens=usage.get("input_tokens"),
            output_tokens=usage.get("output_tokens"),
        )


def _facts(task: str, model: str, result: Mapping[str, Any]) -> TaskFacts:
    """What the aggregates say about the scores of an evaluation, by the one metric, and its temperature."""
    config = result.get("metric_config") or {}
    low, high, lower = config.get("min_score"), config.get("max_score"), config.get("lower_is_better")
    bounds = None
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low < high:
        bounds = float(low), float(high)
    stated = Stated(None if lower is None else not lower, bounds)
    metric = str(config.get("metric_id") or config.get("metric_name") or "score")
    generation = (result.get("generation_config") or {}).get("generation_args") or {}
    return TaskFacts(task, model, generation.get("temperature"), stated={metric: stated})
