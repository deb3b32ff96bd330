"""The run directory: the one class that owns every path in it, on any filesystem pyarrow knows.

Files appear whole or not at all (`whole_files`). A block keeps its name, so writing it again replaces it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_JSON, parse_json, read_within
from orchestrator.rundir import sample_files
from orchestrator.rundir.sample_files import is_block, read_whole
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

    A replica opens one with `must_answer=False`: it waits for a store that is away.

    Attributes:
        lock_path: the lock of a submit, beside what a user may remove; None on an object store.
    """

    def __init__(self, url: str | Path, *, must_answer: bool = True) -> None:
        super().__init__(url, must_answer=must_answer)
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
        size = len("/".join([self.path, "samples", *folders, _BLOCK]).encode())
        limit = LONGEST_KEY if self.local_folder is None else LONGEST_PATH
        if size > limit:
            yield f"a path in {self.url} would take {size} bytes, and {limit} is the most: shorten it"
        for path in () if self.local_folder is None else (self.local_folder, *self.local_folder.parents):
            with suppress(OSError):  # a name that is too long, which is reported
                if path.exists():
                    if not path.is_dir():
                        yield f"{self.url} cannot hold a run directory: {path} is not a folder"
                    return

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
        """The items of a task.

        Raises:
            FileNotFoundError: they were never written.
            pyarrow.ArrowInvalid: the file is torn or damaged.
        """
        path = f"items/{segment(task)}.parquet"
        if (items := read_whole(self.filesystem, self.at(path), columns)) is None:
            raise pa.ArrowInvalid(f"{self.url}/{path} is torn or damaged")
        return items

    def write_block(
        self, variant: str, task: str, block: str, samples: pa.Table, software: str | None = None
    ) -> None:
        """Write the samples of one block as one file; the same block again replaces it.

        The file names the software that wrote them by its ID, as the manifest does.
        """
        if software is not None:
            samples = samples.replace_schema_metadata({SOFTWARE_KEY: software.encode()})
        self._write_table(f"{self._cell(variant, task)}/{segment(block)}.parquet", samples)

    def read_cell(self, variant: str, task: str) -> dict[str, pa.Table | None]:
        """The samples of a variant on a task but for their texts, by file; None for one torn or damaged.

        What was in such a file (cut off by a failing disk, or with other bytes than were written) is missing.

        Raises:
            UserError: there is a file that lldeg did not write.
        """
        paths = self._block_paths(variant, task)
        with ThreadPoolExecutor(sample_files.readers(self.filesystem)) as pool:
            tables = pool.map(lambda path: read_whole(self.filesystem, path, sample_files.DECIDING), paths)
            files = dict(zip(paths, tables, strict=True))
        for path, rows in files.items():
            if rows is None and not sample_files.is_own(path):
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

    def remove_errors(self, variant: str, task: str, beginning: str = "") -> None:
        """Remove the samples whose error begins so: they are missing then. Files are replaced in one step."""
        for path in self._block_paths(variant, task):
            errors = read_whole(self.filesystem, path, ["error"])
            if errors is None or len(sample_files.without_errors(errors, beginning)) == len(errors):
                continue
            if (rows := read_whole(self.filesystem, path)) is None:  # `read_cell` will tell
                continue
            if len(kept := sample_files.without_errors(rows, beginning)):
                self._write_table(path.removeprefix(f"{self.path}/"), kept)
            else:
                self.filesystem.delete_file(path)

    def _block_paths(self, variant: str, task: str) -> list[str]:
        selector = fs.FileSelector(self.at(self._cell(variant, task)), allow_not_found=True)
        files = self.filesystem.get_file_info(selector)
        return sorted(info.path for info in files if info.is_file and is_block(info.path))

    def sample_paths(self) -> dict[tuple[str, str], list[str]]:
        """Paths of all sample files by (variant, task), sorted; on an object store from one listing."""
        folder = self.at("samples")
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

    @staticmethod
    def _cell(variant: str, task: str) -> str:
        return f"samples/variant={segment(variant)}/task={segment(task)}"

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
        """The content of a log; empty if there is none."""
        try:
            return self._read(f"{_LOGS}/{name}", LARGEST_LOG)
        except FileNotFoundError:
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
        self.write(path, sample_files.parquet_bytes(table.replace_schema_metadata(place)))
