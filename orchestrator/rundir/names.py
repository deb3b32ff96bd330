"""Names that disks and object stores can hold, checked in bytes before anything runs.

A name is percent-encoded in paths: a Chinese character takes nine bytes there, and a part of a path may have
255. A name that is too long would be noticed only when the first block is written, after it was answered.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.rundir.store import replica_log_name, segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orchestrator.rundir.store import RunStore

MOST_BYTES = 255
"""Of one part of a path, on all common disks."""
LONGEST_PATH = 4095  # on Linux
LONGEST_KEY = 1024  # of an object in S3
_BLOCK = ".0000000-0123456789ab.parquet"
_LAST_REPLICA = 99_999


def name_problems(store: RunStore, variants: Iterable[str], tasks: Iterable[str]) -> Iterator[str]:
    """Names of variants and tasks that a run directory cannot hold, each as the end of a sentence."""
    folders = []
    for kind, names in (("variant", variants), ("task", tasks)):
        longest = ""
        for name in names:
            if (size := _size(kind, name)) > MOST_BYTES:
                most = f"and {MOST_BYTES} is the most: shorten it"
                yield f"the name of the {kind} '{name}' takes {size} bytes in a path, {most}"
            longest = max(longest, segment(name), key=len)
        folders.append(f"{kind}={longest}")
    size = len("/".join([store.path, "samples", *folders, _BLOCK]).encode())
    limit = LONGEST_KEY if store.local_folder is None else LONGEST_PATH
    if size > limit:
        yield f"a path in {store.url} would take {size} bytes, and {limit} is the most: shorten it"
    if (file := _file_above(store.local_folder)) is not None:
        yield f"{store.url} cannot hold a run directory: {file} is not a folder"


def _file_above(folder: Path | None) -> Path | None:
    """What is in the place of a folder or of one above it, and is none; None if they can be made."""
    for path in () if folder is None else (folder, *folder.parents):
        with suppress(OSError):  # a name that is too long, which is reported
            if path.exists():
                return None if path.is_dir() else path
    return None


def _size(kind: str, name: str) -> int:
    """Bytes of the longest part of a path that holds a name."""
    parts = [f"{kind}={segment(name)}"]
    if kind == "task":
        parts.append(f"{segment(name)}.parquet")
    else:
        parts.append(replica_log_name(_LAST_REPLICA, name))
    return max(len(part.encode()) for part in parts)
