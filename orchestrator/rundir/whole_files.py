"""Files that appear whole or not at all, and sets of files that appear together.

Every file that lldeg leaves somewhere, but for logs that grow, is written by `Folder.write` or is one of a
`FileSet`: whatever fails, and whenever, nobody finds half a file or files that do not belong together.
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from errno import EINVAL, ENOTSUP
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import UserError
from orchestrator.input_files import open_input
from orchestrator.rundir.location import exists, open_location

UNFINISHED = re.compile(r"\.lldeg-[0-9a-f]{32}")
"""Names of files that are still being written, or never were to the end."""


@contextmanager
def writing_to(out: object) -> Iterator[None]:
    """Say which folder could not be written to, as a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"Cannot write to {out}: {error}. Choose another folder with --out.") from error


@contextmanager
def hidden_file(folder: Path, content: bytes | pa.Buffer, *, sync: bool) -> Iterator[Path]:
    """A new file under a hidden name, gone at the end of the context unless it was moved.

    It is locked until then, so that `remove_unfinished` can tell it from what a killed process has left.
    """
    path = folder / f".lldeg-{uuid4().hex}"
    try:
        with path.open("xb", buffering=0) as file:
            with suppress(OSError):  # some network disks have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
            if sync:
                os.fsync(file.fileno())
            yield path
    finally:
        with suppress(OSError):  # it was moved, or the disk fails
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk, if the folder may be read."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in {EINVAL, ENOTSUP}:  # some network disks cannot, and keep names anyway
            raise
    finally:
        os.close(opened)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left half-written in a folder; what one still writes is locked."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if UNFINISHED.fullmatch(path.name):
            with suppress(OSError), path.open("r+b") as file:  # still being written, or somebody else's
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name at the end; another process may be first, and wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        os.sync()
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class Folder:
    """A folder, and the files in it by their paths there.

    `path` is its path on its filesystem; `local_folder` is the same as a local path, None on an object store.
    Errors are those of `open_location`.
    """

    def __init__(self, location: str | Path, *, must_answer: bool = True) -> None:
        self.url = str(location)
        self.filesystem, self.path = open_location(self.url, must_answer=must_answer)
        is_local = isinstance(self.filesystem, pafs.LocalFileSystem)
        self.local_folder = Path(self.path) if is_local else None

    def at(self, name: str) -> str:
        """The path of a file on the filesystem."""
        return f"{self.path}/{name}"

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self.filesystem.get_file_info(self.at(name)).type == pafs.FileType.File)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; an OSError if that cannot be."""
        if self.local_folder is not None:
            return open_input(self.local_folder / name)
        return cast("BinaryIO", self.filesystem.open_input_file(self.at(name)))

    def write(self, name: str, content: bytes | pa.Buffer, *, sync: bool = True) -> None:
        """Make a file appear that has all of the content, in a new folder if need be; or change nothing.

        On a disk it is written under a hidden name and moved; object stores show an upload when it is closed.
        With `sync` it is on the disk when this returns, so that it survives a power failure. An OSError if
        the storage fails.
        """
        handler = getattr(self.filesystem, "handler", None)
        if self.local_folder is not None:
            target = self.local_folder / name
            made = [folder for folder in target.parents if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True)
            with hidden_file(target.parent, content, sync=sync) as unfinished:
                unfinished.replace(target)
            for folder in (target.parent, *(new.parent for new in made)) if sync else ():
                sync_folder(folder)
        elif isinstance(handler, pafs.FSSpecHandler):  # whose streams may show what they have so far
            handler.fs.makedirs(self.at(name).rpartition("/")[0], exist_ok=True)
            handler.fs.pipe_file(self.at(name), bytes(content))
        else:
            with self.filesystem.open_output_stream(self.at(name)) as stream:
                stream.write(content)

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        if self.has(name) and self.local_folder is not None:
            (self.local_folder / name).unlink()
        elif self.has(name):
            self.filesystem.delete_file(self.at(name))


class FileSet:
    """The files of a command in a folder that may hold others: all of them are there, or none that counts.

    A hidden list is written before the first of them appears. What an earlier or interrupted command has left
    is removed by its list, unless somebody has changed it since, and nothing else is. Of the patterns of
    their paths in the folder, the last one is that of the file that tells that the set is complete.
    """

    def __init__(self, location: str, command: str, names: Sequence[str]) -> None:
        self._folder = Folder(location)
        self._list = f".lldeg-{command}.list"
        self._names = names

    def remove(self) -> None:
        """Remove the files, the last one first; a UserError if the folder cannot be written to."""
        if exists(self._folder.url):
            with self._writing(self._clear):
                self._clear()

    def replace(self, contents: Mapping[str, bytes]) -> None:
        """Put new files, by name, in the place of the old ones; a UserError if that fails: none are there."""
        with self._writing(self._clear):
            self._clear()
            digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
            self._folder.write(self._list, json.dumps(digests, indent=0).encode())
            if (folder := self._folder.local_folder) is None:
                for name, content in contents.items():
                    self._folder.write(name, content)
                return
            with ExitStack() as hidden:  # all are written before the first one appears
                unfinished = {
                    name: hidden.enter_context(hidden_file(folder, content, sync=True))
                    for name, content in contents.items()
                }
                *others, last = unfinished
                for names in (others, [last]):
                    for name in names:
                        unfinished[name].replace(folder / name)
                    sync_folder(folder)

    @contextmanager
    def filling(self, check: Callable[[], None]) -> Iterator[None]:
        """Write the files one by one within the context; if that fails, they go, at the latest next time.

        When what an interrupted command has left is gone, `check` may refuse what else the folder holds. A
        UserError if the folder cannot be written to.
        """
        with self._writing():
            self._empty()
            check()
            with _undone_by(self._empty):
                self._folder.write(self._list, b"{}")
                yield
                self._folder.delete(self._list)

    def _empty(self) -> None:
        """Remove what `filling` has left, the file that tells that the set is complete first."""
        names, local = [], self._folder.local_folder
        if self._folder.has(self._list):
            inside = pafs.FileSelector(self._folder.path, recursive=True)
            files = [info.path for info in self._folder.filesystem.get_file_info(inside) if info.is_file]
            names = sorted(files, key=lambda path: path == self._folder.at(self._names[-1]))
        self._remove(dict.fromkeys(path.removeprefix(self._folder.at("")) for path in names))
        for folder in local.iterdir() if names and local else ():
            _remove_empty(folder)

    def _clear(self) -> None:
        """Remove what `replace` has left, the file that tells that the set is complete first.

        The list has digests by name. Where an older lldeg left none, all that it could write is removed.
        """
        listed: object = None
        with suppress(FileNotFoundError, ValueError, RecursionError), self._folder.open(self._list) as stream:
            listed = json.loads(stream.read())
        if not isinstance(listed, dict):
            listed = dict.fromkeys(self._names) if self._folder.has(self._names[-1]) else {}
        self._remove(listed)

    def _remove(self, digests: Mapping[str, str | None]) -> None:
        """Remove files that the command writes and nobody has changed; a list may come from anywhere."""
        for name, digest in reversed(list(digests.items())):
            *folders, base = name.split("/")
            is_known = any(fnmatchcase(name, pattern) for pattern in self._names)
            if not (is_known or UNFINISHED.fullmatch(base)) or ".." in folders or not self._folder.has(name):
                continue
            if digest is not None:
                with self._folder.open(name) as stream:
                    if sha256(stream.read()).hexdigest() != digest:
                        continue
            self._folder.delete(name)
        self._folder.delete(self._list)
        if self._folder.local_folder is not None:
            remove_unfinished(self._folder.local_folder)

    @contextmanager
    def _writing(self, undo: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep other commands from writing to the folder, where it is on a disk that has locks."""
        with writing_to(self._folder.url), ExitStack() as at_the_end:
            if (folder := self._folder.local_folder) is not None:
                if not folder.exists():
                    at_the_end.callback(_remove_empty, folder)
                folder.mkdir(parents=True, exist_ok=True)
                opened = os.open(folder, os.O_RDONLY)
                at_the_end.callback(os.close, opened)
                with suppress(OSError):
                    fcntl.flock(opened, fcntl.LOCK_EX)
            with _undone_by(undo):
                yield


@contextmanager
def _undone_by(undo: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError, MemoryError):  # then the next command does it
            undo()
        raise


def _remove_empty(folder: Path) -> None:
    """Remove a folder with all folders in it, as far as they are empty."""
    for inside, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(inside).rmdir()
