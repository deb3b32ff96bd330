"""Which metric of a task is tested, and which values are numbers at all.

A test needs one number per sample. Metrics that lm-eval computes over a whole corpus (F1, BLEU of a corpus)
leave a list per sample, from which nothing can be tested; they are named and left out rather than misread.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import TypeVar

from orchestrator.errors import UserError

T = TypeVar("T")
TRUTH = {"true": 1.0, "false": 0.0}


def as_number(value: object) -> float | None:
    """A score as a number: numbers, booleans and their spelling ("True", "0.5"); None for anything else.

    NaN and infinities come back as they are, for the caller to refuse by name.
    """
    if isinstance(value, (bool, int, float)):
        return _float(value)
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if text in TRUTH:
        return TRUTH[text]
    try:
        return float(text)
    except ValueError:
        return None


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # JSON has integers of any size
        return inf


def requested_metric(task: str, group: str | None, metrics: Mapping[str, str]) -> str | None:
    """The metric the user asked for: by the task's name, its group's, or a pattern; in this order."""
    return requested(task, group, metrics)


def requested(task: str, group: str | None, given: Mapping[str, T]) -> T | None:
    """What the user said about a task: by its name, its group's, or a pattern; in this order."""
    for name in (task, group):
        if name is not None and name in given:
            return given[name]
    return next((value for pattern, value in given.items() if fnmatchcase(task, pattern)), None)


def resolve_metric(task: str, wanted: str, available: Sequence[str]) -> str:
    """Turn what the user wrote into a metric key of the task.

    Args:
        task: name of the task, for the error.
        wanted: "metric,filter", or only "metric" where one filter has it.
        available: the keys that exist.

    Raises:
        UserError: if there is no such metric, or several filters have it.
    """
    if wanted in available:
        return wanted
    matches = [key for key in available if key.split(",")[0] == wanted]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(f"Task {task} has {wanted} with several filters: choose one of {_quoted(matches)}.")
    raise UserError(
        f"Task {task} has no metric {wanted!r} with a number per sample; it has {_quoted(available)}."
    )


def _quoted(keys: Sequence[str]) -> str:
    return ", ".join(repr(key) for key in keys) if keys else "none"


def unused_requests(metrics: Mapping[str, str], tasks: Mapping[str, str | None]) -> list[str]:
    """Names in --metric that no task answers to.

    Args:
        metrics: metric by task, group or pattern.
        tasks: group by task.
    """
    groups = set(tasks.values())
    return [
        name
        for name in metrics
        if name not in tasks and name not in groups and not any(fnmatchcase(task, name) for task in tasks)
    ]
