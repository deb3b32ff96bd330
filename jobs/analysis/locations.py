"""Where inputs and outputs lie: a local path or a URL (s3://, gs://), opened in the same way.

Everything goes through pyarrow's filesystems, so that a run in a bucket is analyzed without copying it first.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import UserError


def open_location(location: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a location and the path on it.

    Raises:
        UserError: if the URL's scheme is not known.
    """
    try:
        if "://" in location:
            filesystem, path = pafs.FileSystem.from_uri(location)
        else:
            filesystem, path = pafs.LocalFileSystem(), str(Path(location).expanduser().resolve())
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{location} cannot be opened: {error}.") from error
    return filesystem, path


def exists(location: str) -> bool:
    """Whether something stands at a location."""
    filesystem, path = open_location(location)
    return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)


def subfolders(location: str) -> list[str]:
    """Locations of the folders directly inside of a folder, sorted; empty if it is none."""
    filesystem, path = open_location(location)
    if filesystem.get_file_info(path).type != pafs.FileType.Directory:
        return []
    inside = filesystem.get_file_info(pafs.FileSelector(path))
    names = sorted(info.base_name for info in inside if info.type == pafs.FileType.Directory)
    return [f"{location.rstrip('/')}/{name}" for name in names if not name.startswith(".")]
