"""Reads logs of inspect_ai: a log is an evaluation, its epochs are reruns.

Field names are those of the package's own log format (`inspect_ai.log.EvalLog`), values of scores those of
`value_to_float` in its scorers: "C" is 1, "P" is 0.5, "I" and "N" are 0, NaN is a sample that was not scored.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.inspect_log import LogFile, is_log
from jobs.formats.json_files import files_at
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import (
    Evaluation,
    InputQuery,
    SampleBatch,
    TaskFacts,
    as_text,
    in_batches,
    text_hash,
)

GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0}
ATTACHMENT = "attachment://"
NOT_SETTINGS = {"seed", "max_connections", "max_retries", "timeout", "attempt_timeout", "batch", "cache"}


def _logs(path: str) -> Iterator[Path]:
    return (file for file in files_at(path, "*.*") if file.is_file() and is_log(file))


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """One per log, the oldest first; of several attempts at one task (`inspect eval-retry`) only the last.

    It holds what the others did.
    """
    logs = [LogFile.open(file) for file in sorted(_logs(path.path))]
    last = {
        (log.header["eval"].get("task_id") or str(log.path), log.header["eval"]["model"]): log
        for log in sorted(logs, key=lambda log: str(log.header["eval"].get("created")))
    }
    return [_evaluation(log) for log in last.values()]


FORMAT = InputFormat("a log of inspect_ai", "logs of inspect_ai (.eval, .json)", _logs, _evaluations)


def _evaluation(log: LogFile) -> Evaluation:
    of_eval = log.header["eval"]
    task = of_eval["task"]
    generation = {name: value for name, value in _generation(log).items() if name not in NOT_SETTINGS}
    settings = {
        f"generation settings of {task}": generation,
        f"arguments of {task}": of_eval.get("task_args") or {},
        "model arguments": of_eval.get("model_args") or {},
    }
    return Evaluation(str(log.path), partial(_read, log), settings, (str(of_eval["model"]), str(task)))


def _generation(log: LogFile) -> dict[str, Any]:
    """Everything that the log states about generation: the model's own settings under those of the task."""
    plan, of_eval = log.header.get("plan") or {}, log.header["eval"]
    return {**(of_eval.get("model_generate_config") or {}), **(plan.get("config") or {})}


def _read(log: LogFile, query: InputQuery) -> Iterator[SampleBatch]:
    of_eval, status = log.header["eval"], log.header.get("status")
    ids = (of_eval.get("dataset") or {}).get("sample_ids") or []
    facts = TaskFacts(str(of_eval["task"]), evaluated=len(ids))
    has_epochs = ((of_eval.get("config") or {}).get("epochs") or 1) > 1
    stated = _generation(log).get("temperature")
    temperature = float(stated) if isinstance(stated, (int, float)) else None
    samples = (
        {
            **_sample(sample, query),
            "temperature": temperature,
            "rerun": int(sample.get("epoch") or 1) if has_epochs else None,
        }
        for sample in log.samples()
    )
    said = f"{log.path} did not end successfully: its status is {status}."
    warnings = [] if status == "success" else [Notice(NoticeCode.CUT_SHORT, said)]
    return in_batches(facts, str(of_eval["model"]), samples, warnings)


def _sample(sample: Mapping[str, Any], query: InputQuery) -> dict[str, Any]:
    failure = sample.get("error")
    prompt = _text(sample.get("input"), sample)
    found: dict[str, Any] = {
        "item": sample["id"],
        "scores": {} if failure else _scores(sample.get("scores") or {}),
        "prompt_hash": text_hash(as_text([prompt, sample.get("choices")])),
        "prompt": prompt,
        "cluster": query.label(sample.get("metadata")),
        "error": as_text(failure.get("message")) if isinstance(failure, dict) else as_text(failure),
    }
    if query.needs_responses:
        output = sample.get("output") or {}
        choice = next(iter(output.get("choices") or []), None) or {}
        usage = output.get("usage") or {}
        completion = output.get("completion") or (choice.get("message") or {}).get("content")
        found |= {
            "response": _text(completion, sample),
            "finish_reason": choice.get("stop_reason"),
            "prompt_tokens": usage.get("input_tokens"),
            "output_tokens": usage.get("output_tokens"),
        }
    if query.documents:
        found["target"] = as_text(sample.get("target"))
        found["doc"] = {name: sample[name] for name in ("id", "choices", "metadata") if sample.get(name)}
    return found


def _scores(stated: Mapping[str, Any]) -> dict[str, object]:
    """Scores by scorer; values that are mappings by "scorer.key"."""
    scores: dict[str, object] = {}
    for scorer, score in stated.items():
        value = score.get("value") if isinstance(score, Mapping) else score
        if isinstance(value, Mapping):
            scores |= {f"{scorer}.{key}": _number(part) for key, part in value.items()}
        else:
            scores[scorer] = _number(value)
    return scores


def _number(value: object) -> object:
    if isinstance(value, str):
        return GRADES.get(value, value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(content: object, sample: Mapping[str, Any]) -> str | None:
    """A text, or the texts of messages or of parts of a message; attachments are put in."""
    if isinstance(content, str):
        if not content.startswith(ATTACHMENT):
            return as_text(content)
        return as_text((sample.get("attachments") or {}).get(content.removeprefix(ATTACHMENT), content))
    if isinstance(content, list):
        parts = [_text(part, sample) for part in content]
        return "\n".join(part for part in parts if part)
    if isinstance(content, Mapping):
        inner = content.get("content", content.get("text"))
        return _text(inner, sample) if inner is not None else None
    return None if content is None else as_text(content)
