"""Reads `results.jsonl` of verifiers (`vf-eval --save-results`), with `metadata.json` beside it.

A file is an evaluation of one model in one environment. Rows with one `example_id` are rollouts of one
example, that is, reruns. Field names are those of `RolloutOutput` and `GenerateMetadata` in the package
(version 0.1).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import files_with, read_lines, read_object
from jobs.formats.names import DEFAULT_TASK
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

FILE, METADATA = "results.jsonl", "metadata.json"
REWARD = "reward"


def _files(path: str) -> Iterator[Path]:
    return files_with(path, FILE, b'"example_id"')


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per file; several of one model and environment are further rollouts, since none has a date."""
    return [_evaluation(file) for file in _files(path.path)]


FORMAT = InputFormat("results of verifiers", "results.jsonl of verifiers", _files, _evaluations)


def _evaluation(file: Path) -> Evaluation:
    """Without metadata, environment and model are taken from the folder's name, `ENVIRONMENT--MODEL`."""
    beside = file.with_name(METADATA)
    metadata = read_object(beside) if beside.is_file() else {}
    environment, _, folder_model = file.absolute().parent.parent.name.partition("--")
    model = metadata.get("model") or folder_model.replace("--", "/") or None
    task = str(metadata.get("env_id") or (environment if folder_model else DEFAULT_TASK))
    sampling = metadata.get("sampling_args") or {}
    settings = {
        "environment arguments": metadata.get("env_args") or {},
        "sampling arguments": {name: value for name, value in sampling.items() if name != "seed"},
    }
    read = partial(_read, file, TaskFacts(task, preferred=(REWARD,)), model, sampling.get("temperature"))
    return Evaluation(str(file), read, settings if metadata else {})


def _read(
    file: Path, facts: TaskFacts, model: str | None, temperature: float | None, query: InputQuery
) -> Iterator[SampleBatch]:
    return in_batches(facts, model, _samples(file, temperature, query))


def _samples(file: Path, temperature: float | None, query: InputQuery) -> Iterator[dict[str, Any]]:
    rollouts: dict[int | str, int] = {}
    for number, row in read_lines(file):
        example = row.get("example_id")
        if not isinstance(example, (int, str)) or REWARD not in row:
            raise UserError(
                f"Line {number} of {file} is not a rollout of verifiers: it lacks example_id or reward."
            )
        rollouts[example] = rollouts.get(example, -1) + 1
        yield {
            **_sample(row, query),
            "item": example,
            "temperature": temperature,
            "rerun": rollouts[example],
        }


def _sample(row: Mapping[str, Any], query: InputQuery) -> dict[str, Any]:
    prompt, info = _messages(row.get("prompt")), row.get("info") or {}
    failure = row.get("error")
    sample: dict[str, Any] = {
        "scores": {} if failure else {REWARD: row[REWARD], **(row.get("metrics") or {})},
        "prompt_hash": text_hash(prompt),
        "prompt": prompt,
        "cluster": query.label(info),
        "error": as_text(failure) if failure else None,
    }
    if query.needs_responses:
        sample["response"] = _answer(row.get("completion"))
        sample["finish_reason"] = "length" if row.get("is_truncated") else row.get("stop_condition")
    if query.documents:
        usage = row.get("token_usage") or {}
        for name, key in (("prompt_tokens", "input_tokens"), ("output_tokens", "output_tokens")):
            sample[name] = None if usage.get(key) is None else int(usage[key])
        sample |= {"target": as_text(row.get("answer")), "doc": {"id": row["example_id"], "info": info}}
    return sample


def _messages(prompt: object) -> str | None:
    """A prompt as it is, or role and content of its messages as JSON."""
    if not isinstance(prompt, list):
        return as_text(prompt)
    return as_text([[m.get("role"), m.get("content")] for m in prompt if isinstance(m, Mapping)])


def _answer(completion: object) -> str | None:
    """What the model said, over all turns."""
    if not isinstance(completion, list):
        return as_text(completion)
    said = [m.get("content") for m in completion if isinstance(m, Mapping) and m.get("role") == "assistant"]
    return "\n".join(as_text(content) or "" for content in said)
