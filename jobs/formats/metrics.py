"""Metrics: which of a task is tested, which values are numbers, and what a name says of direction and range.

A test needs one number per sample. Metrics that lm-eval computes over a whole corpus (F1, BLEU of a corpus)
leave a list per sample, from which nothing can be tested; they are named and left out rather than misread.

Ranges are those of a single sample's value. Where two scales are in use (BLEU as a share or in percent),
the first one that holds all scores is meant. A word error rate has no limit: insertions can exceed the
reference.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import TypeVar

from jobs.formats.notices import some
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from stats.arrays import LARGEST_SCORE

T = TypeVar("T")
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


Known = tuple[bool, tuple[Bounds, ...]]
"""Whether higher is better, and the scales in use, the narrowest first; none where the name does not say."""

_BY_ENDING: dict[str, Known] = {
    **dict.fromkeys(
        ("perplexity", "ppl", "bits_per_byte", "bits_per_char", "bpb", "loss", "nll", "cross_entropy",
         "kl_divergence", "wer", "cer", "ter", "edit_distance", "levenshtein", "levenshtein_distance", "mae",
         "mse", "rmse"),
        (False, (UNBOUNDED,)),
    ),
    **dict.fromkeys(("normalized_edit_distance", "ece", "toxicity"), (False, (UNIT,))),
    **dict.fromkeys(("error_rate", "hallucination_rate"), (False, (UNIT, PERCENT))),
    **dict.fromkeys(("brier", "brier_score"), (False, (UNIT, (0.0, 2.0)))),
    **dict.fromkeys(("error", "err"), (False, ())),
}  # fmt: skip
"""Names that say the direction wherever they end a longer one: valid_loss, word_perplexity."""

_BY_NAME: dict[str, Known] = {
    **dict.fromkeys(
        ("acc", "acc_norm", "accuracy", "exact_match", "em", "f1", "bleu", "sacrebleu", "chrf", "rouge1",
         "rouge2", "rougel", "rougelsum", "meteor", "bleu_max", "rouge1_max", "rouge2_max", "rougel_max"),
        (True, (UNIT, PERCENT)),
    ),
    **dict.fromkeys(("loglikelihood", "log_likelihood", "logprob"), (True, (UNBOUNDED,))),
    "mcc": (True, ((-1.0, 1.0),)),
}  # fmt: skip

_SHARE_OF_RIGHT = re.compile(r"(?:^|_)(?:acc|accuracy|exact_match|pass(?:@\d+)?)(?:_|$)")
"""Right or wrong in longer names, too: prompt_level_strict_acc, exact_match_original, pass@1."""

_ENDING = re.compile(rf"(?:^|[\W_])({'|'.join(sorted(_BY_ENDING, key=len, reverse=True))})$")


def known_metric(name: str) -> Known | tuple[None, tuple[()]]:
    """Direction and possible ranges of a metric by its name, "metric" or "metric,filter" in any case.

    Returns:
        None and no ranges where the name says nothing.
    """
    plain = _plain(name)
    if plain in _BY_NAME:
        return _BY_NAME[plain]
    if ending := _ENDING.search(plain):
        return _BY_ENDING[ending[1]]
    return (True, (UNIT, PERCENT)) if _SHARE_OF_RIGHT.search(plain) else (None, ())


def certain_range(name: str) -> Bounds | None:
    """The range of a metric's values as far as it is certain before any has been seen.

    Returns:
        None where the values have no range, or the name leaves several possible.
    """
    _, ranges = known_metric(name)
    if not ranges or ranges[0] == UNBOUNDED:
        return None
    return ranges[0] if len(ranges) == 1 or _SHARE_OF_RIGHT.search(_plain(name)) else None


def _plain(name: str) -> str:
    """The metric alone, its words joined by underscores."""
    return name.partition(",")[0].strip().lower().replace("-", "_").replace(" ", "_")


def known_direction(name: str) -> bool:
    """Whether higher is better as far as the name says; True where it says nothing."""
    return known_metric(name)[0] is not False


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
