"""Reads logs of inspect_ai, a zip archive (.eval) or a JSON file, without inspect_ai: its epochs are reruns.

Field names are those of the package's own log format (`inspect_ai.log.EvalLog`), values of scores those of
`value_to_float` in its scorers: "C" is 1, "P" is 0.5, "I" and "N" are 0, NaN is a sample that was not scored.

Archives are read entry by entry and nothing is ever written to disk. Zstandard, the default of newer
versions, is decompressed by pyarrow, since this Python's zipfile does not know it.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.formats.json_files import JsonObject, as_text, files_at, head_of, text_hash
from jobs.formats.notices import Notice, NoticeCode
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Samples, Stated, TaskFacts
from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_JSON, open_input, parse_json

ZSTANDARD = 93
VERSIONS = (1, 2)
NEEDED = {"version", "status", "eval", "plan"}
MOST_ENTRIES = 250_000
LARGEST_RATIO, ALWAYS_READ = 100, 512 << 20
"""An archive may hold so many times its own size, and so many bytes in any case."""
LARGEST_DIRECTORY = 50 << 20  # bytes; zipfile reads all of it, whatever it lists
LONGEST_END = 1 << 17  # bytes that hold the record at the end, with its longest comment
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, ZSTANDARD)

Header = dict[str, Any]

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    pa.ArrowException,
)
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "no": 0.0}
ATTACHMENT = "attachment://"
NOT_SETTINGS = {"seed", "max_connections", "max_retries", "timeout", "attempt_timeout", "batch", "cache"}


def _logs(path: str) -> Iterator[Path]:
    return (file for file in files_at(path, "*.*") if file.is_file() and is_log(file))


def _evaluations(path: str) -> Iterator[Evaluation]:
    """One per log, the oldest first; of several attempts at one task (`inspect eval-retry`) only the last.

    It holds what the others did.
    """
    logs = [(file, header_of(file)) for file in sorted(_logs(path))]
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
    of_eval, status, stated = header["eval"], header.get("status"), dict[str, Stated]()
    for score in (header.get("results") or {}).get("scores") or []:
        if "accuracy" in (score.get("metrics") or {}):  # its mean is an accuracy: higher is better
            names = score["name"], f"{score.get('scorer')}.{score['name']}"
            stated |= dict.fromkeys(names, Stated(higher_is_better=True))
    ids = (of_eval.get("dataset") or {}).get("sample_ids") or []
    said = f"{file} did not end successfully: its status is {status}."
    facts = TaskFacts(
        str(of_eval["task"]),
        str(of_eval["model"]),
        _generation(header).get("temperature"),
        stated=stated,
        evaluated=len(ids),
        warnings=() if status == "success" else (Notice(NoticeCode.CUT_SHORT, said),),
    )
    has_epochs = ((of_eval.get("config") or {}).get("epochs") or 1) > 1
    yield facts
    for sample in samples_of(file):
        rerun = int(sample.get("epoch") or 1) if has_epochs else None
        failure, output = sample.get("error"), sample.get("output") or {}
        prompt, usage = _text(sample.get("input"), sample), output.get("usage") or {}
        choice = next(iter(output.get("choices") or []), None) or {}
        answer = output.get("completion") or (choice.get("message") or {}).get("content")
        yield query.sample(
            sample["id"],
            _scores(sample),
            rerun=rerun,
            labels=sample.get("metadata"),
            prompt_hash=text_hash(as_text([prompt, sample.get("choices")])),
            prompt=prompt,
            error=failure.get("message") if isinstance(failure, dict) else failure,
            response=_text(answer, sample),
            finish_reason=choice.get("stop_reason"),
            prompt_tokens=usage.get("input_tokens"),
            output_tokens=usage.get("output_tokens"),
            target=sample.get("target"),
            doc={name: sample[name] for name in ("id", "choices", "metadata") if sample.get(name)},
        )


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


def is_log(path: Path) -> bool:
    """Whether a file is a log: by its entries, or by the beginning of its text."""
    if path.suffix == ".eval":
        return path.is_file()
    if path.suffix != ".json":
        return False
    head = head_of(path).lstrip()
    return head.startswith(b"{") and b'"version"' in head and b'"eval"' in head and b'"task"' in head


def header_of(path: Path) -> Header:
    """Everything of a log but its samples: status, eval, plan, results.

    Raises UserError if the file is damaged, or is not a log.
    """
    header: Header = {}
    if path.suffix == ".eval":
        header = _archive_header(path)
    else:
        with JsonObject(path) as log:  # inspect_ai writes the samples last: only if something lacks, go on
            for key in log:
                if key != "samples":
                    header[key] = log.value()
                elif header.keys() >= NEEDED:
                    break
                else:
                    for _ in log.items():
                        pass
    if not isinstance(header.get("eval"), dict) or not {"task", "model"} <= header["eval"].keys():
        raise UserError(f"{path} is not a log of inspect_ai: it names no task and model.")
    if header.get("version", 1) not in VERSIONS:
        raise UserError(f"{path} is a log of version {header['version']}, which this lldeg does not know.")
    return header


def samples_of(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a log, one at a time.

    Raises UserError if one is damaged.
    """
    if path.suffix != ".eval":
        with JsonObject(path) as log:
            for sample in log.items_of("samples"):
                yield _checked(sample, str(path))
        return
    with _opened(path) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith("samples/") and entry.filename.endswith(".json"):
                where = f"{entry.filename} in {path}"
                yield _checked(parse_json(_content(archive, entry, where), where), where)


def _checked(sample: object, where: str) -> dict[str, Any]:
    if not isinstance(sample, dict) or not isinstance(sample.get("id"), (int, str)):
        raise UserError(f"{where} is not a sample of inspect_ai: it has no id.")
    return sample


def _archive_header(path: Path) -> Header:
    with _opened(path) as archive:
        names = archive.namelist()
        # A log whose evaluation did not end has only the beginning of its journal.
        name = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
        if name is None:
            raise UserError(f"{path} is not a log of inspect_ai: it has no header.json.")
        where = f"{name} in {path}"
        header = parse_json(_content(archive, archive.getinfo(name), where), where)
    if not isinstance(header, dict):
        raise UserError(f"{where} is not a JSON object.")
    return {"status": "started", **header}


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        with open_input(path) as file:
            file.seek(max(0, path.stat().st_size - LONGEST_END))
            end = file.read()
        record, long_record = end.rfind(b"PK\5\6"), end.rfind(b"PK\6\6")
        # Bytes of the list of entries, by the record at the end
        size = int.from_bytes(end[record + 12 : record + 16], "little") if record >= 0 else 0
        if size == 0xFFFFFFFF and long_record >= 0:
            size = int.from_bytes(end[long_record + 40 : long_record + 48], "little")
        if size > LARGEST_DIRECTORY:
            raise UserError(f"{path} is not a log of inspect_ai: it has more than {MOST_ENTRIES:,} entries.")
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a log of inspect_ai: {error}. It may be cut short; copy it again."
        ) from error
    # What no log has, and what an archive has that is made to fill the memory or to take hours
    entries, of_file, problem = archive.infolist(), path.stat().st_size, None
    names = (entry.filename for entry in entries)
    if len(entries) > MOST_ENTRIES:
        problem = f"it has more than {MOST_ENTRIES:,} entries"
    elif sum(entry.compress_size for entry in entries) > of_file:
        problem = "its entries overlap"
    elif sum(entry.file_size for entry in entries) > max(ALWAYS_READ, LARGEST_RATIO * of_file):
        problem = f"it holds more than {LARGEST_RATIO} times its own size"
    elif outside := [name for name in names if name.startswith("/") or ".." in name.split("/")]:
        problem = f"it has an entry outside of itself, {outside[0]!r}"
    if problem:
        archive.close()
        raise UserError(f"{path} is not a log of inspect_ai: {problem}.")
    return archive


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    """An entry; one compressed with Zstandard, which zipfile refuses, from its raw bytes."""
    if entry.file_size > LARGEST_JSON:
        raise UserError(f"{where} is larger than {LARGEST_JSON >> 20} MiB.")
    if entry.compress_type not in METHODS:  # zipfile expands others without a limit
        raise UserError(f"{where} is compressed by a method that inspect_ai does not use.")
    try:
        if entry.compress_type != ZSTANDARD:
            with archive.open(entry) as content:
                return content.read(LARGEST_JSON)  # a wrong size shows in the checksum
        file = archive.fp
        if file is None:
            raise zipfile.BadZipFile("the archive is closed")
        file.seek(entry.header_offset)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile("its local header is missing")
        name, extra = (int.from_bytes(head[start : start + 2], "little") for start in (26, 28))
        file.seek(entry.header_offset + 30 + name + extra)
        raw = file.read(entry.compress_size)
        content = pa.Codec("zstd").decompress(raw, entry.file_size, asbytes=True)
    except UNREADABLE as error:
        raise UserError(f"{where} is damaged: {error}.") from error
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise UserError(f"{where} is damaged: its checksum does not match.")
    return bytes(content)
