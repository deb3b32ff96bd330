"""Reads reviews of evalscope: `reviews/MODEL/DATASET_SUBSET.jsonl` in the folder of an evaluation.

A file is an evaluation of one task. Rows come in any order; rows of one `group_id` are repeats of one item.
The temperature is in `configs/task_config.yaml`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from jobs.formats.json_files import files_below, head_of, read_lines
from jobs.formats.samples import Evaluation, Query, Sample, SampleBatch, TaskFacts, in_batches, text_hash
from jobs.formats.write_run import as_text
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_YAML, read_input

FOLDER = "reviews"


class Evalscope(SampleSource):
    """Output folders of evalscope, or single review files."""

    described = "output of evalscope"
    accepted = "output folders of evalscope"

    def recognises(self, path: str) -> bool:
        """Whether there are review files."""
        return next(_reviews(Path(path)), None) is not None

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per review file."""
        return [
            Evaluation(str(file), partial(_read, file), _settings(file))
            for file in sorted(_reviews(Path(path.path)))
        ]


SOURCE: Source = Evalscope()


def _reviews(path: Path) -> Iterator[Path]:
    files = files_below(path, f"{FOLDER}/*/*.jsonl") if path.is_dir() else iter([path])
    for file in files:
        if file.parent.parent.name == FOLDER and b'"index"' in head_of(file):
            yield file


@cache
def _config(run: Path) -> dict[str, Any]:
    """The configuration of the evaluation in a folder; empty where there is none."""
    path = next(iter(sorted((run / "configs").glob("task_config*.yaml"))), None)
    if path is None:
        return {}
    try:
        content = yaml.safe_load(read_input(path, LARGEST_YAML))
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    return content if isinstance(content, dict) else {}


def _generation(file: Path) -> dict[str, Any]:
    config = _config(file.parent.parent.parent)
    stated = config.get("generation_config")
    return stated if isinstance(stated, dict) else {}


def _settings(file: Path) -> dict[str, object]:
    generation = {
        name: value for name, value in _generation(file).items() if name not in {"seed", "batch_size"}
    }
    config = _config(file.parent.parent.parent)
    return {"generation_config": generation, "model_args": config.get("model_args") or {}} if config else {}


def _read(file: Path, query: Query) -> Iterator[SampleBatch]:
    temperature = _generation(file).get("temperature")
    rows = [_sample(row, number, file, query) for number, row in read_lines(file)]
    repeats: dict[int | str, int] = {}
    for _, sample in sorted(rows, key=lambda row: row[0]):
        sample.rerun = repeats[sample.item] = repeats.get(sample.item, -1) + 1
        sample.temperature = float(temperature) if isinstance(temperature, (int, float)) else None
    if all(count == 0 for count in repeats.values()):
        for _, sample in rows:
            sample.rerun = None
    main = next((name for _, sample in rows for name in sample.scores), None)
    facts = TaskFacts(file.stem, preferred=() if main is None else (main,), output_type="generate_until")
    yield from in_batches(facts, file.parent.name, (sample for _, sample in rows))


def _sample(row: Mapping[str, Any], number: int, file: Path, query: Query) -> tuple[int, Sample]:
    """A sample and its index, which orders the repeats of an item."""
    of_sample = row.get("sample_score")
    of_sample = of_sample if isinstance(of_sample, dict) else {}
    score = of_sample.get("score")
    if not isinstance(row.get("index"), int) or not isinstance(score, dict):
        raise UserError(f"Line {number} of {file} is not a review of evalscope: it lacks index or score.")
    group = of_sample.get("group_id")
    prompt = _prompt(row.get("messages"))
    metadata = of_sample.get("sample_metadata") or {}
    label = metadata.get(query.cluster) if query.cluster else None
    found = Sample(
        item=row["index"] if group is None else group,
        scores=_main_first(score),
        prompt_hash=text_hash(prompt),
        cluster=None if label is None else str(label),
        prompt=prompt if query.needs_prompts else None,
        response=as_text(score.get("prediction")) if query.needs_responses else None,
    )
    if query.documents:
        found.target = as_text(row.get("target"))
        found.doc = {"id": found.item, "metadata": metadata}
        found.filtered = {"none": as_text(score.get("extracted_prediction"))}
    return row["index"], found


def _main_first(score: Mapping[str, Any]) -> dict[str, object]:
    values = score.get("value")
    if not isinstance(values, dict):
        return {}
    main = score.get("main_score_name")
    return {**({main: values[main]} if main in values else {}), **values}


def _prompt(messages: object) -> str | None:
    """The messages up to the answer, as JSON: role and content."""
    if not isinstance(messages, list):
        return None
    asked = [message for message in messages if isinstance(message, dict)]
    if asked and asked[-1].get("role") == "assistant":
        asked = asked[:-1]
    return as_text([[message.get("role"), message.get("content")] for message in asked])
