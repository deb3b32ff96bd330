"""Locations of runs, inputs and outputs: a local path or a URL (s3://, gs://, …), opened in the same way.

Everything goes through pyarrow's filesystems, so that a run in a bucket is analyzed without copying it first.
"""

from __future__ import annotations

from errno import ENAMETOOLONG
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import UserError


def open_location(location: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a location and the path on it; pyarrow's own, or one that fsspec knows.

    Raises:
        UserError: the scheme of the URL is not known, or it names no bucket or folder.
    """
    if not location.strip():
        raise UserError("An empty path names no file or folder; the current folder is '.'.")
    try:
        if "://" not in location:
            return pafs.LocalFileSystem(), str(Path(location).expanduser().absolute())
        try:
            filesystem, path = pafs.FileSystem.from_uri(location.rstrip("/"))
        except pa.ArrowInvalid:
            if location.startswith(("http://", "https://")):
                raise  # nothing can be written there
            other, path = fsspec.url_to_fs(location.rstrip("/"))
            filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(other))
    except (pa.ArrowInvalid, OSError, ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"{location} cannot be opened: {error}.") from error
    if not path:
        raise UserError(f"{location} names no bucket or folder.")
    return filesystem, path


def exists(location: str) -> bool:
    """Whether there is a file or folder at a location."""
    filesystem, path = open_location(location)
    try:
        return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)
    except ValueError:  # no name that a disk can hold
        return False
    except OSError as error:
        if error.errno == ENAMETOOLONG:
            return False
        raise


def subfolders(location: str) -> list[str]:
    """Locations of the folders directly inside a folder, sorted; empty if it is not a folder."""
    filesystem, path = open_location(location)
    if filesystem.get_file_info(path).type != pafs.FileType.Directory:
        return []
    inside = filesystem.get_file_info(pafs.FileSelector(path))
    names = sorted(info.base_name for info in inside if info.type == pafs.FileType.Directory)
    return [f"{location.rstrip('/')}/{name}" for name in names if not name.startswith(".")]
