"""Files of samples: how they are written, which of them lldeg wrote, and whether one is whole.

Pages carry checksums, and every reader verifies them: a bit that has changed on the disk is noticed, and its
file counts for nothing, instead of a score that no model earned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from typing import BinaryIO

    from pyarrow import fs

TEXTS = ("response", "filtered")
"""Columns that no verdict rests on, and that fill most of a file."""
_OWN_NAME = re.compile(r"(\d{7}-[0-9a-f]{12}|\d{12})\.parquet")
_TEMPORARY = "."


def is_block(path: str) -> bool:
    """Whether a path is that of a finished file of samples."""
    return path.endswith(".parquet") and not _name(path).startswith(_TEMPORARY)


def is_own(path: str) -> bool:
    """Whether a file has a name as lldeg gives it: first item and digest, or, imported, the first row."""
    return bool(_OWN_NAME.fullmatch(_name(path)))


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """A table as the content of a Parquet file, with a checksum for every page."""
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd", write_page_checksum=True)
    return content.getvalue()


def read_whole(filesystem: fs.FileSystem, path: str, *, texts: bool = False) -> pa.Table | None:
    """A file of samples, its checksums verified; None if it is torn or damaged.

    Args:
        filesystem: where it lies.
        path: of the file.
        texts: whether to read the columns of texts, too.

    Raises:
        OSError: the storage cannot be read.
    """
    try:
        with filesystem.open_input_file(path) as stream:
            return _read(stream, texts=texts)
    except pa.ArrowInvalid:
        return None
    except OSError:  # of the storage or of the content: reading the bytes alone tells which
        with filesystem.open_input_file(path) as stream:
            content = pa.BufferReader(stream.read())
    try:
        return _read(content, texts=texts)
    except (pa.ArrowInvalid, OSError):
        return None


def _read(stream: BinaryIO, *, texts: bool) -> pa.Table:
    file = pq.ParquetFile(stream, page_checksum_verification=True)
    names = [name for name in file.schema_arrow.names if texts or name not in TEXTS]
    return file.read(columns=names)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
