"""Reads reviews of evalscope: `reviews/MODEL/DATASET_SUBSET.jsonl` in the folder of an evaluation.

A file is an evaluation of one task. Rows come in any order; rows of one `group_id` are repeats of one item.
The temperature is in `configs/task_config.yaml`.
"""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.json_files import files_at, head_of, read_lines, read_yaml
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

FOLDER = "reviews"


def _reviews(path: str) -> Iterator[Path]:
    for file in files_at(path, f"{FOLDER}/*/*.jsonl"):
        if file.parent.parent.name == FOLDER and b'"index"' in head_of(file):
            yield file


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per review file."""
    return [
        Evaluation(str(file), partial(_read, file), _settings(file)) for file in sorted(_reviews(path.path))
    ]


FORMAT = InputFormat("output of evalscope", "output folders of evalscope", _reviews, _evaluations)


@cache
def _config(run: Path) -> dict[str, Any]:
    """The configuration of the evaluation in a folder; empty where there is none."""
    path = next(iter(sorted((run / "configs").glob("task_config*.yaml"))), None)
    content = None if path is None else read_yaml(path)
    return content if isinstance(content, dict) else {}


def _generation(file: Path) -> dict[str, Any]:
    stated = _config(file.parent.parent.parent).get("generation_config")
    return stated if isinstance(stated, dict) else {}


def _settings(file: Path) -> dict[str, object]:
    generation = {
        name: value for name, value in _generation(file).items() if name not in {"seed", "batch_size"}
    }
    config = _config(file.parent.parent.parent)
    return {"generation_config": generation, "model_args": config.get("model_args") or {}} if config else {}


def _read(file: Path, query: InputQuery) -> Iterator[SampleBatch]:
    temperature = _generation(file).get("temperature")
    rows = [_sample(row, number, file, query) for number, row in read_lines(file)]
    repeats: dict[int | str, int] = {}
    for _, sample in sorted(rows, key=lambda row: row[0]):
        sample["rerun"] = repeats[sample["item"]] = repeats.get(sample["item"], -1) + 1
        sample["temperature"] = float(temperature) if isinstance(temperature, (int, float)) else None
    if not any(repeats.values()):
        for _, sample in rows:
            del sample["rerun"]
    main = next((name for _, sample in rows for name in sample["scores"]), None)
    facts = TaskFacts(file.stem, preferred=() if main is None else (main,))
    return in_batches(facts, file.parent.name, (sample for _, sample in rows))


def _sample(row: Mapping[str, Any], number: int, file: Path, query: InputQuery) -> tuple[int, dict[str, Any]]:
    """A sample and its index, which orders the repeats of an item."""
    of_sample = row.get("sample_score")
    of_sample = of_sample if isinstance(of_sample, dict) else {}
    score, group, index = of_sample.get("score"), of_sample.get("group_id"), row.get("index")
    if not isinstance(index, int) or not isinstance(score, dict):
        raise UserError(f"Line {number} of {file} is not a review of evalscope: it lacks index or score.")
    values, main = score.get("value"), score.get("main_score_name")
    values = values if isinstance(values, dict) else {}
    metadata = of_sample.get("sample_metadata") or {}
    prompt = _prompt(row.get("messages"))
    sample: dict[str, Any] = {
        "item": index if group is None else group,
        "scores": {**({main: values[main]} if main in values else {}), **values},
        "prompt_hash": text_hash(prompt),
        "prompt": prompt,
        "cluster": query.label(metadata),
    }
    if query.needs_responses:
        sample["response"] = as_text(score.get("prediction"))
    if query.documents:
        sample["target"] = as_text(row.get("target"))
        sample["doc"] = {"id": sample["item"], "metadata": metadata}
        sample["filtered"] = {"none": as_text(score.get("extracted_prediction"))}
    return index, sample


def _prompt(messages: object) -> str | None:
    """The messages up to the answer, as JSON: role and content."""
    if not isinstance(messages, list):
        return None
    asked = [message for message in messages if isinstance(message, dict)]
    if asked and asked[-1].get("role") == "assistant":
        asked = asked[:-1]
    return as_text([[message.get("role"), message.get("content")] for message in asked])
