"""The run directory: the one class that owns every path in it, on any filesystem pyarrow knows.

Files appear whole or not at all (`whole_files`). A block keeps its name, so writing it again
replaces it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import fs

from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_JSON, open_input, parse_json, read_within
from orchestrator.rundir.locations import open_location
from orchestrator.rundir.sample_files import DECIDING, is_block, is_own, parquet_bytes, read_whole, readers
from orchestrator.rundir.schema import (
    FORMAT,
    PLACE_KEY,
    SOFTWARE_KEY,
    AggregateRow,
    Manifest,
    misshapen,
)
from orchestrator.rundir.whole_files import remove_unfinished, write_whole

MANIFEST = "manifest.json"
SWEEP = "sweep.yaml"
LOOKS, LEDGER = "looks.json", "looks.jsonl"
AGGREGATES = "aggregates.json"
REPLICA_LOG = "replica-"
LARGEST_LOG, LOG_PART = 1 << 30, 1 << 20
_LOGS = "logs"
_LOCK = ".lock"
_KEY = "S32"  # of a sample


def segment(name: str) -> str:
    """A name as one path segment: percent-encoded but for letters, digits and -_.~, a first dot too."""
    encoded = quote(name, safe="")
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded


def replica_log_name(number: int, variant: str) -> str:
    """Name of the log of one replica."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in variant)
    return f"{REPLICA_LOG}{number:03d}-{name}.log"


class RunStore:
    """Reads and writes one run directory.

    Args:
        url: a folder, or a URL such as s3://bucket/runs/llama3.
        must_answer: whether an object store must answer now; a replica waits for one that is away.

    Raises:
        UserError: the URL names no filesystem that pyarrow knows, or a silent store.
    """

    def __init__(self, url: str | Path, *, must_answer: bool = True) -> None:
        self.url = str(url)
        self._fs, self._root = open_location(self.url, must_answer=must_answer)
        self._unsent: dict[str, list[str]] = {}  # lines of logs on an object store

    def __repr__(self) -> str:
        return f"RunStore({self.url!r})"

    @property
    def local_folder(self) -> Path | None:
        """The run directory as a local path; None on an object store."""
        return Path(self._root) if isinstance(self._fs, fs.LocalFileSystem) else None

    @property
    def path(self) -> str:
        """The run directory on its filesystem."""
        return self._root

    @property
    def lock_path(self) -> Path | None:
        """The lock of a submit, beside what a user may remove; None on an object store."""
        return None if self.local_folder is None else self.local_folder / _LOCK

    def remove_unfinished(self) -> None:
        """Remove the half-written files that killed processes have left."""
        for folder, _, _ in os.walk(self._root) if self.local_folder else ():
            remove_unfinished(Path(folder))

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem of the run directory."""
        return self._fs

    # documents ------------------------------------------------------------------------------------------

    def has_run(self) -> bool:
        """Whether a sweep was ever started here."""
        return self._exists(MANIFEST)

    def read_manifest(self) -> Manifest:
        """The manifest.

        Raises:
            UserError: this is not a run directory, or its manifest is damaged or of a later version.
        """
        try:
            content = self._read(MANIFEST)
        except FileNotFoundError:
            raise UserError(f"{self.url} is not a run directory: it has no {MANIFEST}.") from None
        manifest = parse_json(content, f"{self.url}/{MANIFEST} is damaged: it")
        if not isinstance(manifest, dict) or not {"variants", "tasks"} <= manifest.keys():
            raise UserError(f"{self.url} is not a run directory: {MANIFEST} lists no variants and tasks.")
        if (problem := misshapen(manifest, Manifest)) is not None:
            raise UserError(f"{self.url}/{MANIFEST} is damaged: {problem}.")
        if manifest.get("format", 1) > FORMAT:
            raise UserError(f"{self.url} was written by a later version of lldeg: update lldeg to read it.")
        return cast("Manifest", manifest)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        self._write(MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False).encode())

    def read_sweep(self) -> str:
        """The sweep's YAML text; a UserError if there is none."""
        try:
            return self._read(SWEEP).decode()
        except FileNotFoundError:
            raise UserError(f"{self.url} is not a run directory: it has no {SWEEP}.") from None

    def write_sweep(self, text: str) -> None:
        """Replace the sweep's YAML text."""
        self._write(SWEEP, text.encode())

    def read_looks(self, name: str = LOOKS) -> bytes:
        """looks.json, or the ledger of looks; empty if there is none."""
        try:
            return self._read(name)
        except FileNotFoundError:
            return b""

    def write_looks(self, text: str, name: str = LOOKS) -> None:
        """Replace looks.json, the looks of a run that stops early, or their ledger."""
        self._write(name, text.encode())

    def read_aggregates(self) -> list[AggregateRow]:
        """The rows of aggregates.json, none if it is not there; a UserError if it is damaged."""
        damaged = f"{self.url}/{AGGREGATES} is damaged: it"
        rows = parse_json(self._read(AGGREGATES), damaged) if self._exists(AGGREGATES) else []
        if misshapen(rows, list[AggregateRow]) is not None:
            raise UserError(f"{damaged} does not list scores of corpora.")
        return cast("list[AggregateRow]", rows)

    def write_aggregates(self, rows: Sequence[AggregateRow]) -> None:
        """Replace aggregates.json."""
        self._write(AGGREGATES, json.dumps(rows, indent=1, ensure_ascii=False).encode())

    # items ----------------------------------------------------------------------------------------------

    def write_items(self, task: str, items: pa.Table) -> None:
        """Replace the items (documents and prompts) of a task."""
        self._write_table(self._items_path(task), items)

    def has_items(self, task: str) -> bool:
        """Whether the items of a task have been written."""
        return self._exists(self._items_path(task))

    def read_items(self, task: str, columns: list[str] | None = None) -> pa.Table:
        """The items of a task.

        Raises:
            FileNotFoundError: they were never written.
            pyarrow.ArrowInvalid: the file is torn or damaged.
        """
        items = read_whole(self._fs, self._at(self._items_path(task)), columns)
        if items is None:
            raise pa.ArrowInvalid(f"{self.url}/{self._items_path(task)} is torn or damaged")
        return items

    @staticmethod
    def _items_path(task: str) -> str:
        return f"items/{segment(task)}.parquet"

    # samples --------------------------------------------------------------------------------------------

    def write_block(
        self, variant: str, task: str, block: str, samples: pa.Table, software: str | None = None
    ) -> None:
        """Write the samples of one block as one file; the same block again replaces it.

        Args:
            variant: name of the variant.
            task: name of the task.
            block: name of the block.
            samples: the rows.
            software: the ID of what wrote them, as in the manifest.
        """
        if software is not None:
            samples = samples.replace_schema_metadata({SOFTWARE_KEY: software.encode()})
        self._write_table(f"{self._cell(variant, task)}/{segment(block)}.parquet", samples)

    def read_keys(
        self,
        variant: str,
        task: str,
        *,
        remove_torn: bool,
        errors: bool | str = True,
        report: Callable[[str], None] = lambda _: None,
        left_out: Callable[[int], None] = lambda _: None,
        seen: Callable[[pa.Table], None] = lambda _: None,
    ) -> NDArray[np.bytes_]:
        """Keys of the samples that have been written; sorted.

        The samples of a torn or damaged file (cut off by a failing disk, or with pages that differ from their
        checksums) are owed again. It is removed if asked for, since they may come back in another block.

        Args:
            variant: name of the variant.
            task: name of the task.
            remove_torn: whether to remove torn and damaged files.
            errors: whether samples with an error count as written, or the beginning of errors that do not.
            report: called with the path of each torn or damaged file.
            left_out: called with the number of samples whose error does not count, if there are any.
            seen: called with the rows of each other file, but for its texts.

        Raises:
            UserError: there is a file that lldeg did not write; nothing has been removed.
        """
        paths = self._block_paths(variant, task)
        with ThreadPoolExecutor(readers(self._fs)) as pool:
            tables = list(pool.map(lambda path: read_whole(self._fs, path, DECIDING), paths))
        found = dict(zip(paths, tables, strict=True))
        self._refuse_foreign(found)
        for path in (path for path, table in found.items() if table is None):
            report(path)
            if remove_torn:
                self._fs.delete_file(path)
        whole = all_rows = [table for table in tables if table is not None]
        for table in all_rows:
            seen(table)
        if errors is not True:
            whole = [_without_errors(table, errors or "") for table in all_rows]
            if number := sum(map(len, all_rows)) - sum(map(len, whole)):
                left_out(number)
        keys = [table["sample_key"].to_numpy().astype(_KEY) for table in whole]
        return np.unique(np.concatenate([np.empty(0, _KEY), *keys]))

    def read_values(self, variant: str, task: str) -> Iterator[pa.Table]:
        """What the scores of a corpus follow from, file by file; torn and damaged files are left out."""
        for path in self._block_paths(variant, task):
            rows = read_whole(self._fs, path, ["item", "temperature", "seed", "scores", "corpus_values"])
            if rows is not None and "corpus_values" in rows.column_names:
                yield rows

    @staticmethod
    def _refuse_foreign(found: Mapping[str, pa.Table | None]) -> None:
        for path, table in found.items():
            if table is None and not is_own(path):
                raise UserError(
                    f"{path} is not a readable Parquet file, and lldeg did not write it: move it away."
                )
            if table is not None and "sample_key" not in table.column_names:
                raise UserError(f"{path} holds no samples of a sweep (it has no sample_key): move it away.")

    def remove_errors(self, variant: str, task: str, beginning: str = "") -> None:
        """Remove the samples whose error begins so: they are missing then. Files are replaced in one step."""
        for path in self._block_paths(variant, task):
            rows = read_whole(self._fs, path, ["error"])
            if rows is None or len(_without_errors(rows, beginning)) == len(rows):
                continue
            rows = read_whole(self._fs, path)
            if rows is None:  # `read_keys` will tell
                continue
            kept = _without_errors(rows, beginning)
            if len(kept):
                self._write_table(path.removeprefix(f"{self._root}/"), kept)
            else:
                self._fs.delete_file(path)

    def _block_paths(self, variant: str, task: str) -> list[str]:
        selector = fs.FileSelector(self._at(self._cell(variant, task)), allow_not_found=True)
        paths = [info.path for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]
        return sorted(filter(is_block, paths))

    def sample_paths(self) -> dict[tuple[str, str], list[str]]:
        """Paths of all sample files by (variant, task), sorted; on an object store from one listing."""
        folder = self._at("samples")
        if isinstance(self._fs, fs.LocalFileSystem):  # whose selector would follow links for ever
            paths = [str(path) for path in Path(folder).glob("*/*/*.parquet") if path.is_file()]
        else:
            selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
            paths = [info.path for info in self._fs.get_file_info(selector) if info.is_file]
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

    # logs: events, status, the lock of the running submit ------------------------------------------------

    def append_log(self, name: str, line: str) -> None:
        """Add a line to a log; on an object store, which cannot append, `send_logs` adds it."""
        if self.local_folder is None:
            self._unsent.setdefault(name, []).append(line)
            return
        with self.open_log(name) as stream:
            end = stream.tell()
            torn = (
                end > 0 and os.pread(stream.fileno(), 1, end - 1) != b"\n"
            )  # a writer died, or a disk was full
            stream.write(b"\n" * torn + f"{line}\n".encode())

    def send_logs(self) -> None:
        """On an object store, add the lines appended since the last call."""
        for name, lines in list(self._unsent.items()):
            if count := len(lines):
                text = "".join(line + "\n" for line in lines[:count])
                self.write_log(name, self.read_log(name) + text.encode())
                del lines[:count]

    def log_path(self, name: str) -> Path | None:
        """Where a log is on a disk of this machine; None on an object store."""
        folder = self.local_folder
        return None if folder is None else folder / self._log(name)

    def open_log(self, name: str) -> BinaryIO:
        """A log on a disk of this machine, opened for appending; its folder is made if need be.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(self._at(self._log(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")

    def read_log(self, name: str) -> bytes:
        """The content of a log; empty if there is none."""
        try:
            return self._read(self._log(name), LARGEST_LOG)
        except FileNotFoundError:
            return b""

    def read_log_lines(self, name: str, start: int) -> bytes:
        """The next whole lines of a log, about a megabyte; empty at its end, or if there is none.

        Args:
            name: of the log.
            start: bytes that were read before.
        """
        try:
            with self._open(self._log(name)) as stream:
                stream.seek(start)
                part = bytes(stream.read(LOG_PART))
        except FileNotFoundError:
            return b""
        end = part.rfind(b"\n") + 1
        return part[:end] if end or len(part) < LOG_PART else part

    def write_log(self, name: str, content: bytes) -> None:
        """Replace a log; after a power failure the old one may be back."""
        self._write(self._log(name), content, sync=False)

    def log_time(self, name: str) -> float | None:
        """When a log was written, in seconds by the storage's own clock; None if it does not say."""
        written = self._fs.get_file_info(self._at(self._log(name))).mtime
        return None if written is None else float(written.timestamp())

    def log_names(self) -> list[str]:
        """Names of all logs, in order."""
        selector = fs.FileSelector(self._at(_LOGS), allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector) if info.is_file)

    def replica_logs(self, number: int | None = None) -> list[str]:
        """Names of the logs of all replicas or of those with a number, in order."""
        prefix = REPLICA_LOG if number is None else f"{REPLICA_LOG}{number:03d}-"
        return [name for name in self.log_names() if name.startswith(prefix)]

    def remove_log(self, name: str) -> None:
        """Remove a log if it is there."""
        if self._exists(self._log(name)):
            self._fs.delete_file(self._at(self._log(name)))

    @staticmethod
    def _log(name: str) -> str:
        return f"{_LOGS}/{name}"

    # files ----------------------------------------------------------------------------------------------

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _exists(self, path: str) -> bool:
        return bool(self._fs.get_file_info(self._at(path)).type == fs.FileType.File)

    def _read(self, path: str, most: int = LARGEST_JSON) -> bytes:
        with self._open(path) as stream:
            return read_within(stream, most, f"{self.url}/{path}")

    def _open(self, path: str) -> BinaryIO:
        folder = self.local_folder
        if folder is not None:
            return open_input(folder / path)
        return cast("BinaryIO", self._fs.open_input_file(self._at(path)))

    def _write_table(self, path: str, table: pa.Table) -> None:
        place = {**(table.schema.metadata or {}), PLACE_KEY: f"/{path}".encode()}
        self._write(path, parquet_bytes(table.replace_schema_metadata(place)))

    def _write(self, path: str, content: bytes | pa.Buffer, *, sync: bool = True) -> None:
        write_whole(self._fs, self._at(path), content, sync=sync)


def _without_errors(samples: pa.Table, beginning: str) -> pa.Table:
    """The samples without those whose error begins so."""
    if "error" not in samples.column_names or samples["error"].null_count == len(samples):
        return samples
    matches = pc.fill_null(pc.starts_with(samples["error"], beginning), fill_value=False)
    return samples.filter(pc.invert(matches))
