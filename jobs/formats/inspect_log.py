"""One log of inspect_ai: a zip archive (.eval) or a JSON file, read without inspect_ai itself.

Archives are read entry by entry and nothing is ever written to disk. Zstandard, the
default of newer versions, is decompressed by pyarrow where this Python's zipfile does not know it.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.formats.json_files import JsonObject, head_of
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

    Raises:
        UserError: if the file is damaged, or is not a log.
    """
    header = _archive_header(path) if path.suffix == ".eval" else _json_header(path)
    if not isinstance(header.get("eval"), dict) or not {"task", "model"} <= header["eval"].keys():
        raise UserError(f"{path} is not a log of inspect_ai: it names no task and model.")
    if header.get("version", 1) not in VERSIONS:
        raise UserError(f"{path} is a log of version {header['version']}, which this lldeg does not know.")
    return header


def samples_of(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a log, one at a time.

    Raises:
        UserError: if one is damaged.
    """
    if path.suffix != ".eval":
        with JsonObject(path) as log:
            for key in log:
                if key != "samples":
                    log.value()
                    continue
                for sample in log.items():
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


def _json_header(path: Path) -> Header:
    """Everything before the samples, which inspect_ai writes last; what follows only if something lacks."""
    header: Header = {}
    with JsonObject(path) as log:
        for key in log:
            if key != "samples":
                header[key] = log.value()
            elif header.keys() >= NEEDED:
                break
            else:
                for _ in log.items():
                    pass
    return header


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
        if _directory_size(path) > LARGEST_DIRECTORY:
            raise UserError(f"{path} is not a log of inspect_ai: it has more than {MOST_ENTRIES:,} entries.")
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a log of inspect_ai: {error}. It may be cut short; copy it again."
        ) from error
    if problem := _archive_problem(archive.infolist(), path.stat().st_size):
        archive.close()
        raise UserError(f"{path} is not a log of inspect_ai: {problem}.")
    return archive


def _directory_size(path: Path) -> int:
    """Bytes of the list of entries, by the record at the end of an archive; 0 if there is none."""
    with open_input(path) as file:
        file.seek(max(0, path.stat().st_size - LONGEST_END))
        end = file.read()
    record, long_record = end.rfind(b"PK\5\6"), end.rfind(b"PK\6\6")
    size = int.from_bytes(end[record + 12 : record + 16], "little") if record >= 0 else 0
    if size == 0xFFFFFFFF and long_record >= 0:
        return int.from_bytes(end[long_record + 40 : long_record + 48], "little")
    return size


def _archive_problem(entries: list[zipfile.ZipInfo], size: int) -> str | None:
    """What no log has, and what an archive has that is made to fill the memory or to take hours."""
    if len(entries) > MOST_ENTRIES:
        return f"it has more than {MOST_ENTRIES:,} entries"
    if sum(entry.compress_size for entry in entries) > size:
        return "its entries overlap"
    if sum(entry.file_size for entry in entries) > max(ALWAYS_READ, LARGEST_RATIO * size):
        return f"it holds more than {LARGEST_RATIO} times its own size"
    names = (entry.filename for entry in entries)
    outside = next((name for name in names if name.startswith("/") or ".." in name.split("/")), None)
    return None if outside is None else f"it has an entry outside of itself, {outside!r}"


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
