"""Temporary folders that nobody else can read; what a killed process has left is removed by the next one.

A folder is locked for as long as its process lives; the kernel frees the lock however that ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "lldeg."
LOCK = "lock"


@contextmanager
def temporary_folder(around: str | None = None) -> Iterator[Path]:
    """A folder of this process alone, which is removed at the end; first those of dead processes are removed.

    Args:
        around: the folder to make it in; None for the system's.
    """
    around = around or tempfile.gettempdir()
    _remove_abandoned(Path(around))
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=around))
    with _locked(hidden):
        folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(around: Path) -> None:
    """Remove the folders of this user's processes that are gone."""
    for folder in around.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is in use, or gone
            if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                with _locked(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        OSError: another process holds it, or the folder is gone or is none.
    """
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)
