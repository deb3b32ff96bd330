"""Metrics: which of a task is tested, which values are numbers, and what a name says of direction and range.

A test needs one number per sample. Metrics that lm-eval computes over a whole corpus (F1, BLEU of a corpus)
leave a list per sample, from which nothing can be tested; they are named and left out rather than misread.

What names mean is data, known_metrics.csv: one list for the metrics of all tools, with direction and range of
a single sample's value. A word error rate has no limit: insertions can exceed the reference.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from math import inf
from pathlib import Path
from typing import TypeVar

from jobs.formats.notices import some
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from stats.arrays import LARGEST_SCORE

T = TypeVar("T")
GENERIC = "score"  # the metric of a score table that names none
MOST_WORDS = 4  # of a listed name
TRUTH = {"true": 1.0, "false": 0.0}


def as_number(value: object) -> float | None:
    """A score as a number: numbers, booleans and their spelling ("True", "0.5"); None for anything else.

    NaN and infinities come back as they are, for the caller to refuse by name.
    """
    text = value.strip().lower() if isinstance(value, str) else value
    if not isinstance(text, (bool, int, float, str)):
        return None
    try:
        return TRUTH[text] if text in TRUTH else float(text)
    except OverflowError:  # JSON has integers of any size
        return inf
    except ValueError:
        return None


def requested(task: str, group: str | None, given: Mapping[str, T]) -> T | None:
    """What the user said about a task: by its name, its group's, or a pattern; in this order."""
    for name in (task, group):
        if name is not None and name in given:
            return given[name]
    return next((value for pattern, value in given.items() if fnmatchcase(task, pattern)), None)


def resolve_metric(task: str, wanted: str, available: Sequence[str]) -> str:
    """Turn "metric,filter", or only "metric" where one filter has it, into a key of those that a task has.

    Raises UserError if there is no such metric, or several filters have it.
    """
    if wanted in available:
        return wanted
    matches = [key for key in available if key.split(",")[0] == wanted]
    if len(matches) == 1:
        return matches[0]
    quoted = ", ".join(map(repr, matches or available)) or "none"
    if matches:
        raise UserError(f"Task {task} has {wanted} with several filters: choose one of {quoted}.")
    raise UserError(f"Task {task} has no metric {wanted!r} with a number per sample; it has {quoted}.")


def refuse_unused(option: str, given: Iterable[str], tasks: Mapping[str, str | None]) -> None:
    """Refuse a name or pattern, given with an option, that no task, given with its group, answers to.

    Raises UserError, naming the option, what was given, and the tasks there are.
    """
    if unknown := unused_requests(given, tasks):
        raise UserError(f"{option} matches no task: {some(unknown)}; the tasks are {some(list(tasks), 20)}.")


def unused_requests(given: Iterable[str], tasks: Mapping[str, str | None]) -> list[str]:
    """Names and patterns that no task, given with its group, answers to."""
    known = {*tasks, *tasks.values()}
    return [
        name for name in given if name not in known and not any(fnmatchcase(task, name) for task in tasks)
    ]


Bounds = tuple[float, float]

UNBOUNDED: Bounds = (float("-inf"), float("inf"))
UNIT: Bounds = (0.0, 1.0)
PERCENT: Bounds = (0.0, 100.0)


def parse_range(text: str, where: str) -> Bounds:
    """Read a range: "0..10", or "none" for scores without one.

    Raises UserError if it is neither, in a sentence that begins with `where`.
    """
    if text.strip().lower() == "none":
        return UNBOUNDED
    low, _, high = text.partition("..")
    try:
        bounds = (float(low), float(high))
    except ValueError:
        bounds = UNBOUNDED
    if not -LARGEST_SCORE <= bounds[0] < bounds[1] <= LARGEST_SCORE:
        raise UserError(
            f"{where}: write a range as LOW..HIGH, such as 0..10, or none for scores without limits."
        )
    return bounds


def range_text(bounds: Bounds) -> str:
    """A range as `parse_range` reads it."""
    return "none" if bounds == UNBOUNDED else f"{bounds[0]!r}..{bounds[1]!r}"


Known = tuple[bool | None, tuple[Bounds, ...]]
"""Whether higher is better, None where that is unknown or depends on the task; the scales in use, the
narrowest first, none where they are unknown."""

_SHARE_OF_RIGHT = re.compile(r"(?:^|_)(?:acc|accuracy|exact_match|pass(?:@k)?)(?:_|$)")
"""Words within a longer name (acc_text, per_option_accuracy_A) that tell its range and not its direction: an
accuracy_gap is better when lower."""

_NEGATION = re.compile(r"(?:^|_)(?:no|non|not|anti|avoid|neg|negative|inverse|inverted|minus|1|without)_")


@cache
def _table() -> dict[str, Known]:
    """The names in known_metrics.csv; those with a star may also be the last words of a longer name."""
    better = {"higher": True, "lower": False, "depends": None}
    with Path(__file__).with_name("known_metrics.csv").open(encoding="utf-8", newline="") as file:
        return {
            name: (better[row["better"]], tuple(parse_range(text, name) for text in row["range"].split()))
            for row in csv.DictReader(file)
            for name in row["names"].split()
        }


def listed_metric(name: str) -> Known | None:
    """What known_metrics.csv has for a metric, "metric" or "metric,filter" in any spelling; None for nothing.

    A longer name means what its last words mean (valid_loss), unless these are negated (no_hallucination); a
    number or a unit at its end does not count (exact_match@5, nll_per_token).
    """
    plain = _plain(name)
    for text in (plain, re.sub(r"@k$|_(?:mean|avg|average|per_\w+)$", "", plain)):
        if text in _table():
            return _table()[text]
        for start in [0, *(separator.end() for separator in re.finditer("_", text))][-MOST_WORDS:]:
            if known := _table().get(f"*{text[start:]}"):
                return None if _NEGATION.search(text[:start]) else known
    return None


def known_metric(name: str) -> Known:
    """Direction and possible ranges of a metric by its name, as far as it tells them."""
    return listed_metric(name) or (None, (UNIT,) if _SHARE_OF_RIGHT.search(_plain(name)) else ())


def known_direction(metric: str, task: str, stated: bool | None = None) -> bool | None:
    """Whether higher is better as stated, else by the metric's name; for a mere score also by the task's.

    None where names do not say: a score on a task that is called refusal_rate could mean both.
    """
    if stated is not None or _plain(metric) != GENERIC:
        return known_metric(metric)[0] if stated is None else stated
    of_task = listed_metric(task)
    return True if of_task is None or of_task[0] else None


def certain_range(name: str) -> Bounds | None:
    """The range of a metric's values as far as it is certain before any has been seen.

    Returns:
        None where the values have no range, or the name leaves several possible.
    """
    _, ranges = known_metric(name)
    return ranges[0] if len(ranges) == 1 and ranges[0] != UNBOUNDED else None


def _plain(name: str) -> str:
    """The metric without filter and parameters, its words joined by underscores, any number after @ as k."""
    metric = re.sub(r"(?<=[a-z])(?=[A-Z])|[-. ]", "_", re.split("[,:]", name)[0].strip())
    return re.sub(r"[@^]\w+", "@k", metric.lower())


def parse_assignments(option: str, given: Sequence[str], form: str = "KEY=VALUE") -> dict[str, str]:
    """Turn ["a=b", …] into {a: b}.

    Raises UserError if one has no "=", an empty side, or a key twice; it names the option.
    """
    pairs = [[side.strip() for side in text.partition("=")] for text in given]
    for text, (key, _, value) in zip(given, pairs, strict=True):
        if not key or not value:
            raise UserError(f"{option} {text}: write {form}.")
    keys = [key for key, _, _ in pairs]
    if len(set(keys)) < len(keys):
        raise UserError(f"{option} names {next(k for k in keys if keys.count(k) > 1)} twice.")
    return {key: value for key, _, value in pairs}


def read_metrics(path: Path | None) -> dict[str, str]:
    """Read {task: metric} from a JSON file.

    Raises UserError if it is not such a file.
    """
    if path is None:
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"--metrics {path} must hold a mapping from task to metric.")
    return content
