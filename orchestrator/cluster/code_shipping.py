"""Shipping lldeg's code and a sweep's own task files to Ray clusters that have neither.

Both are sent as Ray's `py_modules`: a node unpacks each once and finds it by its name.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.engines.base import EngineSpec

PACKAGES = ("jobs", "orchestrator", "stats")
TASKS = "lldeg_tasks"
NOT_SHIPPED = ("__pycache__", ".git", ".gitignore")  # Ray would leave out what a .gitignore names: data, say


def packages() -> list[str]:
    """Folders of the packages that a node needs to run lldeg."""
    return [str(_folder(name)) for name in PACKAGES]


@contextmanager
def modules(task_folders: Sequence[str]) -> Iterator[list[str]]:
    """Folders of all that a replica needs: the packages and, within the context, copies of the task files."""
    with tempfile.TemporaryDirectory(prefix="lldeg-") as folder:
        copies = Path(folder) / TASKS
        copy_tasks(task_folders, copies)
        yield [*packages(), *([str(copies)] if task_folders else [])]


def replica_environment(engine: EngineSpec) -> dict[str, Any]:
    """Ray's runtime environment of a replica: its Python, and variables that libraries read at import."""
    environment: dict[str, Any] = {"env_vars": engine.env} if engine.env else {}
    if engine.python is not None:
        environment["py_executable"] = quote(engine.python)
    return environment


def copy_tasks(task_folders: Sequence[str], into: Path) -> list[Path]:
    """Copy folders of task files into a folder, each under its number."""
    return [
        shutil.copytree(tasks, into / str(number), ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        for number, tasks in enumerate(task_folders)
    ]


def shipped_tasks() -> tuple[str, ...]:
    """The task folders shipped to this node with a sweep, in their order; empty if there are none."""
    folder = _folder(TASKS)
    if folder is None:
        return ()
    return tuple(str(path) for path in sorted(folder.iterdir(), key=lambda path: int(path.name)))


def _folder(name: str) -> Path | None:
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
