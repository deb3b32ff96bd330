"""The run directory: the one class that owns every path in it, on any filesystem pyarrow knows.

Files appear whole or not at all (`whole_files`). A block keeps its name, so writing it again replaces it.

Every file of samples or items holds a checksum of itself, and every reader opens it here, where that is
verified: a bit that has changed on the disk is noticed, and its file counts for nothing, instead of a score
that no model earned. The checksum (BLAKE2b, 128 bits, of all other bytes) stands right before Parquet's
footer, where no offset points, so that other programs read the files as they are. It covers footer and page
headers, too, which Parquet's checksums of pages leave out; those alone find the damage in files of earlier
versions. A file also says where in the run it belongs: in the place of another one it is as good as damaged.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from hashlib import blake2b
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_JSON, open_input, parse_json, read_within
from orchestrator.rundir import schema
from orchestrator.rundir.schema import FORMAT, PLACE_KEY, SOFTWARE_KEY, AggregateRow, Manifest, misshapen
from orchestrator.rundir.whole_files import Folder, remove_unfinished

MANIFEST, SWEEP, AGGREGATES = "manifest.json", "sweep.yaml", "aggregates.json"
LOOKS, LEDGER = "looks.json", "looks.jsonl"
REPLICA_LOG, LARGEST_LOG, LOG_PART = "replica-", 1 << 30, 1 << 20
_LOGS = "logs"
LONGEST_NAME, LONGEST_PATH, LONGEST_KEY = 255, 4095, 1024
"""Bytes of one part of a path on all common disks, of a path on Linux, and of the key of an object in S3."""
_BLOCK = ".0000000-0123456789ab.parquet"
_LAST_REPLICA = 99_999
_TEXTS = {"response", "filtered", "corpus_values"}
DECIDING = [name for name in schema.sample_schema().names if name not in _TEXTS]
"""Columns of samples but for the texts, which fill most of a file and which no verdict rests on."""
DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What pyarrow raises for content that is not what it was; it is in memory, so that no storage fails."""
LARGEST_COLUMN, MOST_ROWS, LARGEST_RATIO = 256 << 20, 4_000_000, 100
"""Bytes of a column as a file holds it, half of what its texts may take in memory, unless the file itself is
larger than a hundredth; and rows."""
_MARK, _MAGIC = b"lldeg.checksum=", b"PAR1"
_LENGTH, _END = len(_MARK) + 32, 8  # bytes of a checksum, and after Parquet's footer: its length, and "PAR1"
_OWN_NAME = re.compile(r"(\d{7}-[0-9a-f]{12}|\d{12})\.parquet")


def segment(name: str) -> str:
    """A name as one path segment: percent-encoded but for letters, digits and -_.~, a first dot too."""
    encoded = quote(name, safe="")
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded


def replica_log_name(number: int, variant: str) -> str:
    """Name of the log of one replica."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in variant)
    return f"{REPLICA_LOG}{number:03d}-{name}.log"


class RunStore(Folder):
    """Reads and writes one run directory: a folder, or a URL such as s3://bucket/runs/llama3.

    A replica opens one with `must_answer=False`: it waits for a store that is away. The lock of a submit is
    beside what a user may remove; an object store has none.
    """

    def __init__(self, url: str | Path, *, must_answer: bool = True, samples: str = "samples") -> None:
        super().__init__(url, must_answer=must_answer)
        self._samples = samples
        self.lock_path = self.local_folder and self.local_folder / ".lock"
        self._unsent: dict[str, list[str]] = {}  # lines of logs on an object store

    def remove_unfinished(self) -> None:
        """Remove the half-written files that killed processes have left."""
        for folder, _, _ in os.walk(self.path) if self.local_folder else ():
            remove_unfinished(Path(folder))

    def name_problems(self, variants: Iterable[str], tasks: Iterable[str]) -> Iterator[str]:
        """Names of variants and tasks that the run directory cannot hold, each as the end of a sentence.

        A name is percent-encoded in paths, where a Chinese character takes nine bytes. One that is too long
        would be noticed only when the first block is written, after it was answered.
        """
        folders = []
        for kind, names in (("variant", variants), ("task", tasks)):
            longest = ""
            for name in names:
                encoded = segment(name)
                file = f"{encoded}.parquet" if kind == "task" else replica_log_name(_LAST_REPLICA, name)
                size = max(len(part.encode()) for part in (f"{kind}={encoded}", file))
                if size > LONGEST_NAME:
                    most = f"and {LONGEST_NAME} is the most: shorten it"
                    yield f"the name of the {kind} '{name}' takes {size} bytes in a path, {most}"
                longest = max(longest, encoded, key=len)
            folders.append(f"{kind}={longest}")
        size = len("/".join([self.path, "fidelity", *folders, _BLOCK]).encode())
        limit = LONGEST_KEY if self.local_folder is None else LONGEST_PATH
        if size > limit:
            yield f"a path in {self.url} would take {size} bytes, and {limit} is the most: shorten it"
        for path in () if self.local_folder is None else (self.local_folder, *self.local_folder.parents):
            with suppress(OSError):  # a name that is too long, which is reported
                if path.exists():
                    if not path.is_dir():
                        yield f"{self.url} cannot hold a run directory: {path} is not a folder"
                    return

    @cached_property
    def fidelity(self) -> "RunStore":
        """The same run directory, whose samples are the scores of the baseline's answers."""
        return RunStore(self.url, must_answer=False, samples="fidelity")

    def has_run(self) -> bool:
        """Whether a sweep was ever started here."""
        return self.has(MANIFEST)

    def read_manifest(self) -> Manifest:
        """The manifest; a UserError if there is none, or it is damaged or of a later version."""
        manifest = parse_json(self._read_own(MANIFEST), f"{self.url}/{MANIFEST} is damaged: it")
        if not isinstance(manifest, dict) or not {"variants", "tasks"} <= manifest.keys():
            raise UserError(f"{self.url} is not a run directory: {MANIFEST} lists no variants and tasks.")
        if (problem := misshapen(manifest, Manifest)) is not None:
            raise UserError(f"{self.url}/{MANIFEST} is damaged: {problem}.")
        if manifest.get("format", 1) > FORMAT:
            raise UserError(f"{self.url} was written by a later version of lldeg: update lldeg to read it.")
        return cast("Manifest", manifest)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        self.write(MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False).encode())

    def read_sweep(self) -> str:
        """The sweep's YAML text; a UserError if there is none."""
        return self._read_own(SWEEP).decode()

    def write_sweep(self, text: str) -> None:
        """Replace the sweep's YAML text."""
        self.write(SWEEP, text.encode())

    def read_looks(self, name: str = LOOKS) -> bytes:
        """looks.json, or the ledger of looks; empty if there is none."""
        return self._read(name) if self.has(name) else b""

    def read_aggregates(self) -> list[AggregateRow]:
        """The rows of aggregates.json, none if it is not there; a UserError if it is damaged."""
        damaged = f"{self.url}/{AGGREGATES} is damaged: it"
        rows = parse_json(self._read(AGGREGATES), damaged) if self.has(AGGREGATES) else []
        if misshapen(rows, list[AggregateRow]) is not None:
            raise UserError(f"{damaged} does not list scores of corpora.")
        return cast("list[AggregateRow]", rows)

    def write_aggregates(self, rows: Sequence[AggregateRow]) -> None:
        """Replace aggregates.json."""
        self.write(AGGREGATES, json.dumps(rows, indent=1, ensure_ascii=False).encode())

    def write_items(self, task: str, items: pa.Table) -> None:
        """Replace the items (documents and prompts) of a task."""
        self._write_table(f"items/{segment(task)}.parquet", items)

    def read_items(self, task: str, columns: list[str] | None = None) -> pa.Table:
        """The items of a task; an ArrowInvalid for a torn or damaged file, a FileNotFoundError for none."""
        path = f"items/{segment(task)}.parquet"
        if (items := read_whole(self.filesystem, self.at(path), columns)) is None:
            raise pa.ArrowInvalid(f"{self.url}/{path} is torn or damaged")
        return items

    def write_block(
        self,
        variant: str,
        task: str,
        block: str,
        samples: pa.Table,
        software: str | None = None,  # what wrote them, by its ID in the manifest
        *,
        speed: schema.BlockSpeed | None = None,
    ) -> None:
        """Write the samples of one block as one file; the same block again replaces it."""
        facts = {SOFTWARE_KEY: software, schema.SPEED_KEY: speed and json.dumps(speed)}
        samples = samples.replace_schema_metadata({key: told for key, told in facts.items() if told})
        self._write_table(f"{self._cell(variant, task)}/{segment(block)}.parquet", samples)

    def read_cell(self, variant: str, task: str) -> dict[str, pa.Table | None]:
        """The samples of a variant on a task but for their texts, by file; None for one torn or damaged.

        What was in such a file (cut off by a failing disk, or with other bytes than were written) is missing.
        A UserError if there is a file that lldeg did not write.
        """
        paths = self._block_paths(variant, task)
        with ThreadPoolExecutor(readers(self.filesystem)) as pool:
            tables = pool.map(lambda path: read_whole(self.filesystem, path, DECIDING), paths)
            files = dict(zip(paths, tables, strict=True))
        for path, rows in files.items():
            if rows is None and not is_own(path):
                unknown = f"{path} is not a readable Parquet file, and lldeg did not write it"
                raise UserError(f"{unknown}: move it away.")
            if rows is not None and "sample_key" not in rows.column_names:
                raise UserError(f"{path} holds no samples of a sweep (it has no sample_key): move it away.")
        return files

    def remove_torn(self, files: Mapping[str, pa.Table | None]) -> None:
        """Remove the torn and damaged ones, whose samples may come back in other blocks."""
        for path, rows in files.items():
            if rows is None:
                self.filesystem.delete_file(path)

    def read_values(self, variant: str, task: str) -> Iterator[pa.Table]:
        """What the scores of a corpus follow from, file by file; torn and damaged files are left out."""
        for path in self._block_paths(variant, task):
            columns = ["item", "temperature", "seed", "scores", "corpus_values"]
            rows = read_whole(self.filesystem, path, columns)
            if rows is not None and "corpus_values" in rows.column_names:
                yield rows

    def read_answers(self, variant: str, task: str, items: Iterable[int]) -> pa.Table:
        """What a variant has answered to some items of a task; torn and damaged files are left out."""
        wanted, columns = pa.array(items, pa.int32()), ["item", "temperature", "seed", "response", "error"]
        files = (read_whole(self.filesystem, path, columns) for path in self._block_paths(variant, task))
        found = [rows.filter(pc.is_in(rows["item"], wanted)) for rows in files if rows is not None]
        return pa.concat_tables([schema.sample_schema().empty_table().select(columns), *found])

    def remove_errors(self, variant: str, task: str, beginning: str = "") -> None:
        """Remove the samples whose error begins so: they are missing then. Files are replaced in one step."""
        for path in self._block_paths(variant, task):
            errors = read_whole(self.filesystem, path, ["error"])
            if errors is None or len(without_errors(errors, beginning)) == len(errors):
                continue
            if (rows := read_whole(self.filesystem, path)) is None:  # `read_cell` will tell
                continue
            if len(kept := without_errors(rows, beginning)):
                self._write_table(path.removeprefix(f"{self.path}/"), kept)
            else:
                self.filesystem.delete_file(path)

    def _block_paths(self, variant: str, task: str) -> list[str]:
        selector = fs.FileSelector(self.at(self._cell(variant, task)), allow_not_found=True)
        files = self.filesystem.get_file_info(selector)
        return sorted(info.path for info in files if info.is_file and is_block(info.path))

    def sample_paths(self) -> dict[tuple[str, str], list[str]]:
        """Paths of all sample files by (variant, task), sorted; on an object store from one listing."""
        folder = self.at(self._samples)
        if isinstance(self.filesystem, fs.LocalFileSystem):  # whose selector would follow links for ever
            paths = [str(path) for path in Path(folder).glob("*/*/*.parquet") if path.is_file()]
        else:
            selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
            paths = [info.path for info in self.filesystem.get_file_info(selector) if info.is_file]
        found: dict[tuple[str, str], list[str]] = {}
        for path in sorted(paths):
            parts = path.removeprefix(f"{folder}/").split("/")
            if len(parts) == 3 and is_block(path):
                variant, task = (unquote(part.partition("=")[2]) for part in parts[:2])
                found.setdefault((variant, task), []).append(path)
        return found

    def _cell(self, variant: str, task: str) -> str:
        return f"{self._samples}/variant={segment(variant)}/task={segment(task)}"

    def append_log(self, name: str, line: str) -> None:
        """Add a line to a log; on an object store, which cannot append, `send_logs` adds it."""
        if self.local_folder is None:
            self._unsent.setdefault(name, []).append(line)
            return
        with self.open_log(name) as stream:
            end = stream.tell()
            # A writer died in the middle of a line, or the disk was full.
            torn = end > 0 and os.pread(stream.fileno(), 1, end - 1) != b"\n"
            stream.write(b"\n" * torn + f"{line}\n".encode())

    def send_logs(self) -> None:
        """On an object store, add the lines appended since the last call."""
        for name, lines in list(self._unsent.items()):
            if count := len(lines):
                text = "".join(line + "\n" for line in lines[:count])
                self.write_log(name, self.read_log(name) + text.encode())
                del lines[:count]

    def open_log(self, name: str) -> BinaryIO:
        """A log on a disk of this machine, opened for appending; an OSError if it cannot be written."""
        path = Path(self.at(f"{_LOGS}/{name}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")

    def read_log(self, name: str) -> bytes:
        """The content of a log; empty if there is none, or it was removed while it was read."""
        path = f"{_LOGS}/{name}"
        try:
            return self._read(path, LARGEST_LOG)
        except FileNotFoundError:
            pass
        except OSError:  # an object store has various words for what was removed once it was opened
            if self.filesystem.get_file_info(self.at(path)).type != fs.FileType.NotFound:
                raise
        return b""

    def read_log_lines(self, name: str, start: int) -> bytes:
        """The whole lines of a log from a byte on, about a megabyte; empty at its end or without a log."""
        try:
            with self.open(f"{_LOGS}/{name}") as stream:
                stream.seek(start)
                part = bytes(stream.read(LOG_PART))
        except FileNotFoundError:
            return b""
        end = part.rfind(b"\n") + 1
        return part[:end] if end or len(part) < LOG_PART else part

    def write_log(self, name: str, content: bytes) -> None:
        """Replace a log; after a power failure the old one may be back."""
        self.write(f"{_LOGS}/{name}", content, sync=False)

    def log_time(self, name: str) -> float | None:
        """When a log was written, in seconds by the storage's own clock; None if it does not say."""
        written = self.filesystem.get_file_info(self.at(f"{_LOGS}/{name}")).mtime
        return None if written is None else float(written.timestamp())

    def replica_logs(self, number: int | None = None) -> list[str]:
        """Names of the logs of all replicas or of those with a number, in order."""
        prefix = REPLICA_LOG if number is None else f"{REPLICA_LOG}{number:03d}-"
        selector = fs.FileSelector(self.at(_LOGS), allow_not_found=True)
        files = [info.base_name for info in self.filesystem.get_file_info(selector) if info.is_file]
        return sorted(name for name in files if name.startswith(prefix))

    def remove_log(self, name: str) -> None:
        """Remove a log if it is there."""
        self.delete(f"{_LOGS}/{name}")

    def _read_own(self, name: str) -> bytes:
        """A file that every run directory has."""
        try:
            return self._read(name)
        except FileNotFoundError:
            raise UserError(f"{self.url} is not a run directory: it has no {name}.") from None

    def _read(self, path: str, most: int = LARGEST_JSON) -> bytes:
        with self.open(path) as stream:
            return read_within(stream, most, f"{self.url}/{path}")

    def _write_table(self, path: str, table: pa.Table) -> None:
        place = {**(table.schema.metadata or {}), PLACE_KEY: f"/{path}".encode()}
        self.write(path, parquet_bytes(table.replace_schema_metadata(place)))


# files of samples and items: how they are written, which of them lldeg wrote, and whether one is whole ------


def readers(filesystem: fs.FileSystem) -> int:
    """How many files are read at a time: many on an object store, which has a high latency per file."""
    return min(16, os.cpu_count() or 1) if isinstance(filesystem, fs.LocalFileSystem) else 16


def is_block(path: str) -> bool:
    """Whether a path is that of a finished file of samples."""
    return path.endswith(".parquet") and not path.rpartition("/")[2].startswith(".")


def is_own(path: str) -> bool:
    """Whether a file has a name as lldeg gives it: first item and digest, or, imported, the first row."""
    return bool(_OWN_NAME.fullmatch(path.rpartition("/")[2]))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file, with a checksum for every page and one of the whole."""
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    content: bytes = stream.getvalue().to_pybytes()
    place = _footer(memoryview(content))
    data, footer = content[:place], content[place:]
    return data + _MARK + _checksum(data, footer) + footer


def _footer(content: memoryview) -> int:
    """Where the footer of a Parquet file begins, by its end."""
    return len(content) - _END - int.from_bytes(content[-_END : 4 - _END], "little")


def _checksum(data: bytes | memoryview, footer: bytes | memoryview) -> bytes:
    whole = blake2b(data, digest_size=16)
    whole.update(footer)
    return whole.hexdigest().encode()


def open_whole(filesystem: fs.FileSystem, path: str) -> pq.ParquetFile | None:
    """A file of samples or items in memory, verified; None if it is torn or damaged, an OSError if unread."""
    content = _verified(filesystem, path)
    try:
        return None if content is None else _parquet(content, path, ())
    except DAMAGE:
        return None


def _verified(filesystem: fs.FileSystem, path: str) -> pa.Buffer | None:
    if isinstance(filesystem, fs.LocalFileSystem):
        with open_input(Path(path)) as file:
            file.seek(max(0, file.seek(0, SEEK_END) - len(_MAGIC)))
            if file.read() != _MAGIC:  # before a sparse file takes all memory
                return None
            file.seek(0)
            content = pa.py_buffer(file.read())
    else:
        with filesystem.open_input_file(path) as stream:
            content = stream.read_buffer()
    view = memoryview(content)
    footer = _footer(view)
    place = max(0, footer - _LENGTH)
    stated = bytes(view[place:footer])
    is_changed = stated.startswith(_MARK) and stated != _MARK + _checksum(view[:place], view[footer:])
    return None if is_changed else content


def _parquet(content: pa.Buffer, path: str, texts: Sequence[str]) -> pq.ParquetFile:
    file = pq.ParquetFile(
        pa.BufferReader(content), read_dictionary=list(texts), page_checksum_verification=True
    )
    place = ((file.metadata.metadata or {}).get(PLACE_KEY) or b"").decode()
    if not unquote(path).endswith(unquote(place)):
        raise ValueError(f"{path} was written to {place}")
    return file


def read_whole(
    filesystem: fs.FileSystem,
    path: str,
    columns: Sequence[str] | Callable[[pq.FileMetaData], Sequence[str]] | None = None,
    texts: Sequence[str] = (),
) -> pa.Table | None:
    """Columns of a file of samples or items, verified; None if it is torn, damaged or beyond the limits.

    They are those asked for that the file has, parts of structs as "struct.part" (None for all), or what a
    function chooses by what the footer says. Those named as `texts` come dictionary-encoded. An OSError if
    the storage cannot be read.
    """
    if (content := _verified(filesystem, path)) is None:
        return None
    try:
        file = _parquet(content, path, texts)
        chosen = columns(file.metadata) if callable(columns) else columns
        moderate = is_moderate(partial(_parquet, content, path), chosen, texts)
        return file.read(columns=chosen, use_threads=False) if moderate else None
    except DAMAGE:
        return None


def is_moderate(
    opened: Callable[[Sequence[str]], pq.ParquetFile],
    columns: Sequence[str] | None = None,
    texts: Sequence[str] = (),
) -> bool:
    """Whether reading a Parquet file takes no more memory than one of its size may.

    A text that rows share stands in a file once and becomes many when it is read. So columns for which that
    could be too much are read as they stand first, and measured. `opened` opens the file; the columns that it
    gets are dictionary-encoded. Of the `columns` to be read (None for all), `texts` will stay so.
    """
    metadata = opened(()).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    parts = [group.column(number) for group in groups for number in range(group.num_columns)]
    most = max(LARGEST_COLUMN, LARGEST_RATIO * sum(part.total_compressed_size for part in parts))
    if metadata.num_rows > MOST_ROWS or any(part.total_uncompressed_size > most for part in parts):
        return False
    shared = {
        part.path_in_schema
        for part in parts
        if part.physical_type == "BYTE_ARRAY" and part.has_dictionary_page
        if part.num_values * part.total_uncompressed_size > 2 * most
        if (columns is None or _is_among(part.path_in_schema, columns))
        and not _is_among(part.path_in_schema, texts)
    }
    return all(_size(opened([path]).read(columns=[path]).column(0)) <= 2 * most for path in sorted(shared))


def _is_among(path: str, columns: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _size(column: pa.Array | pa.ChunkedArray) -> int:
    """Bytes of the texts of a dictionary-encoded column, or of what is in a nested one, in full."""
    if isinstance(column, pa.ChunkedArray):
        return sum(map(_size, column.chunks))
    if isinstance(column, pa.DictionaryArray):
        return pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
    nested = column.flatten() if hasattr(column, "flatten") else []
    return sum(map(_size, nested if isinstance(nested, list) else [nested]))


def without_errors(samples: pa.Table, beginning: str) -> pa.Table:
    """The samples without those whose error begins so."""
    if "error" not in samples.column_names or samples["error"].null_count == len(samples):
        return samples
    matches = pc.fill_null(pc.starts_with(samples["error"], beginning), fill_value=False)
    return samples.filter(pc.invert(matches))
