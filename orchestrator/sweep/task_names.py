"""Names in lm-eval's own collection of tasks, without parsing its 14,000 files, which takes six seconds."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import lm_eval.tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(rb"^(?:task|group|tag): *['\"]?([^\s'\"\[\]]+)", re.MULTILINE)
_LISTED = re.compile(  # the same, and whatever is in a list: all names, and some words that are none
    rb"(?:^[ \t]*-[ \t]+|^[\"' \t]*(?:-[ \t]+)?(?:task|group|tag|task_list)s?[\"']?:[ \t]*|[\[,][ \t]*)"
    rb"['\"]?([^'\"\n\[\],#]+?)['\"]?[ \t\r]*(?=$|[\],#])",
    re.MULTILINE,
)
_NO_TASKS = (".py", ".pyc", ".md")
_THREADS, _FILES_AT_ONCE = 16, 200  # a disk that has not read them yet answers many requests at once


def may_be_task(name: str) -> bool:
    """Whether a name is listed in a task file; if not, lm-eval has no task, group or tag of that name."""
    return name.encode(errors="replace") in _listed()


@cache
def _listed() -> frozenset[bytes]:
    return frozenset(_LISTED.findall(_texts()))


def likely_names() -> list[str]:
    """Most names in the collection, to suggest one from: names that tasks inherit are missing."""
    return sorted({name.decode(errors="replace") for name in _NAME.findall(_texts())})


@cache
def _texts() -> bytes:
    """The texts of all task files and templates, some seven megabytes."""
    paths = [
        Path(folder, name)
        for folder, _, names in os.walk(Path(lm_eval.tasks.__file__).parent)
        for name in names
        if not name.endswith(_NO_TASKS)
    ]
    batches = [paths[start : start + _FILES_AT_ONCE] for start in range(0, len(paths), _FILES_AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return b"\n".join(pool.map(_read, batches))


def _read(paths: Sequence[Path]) -> bytes:
    return b"\n".join(path.read_bytes() for path in paths)
