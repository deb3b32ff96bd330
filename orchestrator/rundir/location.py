"""The location of a run, an input or an output: a local path or a URL (s3://, gs://, …).

All are opened in the same way, by pyarrow's filesystems: a run in a bucket is analyzed without copying it.
"""

from concurrent.futures import Future
from contextlib import suppress
from errno import ENAMETOOLONG
from pathlib import Path
from threading import Thread

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import UserError

SECONDS_TO_ANSWER = 30.0
S3_ATTEMPTS = 8  # in some 35 seconds

_answering: set[tuple[str, str]] = set()
"""Bucket and query of the URLs of stores that have answered this process."""


def open_location(location: str, *, must_answer: bool = True) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a path or URL and the path on it; pyarrow's own, or one that fsspec knows.

    With `must_answer` it waits, once in a process, for the first answer of an object store. A UserError if
    the scheme of the URL is not known, it names no bucket or folder, or the store is silent.
    """
    if not location.strip():
        raise UserError("An empty path names no file or folder; for the current folder, write '.'.")
    store = ("/".join(location.split("/", 3)[:3]), location.partition("?")[2])
    if not must_answer or "://" not in location or store in _answering:
        return _open(location)
    opened: Future[tuple[pafs.FileSystem, str]] = Future()

    def reach() -> None:
        """Open the location and wait for a first answer, whatever it is."""
        try:
            filesystem, path = patient = _open(location)
            if isinstance(filesystem, pafs.S3FileSystem):  # a process cannot end while a request is under way
                _, (options,) = filesystem.__reduce__()
                soon = pafs.AwsDefaultS3RetryStrategy(max_attempts=S3_ATTEMPTS)
                filesystem = pafs.S3FileSystem(**options, retry_strategy=soon)
            with suppress(Exception):  # of any store's library; whoever reads next gets the same error
                filesystem.get_file_info(path)
            opened.set_result(patient)
        except BaseException as error:  # noqa: BLE001 - for the thread that waits
            opened.set_exception(error)

    Thread(target=reach, name="reach", daemon=True).start()
    try:
        found = opened.result(SECONDS_TO_ANSWER)
    except TimeoutError:
        raise UserError(
            f"{location} does not answer: nothing came from its store in {SECONDS_TO_ANSWER:g} s; check its "
            "address and the network."
        ) from None
    _answering.add(store)
    return found


def _open(location: str) -> tuple[pafs.FileSystem, str]:
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
