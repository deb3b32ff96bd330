"""Files of samples and items: how they are written, which of them lldeg wrote, and whether one is whole.

Every file holds a checksum of itself, and every reader opens it here, where that is verified: a bit that has
changed on the disk is noticed, and its file counts for nothing, instead of a score that no model earned. The
checksum (BLAKE2b, 128 bits, of all other bytes) stands right before Parquet's footer, where no offset points,
so that other programs read the files as they are. It covers footer and page headers, too, which Parquet's
checksums of pages leave out; those alone find the damage in files of earlier versions. A file also says where
in the run it belongs: in the place of another one it is as good as damaged.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from io import SEEK_END
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from orchestrator.input_files import open_input
from orchestrator.rundir.schema import PLACE_KEY, sample_schema

_TEXTS = {"response", "filtered", "corpus_values"}
DECIDING = [name for name in sample_schema().names if name not in _TEXTS]
"""Columns of samples but for the texts, which fill most of a file and which no verdict rests on."""
DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError)
"""What pyarrow raises for content that is not what it was; it is in memory, so that no storage fails."""
LARGEST_COLUMN, MOST_ROWS, LARGEST_RATIO = 256 << 20, 4_000_000, 100
"""Bytes of a column as a file holds it, half of what its texts may take in memory, unless the file itself is
larger than a hundredth; and rows."""
_MARK, _MAGIC = b"lldeg.checksum=", b"PAR1"
_LENGTH, _END = len(_MARK) + 32, 8  # bytes of a checksum, and after Parquet's footer: its length, and "PAR1"
_OWN_NAME = re.compile(r"(\d{7}-[0-9a-f]{12}|\d{12})\.parquet")


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

    Args:
        filesystem: where it lies.
        path: of the file.
        columns: those to read, as far as the file has them, parts of structs as "struct.part"; None for all;
            or what chooses them by what the footer says.
        texts: columns that come dictionary-encoded.

    Raises:
        OSError: the storage cannot be read.
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
    could be too much are read as they stand first, and measured.

    Args:
        opened: opens the file; the columns that it gets are dictionary-encoded.
        columns: those to be read; None for all.
        texts: of these, what will stay dictionary-encoded.
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
