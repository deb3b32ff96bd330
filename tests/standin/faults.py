"""Disks and memory that fail at the nth step, as SQLite's tests have them.

A step is a call of the operating system that changes a folder, or a line of our own code, which may allocate
memory. It fails once, so that what follows can tidy up; or the process ends there, and what was never
synchronized is lost with the power.
"""

import itertools
import os
import sys
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tuple(f"{ROOT / package}{os.sep}" for package in ("lldeg", "jobs", "orchestrator", "stats"))
ON_FILES, ON_PATHS = ("write", "fsync"), ("replace", "unlink", "mkdir", "rmdir")


class DiskError(OSError):
    """A step that was made to fail."""


class FailingDisk:
    """Counts the steps that change a folder, and fails one of them.

    Args:
        folder: on the disk.
        step: number of the step that fails, from 0; None fails none.
        for_good: whether all later ones fail, too, as if the process had been killed there.
    """

    def __init__(self, folder, step=None, *, for_good=False):
        self.folder, self.step, self.for_good = str(folder), step, for_good
        self.steps = 0
        self._unsynchronized = set()  # inodes

    def __enter__(self):
        self._real = {name: getattr(os, name) for name in (*ON_FILES, *ON_PATHS)}
        for name in ON_FILES:
            setattr(os, name, lambda file, *rest, name=name: self._on_file(name, file, *rest))
        for name in ON_PATHS:
            setattr(os, name, lambda path, *rest, name=name, **how: self._on_path(name, path, *rest, **how))
        return self

    def __exit__(self, *_):
        for name, real in self._real.items():
            setattr(os, name, real)
        if self.for_good:  # the power goes with the process
            for path in Path(self.folder).rglob("*"):
                if path.is_file() and path.stat().st_ino in self._unsynchronized:
                    os.truncate(path, 0)

    @property
    def failed(self):
        """Whether there were so many steps."""
        return self.step is not None and self.steps > self.step

    def _on_file(self, name, file, *rest):
        if not str(Path(f"/proc/self/fd/{file}").readlink()).startswith(self.folder):
            return self._real[name](file, *rest)
        inode = os.fstat(file).st_ino
        if name == "write":
            self._unsynchronized.add(inode)
        if self._is_to_fail():
            if name == "write":
                self._real["write"](file, bytes(rest[0])[: len(rest[0]) // 2])
            raise DiskError(ENOSPC, f"{name} failed")
        if name == "fsync":
            self._unsynchronized.discard(inode)
        return self._real[name](file, *rest)

    def _on_path(self, name, path, *rest, **how):
        if str(path).startswith(self.folder) and self._is_to_fail():
            raise DiskError(ENOSPC, f"{name} failed")
        return self._real[name](path, *rest, **how)

    def _is_to_fail(self):
        self.steps += 1
        return self.steps - 1 >= self.step if self.for_good else self.steps - 1 == self.step


@contextmanager
def no_memory(at):
    """Let the nth line of our own code, from 0, find no memory."""
    lines = itertools.count()

    def line(_, event, __):
        if event == "line" and next(lines) == at:
            raise MemoryError
        return line

    def trace(frame, *_):
        return line if frame.f_code.co_filename.startswith(PACKAGES) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
