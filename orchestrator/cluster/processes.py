"""What processes leave behind: temporary folders that nobody else can read, and processes that they started.

A folder is locked for as long as its process lives; the kernel frees the lock however that ends, and the next
process removes what a killed one has left.

A replica leads a process group, to which everything that it starts belongs. A small process outside of the
group watches the replica and kills the group when it is gone: vLLM's engine would otherwise keep the memory
of its GPU. Newer versions of Ray do the same.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "lldeg."
LOCK = "lock"
WATCH = """
import os, signal, sys, time
replica = int(sys.argv[1])
while os.getppid() == replica:
    time.sleep(0.5)
try:
    os.killpg(replica, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


@contextmanager
def temporary_folder(around: str | None = None) -> Iterator[Path]:
    """A folder of this process alone, which is removed at the end; first those of dead processes are removed.

    It is made in the folder `around`, or where the system has temporary files.
    """
    around = around or tempfile.gettempdir()
    for abandoned in Path(around).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is in use, or gone
            if abandoned.lstat().st_uid == os.getuid() and not abandoned.is_symlink():
                with _locked(abandoned):
                    shutil.rmtree(abandoned, ignore_errors=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=around))
    with _locked(hidden):
        folder = hidden.rename(hidden.with_name(hidden.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; an OSError if another process does, or there is no such folder."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def end_children_with_this_process() -> None:
    """Have all processes that this one starts from now on killed within a second of its own end."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    subprocess.Popen(  # noqa: S603 - this interpreter and fixed words
        [sys.executable, "-I", "-S", "-c", WATCH, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
