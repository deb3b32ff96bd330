"""Reads `results.jsonl` of verifiers (`vf-eval --save-results`), with `metadata.json` beside it.

A file is an evaluation of one model in one environment. Rows with one `example_id` are rollouts of one
example, that is, reruns. Field names are those of `RolloutOutput` and `GenerateMetadata` in the package
(version 0.1).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_with, read_lines, read_object
from jobs.formats.samples import Evaluation, Query, Sample, SampleBatch, TaskFacts, in_batches, text_hash
from jobs.formats.write_run import as_text
from jobs.scores.samples.names import DEFAULT_TASK
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError

FILE, METADATA = "results.jsonl", "metadata.json"
REWARD = "reward"


class Verifiers(SampleSource):
    """Results of verifiers, or folders of them."""

    described = "results of verifiers"
    accepted = "results.jsonl of verifiers"

    def recognises(self, path: str) -> bool:
        """Whether there are rows with an example's id."""
        return next(_files(path), None) is not None

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per file; several of one model and environment are further rollouts, since none has a date."""
        return [_evaluation(file, _metadata(file)) for file in _files(path.path)]


SOURCE: Source = Verifiers()


def _files(path: str) -> Iterator[Path]:
    return files_with(Path(path), FILE, b'"example_id"')


def _metadata(file: Path) -> dict[str, Any]:
    path = file.with_name(METADATA)
    return read_object(path) if path.is_file() else {}


def _evaluation(file: Path, metadata: Mapping[str, Any]) -> Evaluation:
    """Without metadata, environment and model are taken from the folder's name, `ENVIRONMENT--MODEL`."""
    environment, _, folder_model = file.absolute().parent.parent.name.partition("--")
    model = metadata.get("model") or folder_model.replace("--", "/") or None
    task = str(metadata.get("env_id") or (environment if folder_model else DEFAULT_TASK))
    sampling = metadata.get("sampling_args") or {}
    settings = {
        "environment arguments": metadata.get("env_args") or {},
        "sampling arguments": {name: value for name, value in sampling.items() if name != "seed"},
    }
    return Evaluation(
        str(file),
        partial(_read, file, task, model, sampling.get("temperature")),
        settings if metadata else {},
    )


def _read(
    file: Path, task: str, model: str | None, temperature: float | None, query: Query
) -> Iterator[SampleBatch]:
    facts = TaskFacts(task, preferred=(REWARD,), output_type="generate_until")
    yield from in_batches(facts, model, _samples(file, temperature, query))


def _samples(file: Path, temperature: float | None, query: Query) -> Iterator[Sample]:
    rollouts: dict[int | str, int] = {}
    for number, row in read_lines(file):
        example = row.get("example_id")
        if not isinstance(example, (int, str)) or REWARD not in row:
            raise UserError(
                f"Line {number} of {file} is not a rollout of verifiers: it lacks example_id or reward."
            )
        sample = _sample(row, query)
        sample.temperature = temperature
        sample.rerun = rollouts[example] = rollouts.get(example, -1) + 1
        yield sample


def _sample(row: Mapping[str, Any], query: Query) -> Sample:
    prompt, info = _messages(row.get("prompt")), row.get("info") or {}
    failure = row.get("error")
    label = info.get(query.cluster) if query.cluster and isinstance(info, Mapping) else None
    found = Sample(
        item=row["example_id"],
        scores={} if failure else {REWARD: row[REWARD], **(row.get("metrics") or {})},
        prompt_hash=text_hash(prompt),
        cluster=None if label is None else str(label),
        error=as_text(failure) if failure else None,
    )
    if query.needs_prompts:
        found.prompt = prompt
    if query.needs_responses:
        found.response = _answer(row.get("completion"))
        found.finish_reason = "length" if row.get("is_truncated") else row.get("stop_condition")
    if query.documents:
        usage = row.get("token_usage") or {}
        found.target, found.doc = as_text(row.get("answer")), {"id": found.item, "info": info}
        found.prompt_tokens, found.output_tokens = _count(usage, "input"), _count(usage, "output")
    return found


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


def _count(usage: Mapping[str, Any], side: str) -> int | None:
    count = usage.get(f"{side}_tokens")
    return None if count is None else int(count)
