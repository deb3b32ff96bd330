"""Reads `results.jsonl` of verifiers (`vf-eval --save-results`), with `metadata.json` beside it.

A file is an evaluation of one model in one environment. Rows with one `example_id` are rollouts of one
example, that is, reruns. Field names are those of `RolloutOutput` and `GenerateMetadata` in the package
(version 0.1).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from jobs.formats.json_files import as_text, files_with, read_lines, read_object
from jobs.formats.samples import DEFAULT_TASK, Evaluation, InputFormat, InputQuery, Samples, TaskFacts

FILE, METADATA = "results.jsonl", "metadata.json"
REWARD = "reward"
_files = partial(files_with, name=FILE, key=b'"example_id"')


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per file; several of one model and environment are further rollouts, since none has a date.

    Without metadata, environment and model are taken from the folder's name, `ENVIRONMENT--MODEL`.
    """
    for file in _files(path):
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
        facts = TaskFacts(task, model, sampling.get("temperature"), (REWARD,))
        yield Evaluation(str(file), partial(_read, file, facts), settings if metadata else {})


FORMAT = InputFormat("results of verifiers", "results.jsonl of verifiers", _files, _evaluations)


def _read(file: Path, facts: TaskFacts, query: InputQuery) -> Samples:
    yield facts
    rollouts: Counter[int | str] = Counter()
    for _, row in read_lines(file, "a rollout of verifiers", {"example_id": (int, str), REWARD: object}):
        example, failure, info = row["example_id"], row.get("error"), row.get("info") or {}
        usage, prompt = row.get("token_usage") or {}, row.get("prompt")
        if isinstance(prompt, list):
            prompt = [[m.get("role"), m.get("content")] for m in prompt if isinstance(m, Mapping)]
        answer = row.get("completion") if "response" in query.wanted else None
        if isinstance(answer, list):  # what the model said, over all turns
            turns = [m for m in answer if isinstance(m, Mapping) and m.get("role") == "assistant"]
            answer = "\n".join(as_text(turn.get("content")) or "" for turn in turns)
        yield query.sample(
            example,
            {} if failure else {REWARD: row[REWARD], **(row.get("metrics") or {})},
            rerun=rollouts[example],
            labels=info,
            prompt=prompt,
            error=failure or None,
            response=answer,
            finish_reason="length" if row.get("is_truncated") else row.get("stop_condition"),
            prompt_tokens=usage.get("input_tokens"),
            output_tokens=usage.get("output_tokens"),
            target=row.get("answer"),
            doc={"id": example, "info": info},
        )
        rollouts[example] += 1
