"""Reads `results.jsonl` of NeMo Evaluator, with the bundle `eval-*.json` beside it.

A file is an evaluation of one model on one benchmark; `repeat` tells the reruns of a problem apart. Field
names are those of docs/result-format.mdx and `engine/eval_loop.py` in the package (version 0.4). A problem
that failed (infrastructure, a server's error, a time limit) has a reward of 0 and an `error_category` there;
here it is a failed answer, not a wrong one.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import files_with, read_lines, read_object
from jobs.formats.samples import (
    Evaluation,
    InputQuery,
    SampleBatch,
    TaskFacts,
    as_text,
    in_batches,
    text_hash,
)
from orchestrator.errors import UserError

FILE, BUNDLES = "results.jsonl", "eval-*.json"
REWARD = "reward"
NOT_SETTINGS = {"model", "benchmark", "base_url", "model_url", "repeats", "seed", "max_problems"}


def _files(path: str) -> Iterator[Path]:
    return files_with(path, FILE, b'"problem_idx"')


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per file, the oldest first."""
    read = [(_bundle(file), file) for file in _files(path.path)]
    dated = sorted(read, key=lambda pair: (str(pair[0].get("timestamp")), str(pair[1])))
    return [_evaluation(file, bundle) for bundle, file in dated]


FORMAT = InputFormat("results of NeMo Evaluator", "results.jsonl of NeMo Evaluator", _files, _evaluations)


def _bundle(file: Path) -> dict[str, Any]:
    """Of several bundles in the folder the newest, whose results the file holds; empty if there is none."""
    found = [read_object(path) for path in sorted(file.parent.glob(BUNDLES))]
    return max(found, key=lambda bundle: str(bundle.get("timestamp")), default={})


def _evaluation(file: Path, bundle: Mapping[str, Any]) -> Evaluation:
    config, benchmark = bundle.get("config") or {}, bundle.get("benchmark") or {}
    task = str(benchmark.get("name") or config.get("benchmark") or file.parent.name)
    model = config.get("model")
    return Evaluation(
        str(file),
        partial(_read, file, TaskFacts(task, preferred=(REWARD,)), model, config.get("temperature")),
        {name: value for name, value in config.items() if name not in NOT_SETTINGS},
        subject=None if model is None else (str(model), task),
    )


def _read(
    file: Path, facts: TaskFacts, model: str | None, temperature: float | None, query: InputQuery
) -> Iterator[SampleBatch]:
    return in_batches(facts, model, (_sample(row, temperature, query) for row in _rows(file)))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, row in read_lines(file):
        if not isinstance(row.get("problem_idx"), (int, str)) or REWARD not in row:
            raise UserError(
                f"Line {number} of {file} is not a result of NeMo Evaluator: it lacks problem_idx or reward."
            )
        yield row


def _sample(row: Mapping[str, Any], temperature: float | None, query: InputQuery) -> dict[str, Any]:
    details, metadata = row.get("scoring_details") or {}, row.get("metadata") or {}
    prompt, extracted = as_text(row.get("prompt")), row.get("extracted_answer")
    has_failed = bool(details.get("error_category"))
    sample: dict[str, Any] = {
        "item": row["problem_idx"],
        "scores": {} if has_failed else {REWARD: row[REWARD], **(row.get("scorer_rewards") or {})},
        "temperature": temperature,
        "rerun": int(row.get("repeat") or 0),
        "prompt_hash": text_hash(prompt),
        "prompt": prompt,
        "cluster": query.label({**details, **metadata}) if query.cluster else None,
        "error": f"{details['error_category']}: {details.get('error')}" if has_failed else None,
    }
    if query.needs_responses:
        answered = row.get("model_response")
        sample["response"] = as_text(extracted if answered is None else answered)
    if query.documents:
        sample["target"] = as_text(row.get("expected_answer"))
        sample["doc"] = {"id": row["problem_idx"], "metadata": metadata}
        sample["filtered"] = {"none": as_text(extracted)}
    return sample
