"""Files of samples and items: how they are written, which of them lldeg wrote, and whether one is whole.

Every file holds a checksum of itself, and every reader opens it here, where that is verified: a bit that has
changed on the disk is noticed, and its file counts for nothing, instead of a score that no model earned. The
checksum (BLAKE2b, 128 bits, of all other bytes) stands right before Parquet's footer, where no offset points,
so that other programs read the files as they are. It covers footer and page headers, too, which Parquet's
checksums of pages leave out; those alone find the damage in files of earlier versions.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from orchestrator.rundir.schema import SampleColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TEXTS = {"response", "filtered", "corpus_values"}
DECIDING = [name for name in SampleColumns((), ()).schema.names if name not in _TEXTS]
"""Columns of samples but for the texts, which fill most of a file and which no verdict rests on."""
DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What pyarrow raises for content that is not what it was; it is in memory, so that no storage fails."""
_MARK = b"lldeg.checksum="
_LENGTH = len(_MARK) + 32
_END = 8  # bytes after Parquet's footer: its length, and "PAR1"
_OWN_NAME = re.compile(r"(\d{7}-[0-9a-f]{12}|\d{12})\.parquet")
_TEMPORARY = "."


def readers(filesystem: fs.FileSystem) -> int:
    """How many files are read at a time: many on an object store, which has a high latency per file."""
    return min(16, os.cpu_count() or 1) if isinstance(filesystem, fs.LocalFileSystem) else 16


def is_block(path: str) -> bool:
    """Whether a path is that of a finished file of samples."""
    return path.endswith(".parquet") and not _name(path).startswith(_TEMPORARY)


def is_own(path: str) -> bool:
    """Whether a file has a name as lldeg gives it: first item and digest, or, imported, the first row."""
    return bool(_OWN_NAME.fullmatch(_name(path)))


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


def _checksum(*parts: bytes | memoryview) -> bytes:
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest().encode()


def _is_as_written(content: memoryview) -> bool:
    """Whether a file is what its checksum says, if it has one."""
    footer = _footer(content)
    place = max(0, footer - _LENGTH)
    stated = bytes(content[place:footer])
    return not stated.startswith(_MARK) or stated == _MARK + _checksum(content[:place], content[footer:])


def open_whole(filesystem: fs.FileSystem, path: str, texts: Sequence[str] = ()) -> pq.ParquetFile | None:
    """A file of samples or items in memory, its checksum verified; None if it is torn or damaged.

    Args:
        filesystem: where it lies.
        path: of the file.
        texts: columns that come dictionary-encoded.

    Raises:
        OSError: the storage cannot be read.
    """
    with filesystem.open_input_file(path) as stream:
        content = stream.read_buffer()
    if not _is_as_written(memoryview(content)):
        return None
    try:
        return pq.ParquetFile(
            pa.BufferReader(content), read_dictionary=list(texts), page_checksum_verification=True
        )
    except DAMAGE:
        return None


def read_whole(
    filesystem: fs.FileSystem,
    path: str,
    columns: Sequence[str] | Callable[[pq.FileMetaData], Sequence[str]] | None = None,
    texts: Sequence[str] = (),
) -> pa.Table | None:
    """Columns of a file of samples or items, its checksums verified; None if it is torn or damaged.

    Args:
        filesystem: where it lies.
        path: of the file.
        columns: those to read, as far as the file has them, parts of structs as "struct.part"; None for all;
            or what chooses them by what the footer says.
        texts: columns that come dictionary-encoded.

    Raises:
        OSError: the storage cannot be read.
    """
    file = open_whole(filesystem, path, texts)
    try:
        chosen = columns(file.metadata) if callable(columns) and file is not None else columns
        return None if file is None else file.read(columns=chosen, use_threads=False)
    except DAMAGE:
        return None


def _name(path: str) -> str:
    return path.rpartition("/")[2]
