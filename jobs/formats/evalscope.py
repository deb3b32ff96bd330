"""Reads reviews of evalscope: `reviews/MODEL/DATASET_SUBSET.jsonl` in the folder of an evaluation.

A file is an evaluation of one task. Rows come in any order; rows of one `group_id` are repeats of one item.
The temperature is in `configs/task_config.yaml`.
"""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_at, head_of, read_lines, read_yaml
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Samples, TaskFacts
from orchestrator.errors import UserError

FOLDER = "reviews"


def _reviews(path: str) -> Iterator[Path]:
    for file in files_at(path, f"{FOLDER}/*/*.jsonl"):
        if file.parent.parent.name == FOLDER and b'"index"' in head_of(file):
            yield file


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per review file."""
    for file in sorted(_reviews(path)):
        config = _config(file.parent.parent.parent)
        generation = _part(config, "generation_config")
        settings = {
            "generation_config": {k: v for k, v in generation.items() if k not in {"seed", "batch_size"}},
            "model_args": config.get("model_args") or {},
        }
        read = partial(_read, file, generation.get("temperature"))
        yield Evaluation(str(file), read, settings if config else {})


FORMAT = InputFormat("output of evalscope", "output folders of evalscope", _reviews, _evaluations)


@cache
def _config(run: Path) -> dict[str, Any]:
    """The configuration of the evaluation in a folder; empty where there is none."""
    path = next(iter(sorted((run / "configs").glob("task_config*.yaml"))), None)
    content = None if path is None else read_yaml(path)
    return content if isinstance(content, dict) else {}


def _part(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return part if isinstance(part := row.get(name), dict) else {}


def _read(file: Path, temperature: object, query: InputQuery) -> Samples:
    """The samples; the index of each orders the repeats of its item."""
    samples, indices, repeats = [], [], dict[int | str, int]()
    for number, row in read_lines(file):
        told = _part(row, "sample_score")
        score, index, metadata = told.get("score"), row.get("index"), told.get("sample_metadata") or {}
        if not isinstance(index, int) or not isinstance(score, dict):
            raise UserError(f"Line {number} of {file} is not a review of evalscope: it lacks index or score.")
        values, main, messages = _part(score, "value"), score.get("main_score_name"), row.get("messages")
        asked = [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else None
        if asked and asked[-1].get("role") == "assistant":
            asked = asked[:-1]
        item = index if told.get("group_id") is None else told["group_id"]
        sample = query.sample(
            item,
            {**({main: values[main]} if main in values else {}), **values},
            labels=metadata,
            prompt=None if asked is None else [[one.get("role"), one.get("content")] for one in asked],
            response=score.get("prediction"),
            target=row.get("target"),
            doc={"id": item, "metadata": metadata},
            filtered={"none": score.get("extracted_prediction")},
        )
        samples.append(sample)
        indices.append(index)
    for i in sorted(range(len(samples)), key=indices.__getitem__):
        item = samples[i]["item"]
        samples[i]["rerun"] = repeats[item] = repeats.get(item, -1) + 1
    if not any(repeats.values()):
        samples = [sample | {"rerun": None} for sample in samples]
    main = next((name for sample in samples for name in sample["scores"]), None)
    facts = TaskFacts(file.stem, file.parent.name, temperature, () if main is None else (main,))
    yield facts
    yield from samples
