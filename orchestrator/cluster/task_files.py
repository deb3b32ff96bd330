"""The files of task folders that are sent to the nodes: what lm-eval tasks are made of, and nothing else.

A folder of tasks may also contain keys, downloads and links to the rest of the disk. Files are therefore
chosen by what they are, not left out by what they are not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIXES = {".yaml", ".yml", ".py", ".json", ".jsonl", ".csv", ".parquet", ".txt"}
KEY_FILE = re.compile(
    r"((access|api|auth|client|hf|private)[_-]?)?(credential|key|password|secret|token)s?|service[_-]?account",
    re.IGNORECASE,
)
"""What files of keys are called, without the suffix."""
PRIVATE_KEY = b"PRIVATE KEY-----"
SEARCHED = 1 << 16  # bytes; files of keys and YAML templates are smaller
LARGEST = 200 << 20  # bytes; Ray itself refuses 500 MiB, after packing them
_INCLUDE = re.compile(rb"^include:(.*(?:\n *- .*)*)", re.MULTILINE)


def task_files(folder: Path) -> list[Path]:
    """The files of a task folder that are sent, relative to it.

    They have one of the suffixes, or have none and are included by a task file. Hidden files, files of keys,
    special files and what links reach outside of the folder are left out.
    """
    root = folder.resolve()
    files = {place: (root / place).resolve() for place in _regular_files(root, Path(), (root,))}
    heads = {real: _head(real) for real in files.values()}
    included = {name for head in heads.values() for name in _includes(head)}
    return sorted(
        place
        for place, real in files.items()
        if all(_is_named(path, included) for path in (place, real)) and PRIVATE_KEY not in heads[real]
    )


def size_problem(folders: Sequence[str]) -> str | None:
    """Why task folders are too large to be sent, a sentence without its full stop; None if not."""
    sizes = {
        name: sum((Path(name) / file).stat().st_size for file in task_files(Path(name))) for name in folders
    }
    if sum(sizes.values()) <= LARGEST:
        return None
    listed = ", ".join(f"{name} has {size / 2**20:,.0f} MiB" for name, size in sizes.items())
    return (
        f"include_path: at most {LARGEST >> 20} MiB of task files can be sent to the nodes, but {listed}; "
        "move data sets to a place that all nodes can read"
    )


def unreadable_tasks(folders: Sequence[str]) -> list[str]:
    """Task files that lm-eval would wait for, such as pipes: sentences without their full stops."""
    return [
        f"include_path: {path} is not a regular file; remove it"
        for folder in folders
        for path in sorted(Path(folder).glob("**/*.yaml"))
        if path.exists() and not path.is_file() and not path.is_dir()
    ]


def _regular_files(root: Path, below: Path, parents: tuple[Path, ...]) -> Iterator[Path]:
    """Visible regular files that are in the root, links resolved; `parents` are the folders on the way."""
    for entry in os.scandir(root / below):
        place = below / entry.name
        real = Path(
            os.path.realpath(entry.path)
        )  # Path.resolve refuses links in a circle with a RuntimeError
        if not real.is_relative_to(root) or _is_hidden(place) or _is_hidden(real.relative_to(root)):
            continue
        if not os.access(real, os.R_OK):
            continue
        if real.is_dir() and real not in parents:
            yield from _regular_files(root, place, (*parents, real))
        elif real.is_file():
            yield place


def _is_hidden(place: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in place.parts)


def _is_named(path: Path, included: set[str]) -> bool:
    """Whether a file is called what files of tasks are called."""
    known = path.suffix.lower() in SUFFIXES or (not path.suffix and path.name in included)
    return known and not KEY_FILE.fullmatch(path.stem)


def _includes(head: bytes) -> set[str]:
    """Names of the files that a task file includes."""
    words = [word for match in _INCLUDE.findall(head) for word in re.findall(rb"[\w./-]+", match)]
    return {Path(word.decode(errors="replace")).name for word in words}


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SEARCHED)
