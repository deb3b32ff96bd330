"""Reads logs of inspect_ai: a log is an evaluation, its epochs are reruns.

Field names are those of the package's own log format (`inspect_ai.log.EvalLog`), values of scores those of
`value_to_float` in its scorers: "C" is 1, "P" is 0.5, "I" and "N" are 0, NaN is a sample that was not scored.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.formats.inspect_log import Header, header_of, is_log, samples_of
from jobs.formats.json_files import as_text, files_at, text_hash
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, NamedPath, Samples, TaskFacts

GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0}
ATTACHMENT = "attachment://"
NOT_SETTINGS = {"seed", "max_connections", "max_retries", "timeout", "attempt_timeout", "batch", "cache"}


def _logs(path: str) -> Iterator[Path]:
    return (file for file in files_at(path, "*.*") if file.is_file() and is_log(file))


def _evaluations(path: NamedPath) -> Iterator[Evaluation]:
    """One per log, the oldest first; of several attempts at one task (`inspect eval-retry`) only the last.

    It holds what the others did.
    """
    logs = [(file, header_of(file)) for file in sorted(_logs(path.path))]
    last = {
        (header["eval"].get("task_id") or str(file), header["eval"]["model"]): (file, header)
        for file, header in sorted(logs, key=lambda log: str(log[1]["eval"].get("created")))
    }
    for file, header in last.values():
        of_eval, generation = header["eval"], _generation(header)
        task = of_eval["task"]
        settings = {
            f"generation settings of {task}": {k: v for k, v in generation.items() if k not in NOT_SETTINGS},
            f"arguments of {task}": of_eval.get("task_args") or {},
            "model arguments": of_eval.get("model_args") or {},
        }
        subject = str(of_eval["model"]), str(task)
        yield Evaluation(str(file), partial(_read, file, header), settings, subject)


FORMAT = InputFormat("a log of inspect_ai", "logs of inspect_ai (.eval, .json)", _logs, _evaluations)


def _generation(header: Header) -> dict[str, Any]:
    """Everything that the log states about generation: the model's own settings under those of the task."""
    plan, of_eval = header.get("plan") or {}, header["eval"]
    return {**(of_eval.get("model_generate_config") or {}), **(plan.get("config") or {})}


def _read(file: Path, header: Header, query: InputQuery) -> Samples:
    of_eval, status = header["eval"], header.get("status")
    ids = (of_eval.get("dataset") or {}).get("sample_ids") or []
    said = f"{file} did not end successfully: its status is {status}."
    facts = TaskFacts(
        str(of_eval["task"]),
        str(of_eval["model"]),
        _generation(header).get("temperature"),
        evaluated=len(ids),
        warnings=() if status == "success" else (Notice(NoticeCode.CUT_SHORT, said),),
    )
    has_epochs = ((of_eval.get("config") or {}).get("epochs") or 1) > 1
    yield facts, None
    for sample in samples_of(file):
        rerun = int(sample.get("epoch") or 1) if has_epochs else None
        yield facts, query.sample(sample["id"], _scores(sample), rerun=rerun, **_told(sample))


def _told(sample: Mapping[str, Any]) -> dict[str, Any]:
    failure, output = sample.get("error"), sample.get("output") or {}
    prompt, usage = _text(sample.get("input"), sample), output.get("usage") or {}
    choice = next(iter(output.get("choices") or []), None) or {}
    return {
        "labels": sample.get("metadata"),
        "prompt_hash": text_hash(as_text([prompt, sample.get("choices")])),
        "prompt": prompt,
        "error": failure.get("message") if isinstance(failure, dict) else failure,
        "response": _text(output.get("completion") or (choice.get("message") or {}).get("content"), sample),
        "finish_reason": choice.get("stop_reason"),
        "prompt_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "target": sample.get("target"),
        "doc": {name: sample[name] for name in ("id", "choices", "metadata") if sample.get(name)},
    }


def _scores(sample: Mapping[str, Any]) -> dict[str, object]:
    """Scores by scorer, values that are mappings by "scorer.key"; none of a failed sample."""
    scores: dict[str, object] = {}
    stated = {} if sample.get("error") else sample.get("scores") or {}
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
