"""Shipping lldeg's code and a sweep's own task files to Ray clusters that have neither.

Both are sent as Ray's `py_modules`: a node unpacks each once and finds it by its name. A folder of tasks may
also contain keys, downloads and links to the rest of the disk. Its files are therefore chosen by what they
are (what lm-eval tasks are made of), not left out by what they are not.
"""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from orchestrator.cluster.processes import temporary_folder
from orchestrator.errors import UserError

PACKAGES = ("jobs", "orchestrator", "stats")
TASKS = "lldeg_tasks"
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


def packages() -> list[str]:
    """Folders of the packages that a node needs to run lldeg."""
    return [str(_folder(name)) for name in PACKAGES]


def _folder(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


@contextmanager
def modules(task_folders: Sequence[str]) -> Iterator[list[str]]:
    """Folders of all that a replica needs: the packages and, within the context, copies of the task files."""
    with temporary_folder() as folder:
        copies = folder / TASKS
        copy_tasks(task_folders, copies)
        yield [*packages(), *([str(copies)] if task_folders else [])]


def copy_tasks(task_folders: Sequence[str], into: Path) -> list[Path]:
    """Copy the task files of folders into a folder, each under its number; a UserError if too large."""
    if problem := size_problem(task_folders):
        raise UserError(f"{problem}.")
    copies = [into / str(number) for number in range(len(task_folders))]
    for tasks, copy in zip(map(Path, task_folders), copies, strict=True):
        copy.mkdir(parents=True)
        for file in task_files(tasks):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tasks / file, copy / file)
    return copies


def shipped_tasks() -> tuple[str, ...]:
    """The task folders shipped to this node with a sweep, in their order; empty if there are none."""
    folder = _folder(TASKS)
    copies = folder.iterdir() if folder else ()
    return tuple(str(path) for path in sorted(copies, key=lambda path: int(path.name)))


def task_files(folder: Path) -> list[Path]:
    """The files of a task folder that are sent, relative to it.

    They have one of the suffixes, or have none and are included by a task file. Hidden files, files of keys,
    special files and what links reach outside of the folder are left out.
    """
    root = folder.resolve()
    files = {place: (root / place).resolve() for place in _regular_files(root, Path(), (root,))}
    heads: dict[Path, bytes] = {}
    for real in files.values():
        with real.open("rb") as file:
            heads[real] = file.read(SEARCHED)
    texts = [text for head in heads.values() for text in _INCLUDE.findall(head)]
    words = [word for text in texts for word in re.findall(rb"[\w./-]+", text)]
    included = {Path(word.decode(errors="replace")).name for word in words}

    def is_sent(path: Path) -> bool:
        known = path.suffix.lower() in SUFFIXES or (not path.suffix and path.name in included)
        return known and not KEY_FILE.fullmatch(path.stem)

    return sorted(
        place
        for place, real in files.items()
        if is_sent(place) and is_sent(real) and PRIVATE_KEY not in heads[real]
    )


def _regular_files(root: Path, below: Path, parents: tuple[Path, ...]) -> Iterator[Path]:
    """Visible regular files that are in the root, links resolved; `parents` are the folders on the way."""
    for entry in os.scandir(root / below):
        place = below / entry.name
        real = Path(os.path.realpath(entry.path))  # Path.resolve refuses a circle with a RuntimeError
        if not real.is_relative_to(root) or not os.access(real, os.R_OK):
            continue
        parts = (*place.parts, *real.relative_to(root).parts)
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        if real.is_dir() and real not in parents:
            yield from _regular_files(root, place, (*parents, real))
        elif real.is_file():
            yield place


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
