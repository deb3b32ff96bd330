"""Shipping lldeg's code and a sweep's own task files to Ray clusters that have neither.

Both are sent as Ray's `py_modules`: a node unpacks each once and finds it by its name.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.task_files import size_problem, task_files
from orchestrator.cluster.temporary_folder import temporary_folder
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.engines.base import EngineSpec

PACKAGES = ("jobs", "orchestrator", "stats")
TASKS = "lldeg_tasks"


def packages() -> list[str]:
    """Folders of the packages that a node needs to run lldeg."""
    return [str(_folder(name)) for name in PACKAGES]


@contextmanager
def modules(task_folders: Sequence[str]) -> Iterator[list[str]]:
    """Folders of all that a replica needs: the packages and, within the context, copies of the task files."""
    with temporary_folder() as folder:
        copies = folder / TASKS
        copy_tasks(task_folders, copies)
        yield [*packages(), *([str(copies)] if task_folders else [])]


def replica_environment(engine: EngineSpec) -> dict[str, Any]:
    """Ray's runtime environment of a replica: its Python, and variables that libraries read at import."""
    environment: dict[str, Any] = {"env_vars": engine.env} if engine.env else {}
    if engine.python is not None:
        environment["py_executable"] = quote(engine.python)
    return environment


def copy_tasks(task_folders: Sequence[str], into: Path) -> list[Path]:
    """Copy the task files of folders into a folder, each under its number.

    Raises:
        UserError: they are too large to be sent.
    """
    if problem := size_problem(task_folders):
        raise UserError(f"{problem}.")
    return [_copy(Path(tasks), into / str(number)) for number, tasks in enumerate(task_folders)]


def _copy(tasks: Path, into: Path) -> Path:
    into.mkdir(parents=True)
    for file in task_files(tasks):
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tasks / file, into / file)
    return into


def shipped_tasks() -> tuple[str, ...]:
    """The task folders shipped to this node with a sweep, in their order; empty if there are none."""
    folder = _folder(TASKS)
    if folder is None:
        return ()
    return tuple(str(path) for path in sorted(folder.iterdir(), key=lambda path: int(path.name)))


def _folder(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
