"""The run directory: the one class that owns every path in it, on any filesystem pyarrow knows.

Files appear whole or not at all: on a disk they are written under a hidden name and moved, on an object store
an upload becomes visible when it is closed, and is closed only when all of it was sent. A block has one name
for ever, so writing it again replaces it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from orchestrator.errors import UserError
from orchestrator.rundir.locations import open_location

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MANIFEST = "manifest.json"
SWEEP = "sweep.yaml"
_TEMPORARY = "."
_KEY = "S32"  # of a sample
_READERS = 16  # files read at a time


def segment(name: str) -> str:
    """A name as one path segment: percent-encoded but for letters, digits and -_.~, a first dot too."""
    encoded = quote(name, safe="")
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded


class RunStore:
    """Reads and writes one run directory.

    Args:
        url: a folder, or a URL such as s3://bucket/runs/llama3.

    Raises:
        UserError: the URL names no filesystem that pyarrow knows.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._fs, self._root = open_location(self.url)
        self._unsent: dict[str, list[str]] = {}  # lines of logs on an object store

    def __repr__(self) -> str:
        return f"RunStore({self.url!r})"

    @property
    def local_folder(self) -> Path | None:
        """The run directory as a local path; None on an object store."""
        return Path(self._root) if isinstance(self._fs, fs.LocalFileSystem) else None

    @property
    def filesystem(self) -> fs.FileSystem:
        """The filesystem it lies on."""
        return self._fs

    # documents ------------------------------------------------------------------------------------------

    def has_run(self) -> bool:
        """Whether a sweep was ever started here."""
        return self._exists(MANIFEST)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            UserError: this is not a run directory, or its manifest is damaged.
        """
        try:
            manifest = json.loads(self._read(MANIFEST))
        except FileNotFoundError:
            raise UserError(f"{self.url} is not a run directory: it has no {MANIFEST}.") from None
        except ValueError:
            raise UserError(f"{self.url}/{MANIFEST} is damaged: it is not JSON.") from None
        if not isinstance(manifest, dict):
            raise UserError(f"{self.url}/{MANIFEST} is damaged: it is not a JSON object.")
        return manifest

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest."""
        self._write(MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False).encode())

    def read_sweep(self) -> str:
        """The sweep's YAML text.

        Raises:
            UserError: this is not a run directory.
        """
        try:
            return self._read(SWEEP).decode()
        except FileNotFoundError:
            raise UserError(f"{self.url} is not a run directory: it has no {SWEEP}.") from None

    def write_sweep(self, text: str) -> None:
        """Replace the sweep's YAML text."""
        self._write(SWEEP, text.encode())

    # items ----------------------------------------------------------------------------------------------

    def write_items(self, task: str, items: pa.Table) -> None:
        """Replace the items (documents and prompts) of a task."""
        self._write_table(self._items_path(task), items)

    def has_items(self, task: str) -> bool:
        """Whether the items of a task stand here."""
        return self._exists(self._items_path(task))

    def read_items(self, task: str, columns: list[str] | None = None) -> pa.Table:
        """The items of a task.

        Raises:
            FileNotFoundError: they were never written.
        """
        with self._fs.open_input_file(self._at(self._items_path(task))) as stream:
            return pq.read_table(stream, columns=columns)

    @staticmethod
    def _items_path(task: str) -> str:
        return f"items/{segment(task)}.parquet"

    # samples --------------------------------------------------------------------------------------------

    def write_block(self, variant: str, task: str, block: str, samples: pa.Table) -> None:
        """Write the samples of one block as one file; the same block again replaces it."""
        self._write_table(f"{self._cell(variant, task)}/{segment(block)}.parquet", samples)

    def read_keys(self, variant: str, task: str, *, remove_torn: bool) -> NDArray[np.bytes_]:
        """Keys of the samples that are there, with an answer or with an error; sorted.

        A torn file (cut off by a dying disk, say) counts for nothing, so that its samples are owed again; it
        is removed if asked for, since its block may not come back under the same name.
        """
        paths = self._block_paths(variant, task)
        with ThreadPoolExecutor(_READERS) as pool:  # an object store takes its time over each file
            tables = list(pool.map(lambda path: self._read_whole(path, ["sample_key"]), paths))
        if remove_torn:
            for path, table in zip(paths, tables, strict=True):
                if table is None:
                    self._fs.delete_file(path)
        keys = [np.array(table["sample_key"].to_numpy(), dtype=_KEY) for table in tables if table is not None]
        return np.unique(np.concatenate([np.empty(0, _KEY), *keys]))

    def _read_whole(self, path: str, columns: list[str]) -> pa.Table | None:
        """Columns of a Parquet file; None if it is torn."""
        try:
            with self._fs.open_input_file(path) as stream:
                return pq.read_table(stream, columns=columns)
        except pa.ArrowInvalid:
            return None
        except OSError:  # of the storage or of the content: the file's bytes, read by themselves, tell which
            with self._fs.open_input_file(path) as stream:
                content = pa.BufferReader(stream.read())
        try:
            return pq.read_table(content, columns=columns)
        except (pa.ArrowInvalid, OSError):
            return None

    def _block_paths(self, variant: str, task: str) -> list[str]:
        selector = fs.FileSelector(self._at(self._cell(variant, task)), allow_not_found=True)
        paths = [info.path for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]
        return sorted(filter(_is_block, paths))

    def sample_paths(self) -> dict[tuple[str, str], list[str]]:
        """Paths of all sample files by (variant, task), sorted; from one listing."""
        folder = self._at("samples")
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        found: dict[tuple[str, str], list[str]] = {}
        for entry in sorted(self._fs.get_file_info(selector), key=lambda info: info.path):
            parts = entry.path.removeprefix(f"{folder}/").split("/")
            if entry.type == fs.FileType.File and len(parts) == 3 and _is_block(entry.path):
                variant, task = (unquote(part.partition("=")[2]) for part in parts[:2])
                found.setdefault((variant, task), []).append(entry.path)
        return found

    @staticmethod
    def _cell(variant: str, task: str) -> str:
        return f"samples/variant={segment(variant)}/task={segment(task)}"

    # logs: what happens, how far it is, who is at work ------------------------------------------------------

    def append_log(self, name: str, line: str) -> None:
        """Add a line to a log under logs/; on an object store, which cannot append, `send_logs` adds it."""
        folder = self.local_folder
        if folder is None:
            self._unsent.setdefault(name, []).append(line)
            return
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        with (folder / "logs" / name).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def send_logs(self) -> None:
        """Add what was appended since the last time to the logs on an object store."""
        for name, lines in list(self._unsent.items()):
            if count := len(lines):
                text = "".join(line + "\n" for line in lines[:count])
                self._write(f"logs/{name}", self.read_log(name) + text.encode())
                del lines[:count]

    def read_log(self, name: str) -> bytes:
        """A log as it stands; nothing if there is none."""
        try:
            return self._read(f"logs/{name}")
        except FileNotFoundError:
            return b""

    def write_log(self, name: str, content: bytes) -> None:
        """Replace a log."""
        self._write(f"logs/{name}", content)

    def log_names(self) -> list[str]:
        """Logs that are there, in order."""
        selector = fs.FileSelector(self._at("logs"), allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector) if info.is_file)

    def remove_log(self, name: str) -> None:
        """Remove a log if it is there."""
        if self._exists(f"logs/{name}"):
            self._fs.delete_file(self._at(f"logs/{name}"))

    # files ----------------------------------------------------------------------------------------------

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _exists(self, path: str) -> bool:
        return bool(self._fs.get_file_info(self._at(path)).type == fs.FileType.File)

    def _read(self, path: str) -> bytes:
        with self._fs.open_input_file(self._at(path)) as stream:
            return bytes(stream.read())

    def _write_table(self, path: str, table: pa.Table) -> None:
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="zstd")
        self._write(path, content.getvalue())

    def _write(self, path: str, content: bytes | pa.Buffer) -> None:
        """Make a file appear that has all of the content; if that fails, nothing has changed."""
        if self.local_folder is None:
            self._put(self._at(path), content)
            return
        folder, _, name = self._at(path).rpartition("/")
        temporary = f"{folder}/{_TEMPORARY}{name}"
        self._fs.create_dir(folder, recursive=True)
        try:
            self._put(temporary, content)
            self._fs.move(temporary, f"{folder}/{name}")
        except OSError:
            with suppress(OSError):  # half of a file only fills a full disk
                self._fs.delete_file(temporary)
            raise

    def _put(self, path: str, content: bytes | pa.Buffer) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)


def _is_block(path: str) -> bool:
    return path.endswith(".parquet") and not path.rpartition("/")[2].startswith(_TEMPORARY)
