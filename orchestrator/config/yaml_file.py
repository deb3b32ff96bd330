"""YAML files that people write: read without code, and every mistake in them as a sentence."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from orchestrator.errors import UserError, suggestion
from orchestrator.input_files import LARGEST_YAML, read_input

MOST_VALUES, DEEPEST = 100_000, 32
LARGEST_WHOLE = 2**63 - 1
_BROKEN = re.compile("[\ud800-\udfff\0]")
MOST_MISTAKES = 100
_YAML_WORDS = ((r"valid dictionary( or instance of \w+)?", "mapping"), (r"(valid )?\b[Tt]uple", "list"))


def read_mapping(path: Path, what: str, keys: str) -> tuple[dict[str, Any], list[str]]:
    """The content of a YAML file whose top level is a mapping, and its duplicate keys, a sentence each.

    If there is no such file, or no mapping in it, the UserError says what it should be ("a sweep"), and which
    keys that has.
    """
    try:
        text = read_input(path, LARGEST_YAML).decode()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; pass the YAML file of {what}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    try:
        loader = _Loader(text)
        raw = loader.get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # a 13th month, for example
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise UserError(f"{path} is not valid YAML{where}: {reason}.") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not {what}: {what} is a YAML mapping with {keys}.")
    return raw, loader.duplicates


class _Loader(yaml.SafeLoader):
    """YAML without code, which notices duplicate keys (plain YAML lets the last one win)."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.duplicates: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                self.duplicates.append(f"duplicate key '{key.value}' at line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def set_key(raw: dict[str, Any], override: str) -> str | None:
    """Set a key as `--set` asks; returns what is wrong with the override, None if nothing is."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"--set {override}: expected KEY=VALUE, for example --set sampling.seeds=5"
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        return f"--set {override}: the value is not valid YAML"
    *parents, last = key.split(".")
    section = raw
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            return f"--set {override}: '{parent}' is not a section"
    section[last] = value
    return None


def unusable_values(raw: Any) -> list[str]:
    """What cannot be used in a nested value, each as "place: what"; all of it is one if it is too large.

    Values are to be plain, so that they can be written as JSON, and of a sensible size. YAML has more: dates,
    sets, anchors that contain themselves or explode when they are expanded, numbers of any size. Whatever a
    sweep would be refused for later, as another error or an endless loop, is named here.
    """
    problems: list[str] = []
    stack: list[tuple[str, int, Any]] = [("", 0, raw)]
    seen = 0
    while stack:
        place, depth, value = stack.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            limit = f"{MOST_VALUES:,} values" if seen > MOST_VALUES else f"{DEEPEST} levels"
            instead = "write it without anchors, or make it smaller"
            return [f"the file has more than {limit}, aliases included: {instead}"]
        where = place or "the file"
        inside: Iterable[tuple[object, Any]] = ()
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    instead = f"{type(key).__name__} instead of text; put it in quotes"
                    problems.append(f"{where}: the key {key!r} is {instead}")
                elif _BROKEN.search(key):
                    problems.append(f"{where}: the key {key!r} is not text that a file can hold")
            inside = value.items()
        elif isinstance(value, list):
            inside = enumerate(value)
        elif problem := _unusable_scalar(value):
            problems.append(f"{where}: {problem}")
        stack += [(f"{place}.{key}" if place else str(key), depth + 1, inner) for key, inner in inside]
    return sorted(problems)


def _unusable_scalar(value: object) -> str | None:
    if isinstance(value, str):
        return f"{value[:50]!r} is not text that a file can hold" if _BROKEN.search(value) else None
    if isinstance(value, int):
        return None if abs(value) <= LARGEST_WHOLE else "the number is too large (it has more than 63 bits)"
    if isinstance(value, float):
        return None if isfinite(value) else f"{value} is not a finite number"
    if value is None:
        return None
    return f"{type(value).__name__} values cannot be used; put it in quotes to make it text"


def mistaken(path: Path, problems: Sequence[str]) -> UserError:
    """The error that names all mistakes of a configuration."""
    if len(problems) == 1:
        return UserError(f"{path}: {problems[0]}.")
    listed = "\n".join(f"  - {problem}" for problem in problems)
    return UserError(f"{path} has {len(problems)} mistakes:\n{listed}")


def mistakes(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """The first problems that pydantic finds in a file, as its places and sentences without full stop.

    A list with wrong entries is not also "too short".
    """
    found = error.errors(include_url=False)[:MOST_MISTAKES]
    for problem in found:
        place, kind = problem["loc"], problem["type"]
        if kind == "too_short" and any(one["loc"][: len(place)] == place != one["loc"] for one in found):
            continue
        where = ".".join(map(str, place))
        if kind == "extra_forbidden":
            yield place, f"unknown key '{where}'{_nearest_key(root, place)}"
        elif kind == "missing":
            yield place, f"'{where}' is missing"
        elif kind == "too_short" and not problem["input"]:
            yield place, f"'{where}' is empty"
        else:
            message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").removesuffix(".")
            for pydantics, yamls in _YAML_WORDS:
                message = re.sub(pydantics, yamls, message)
            yield place, f"{where}: {message[:1].lower()}{message[1:]} (it is {problem['input']!r})"


def _nearest_key(model: type[BaseModel], place: Sequence[int | str]) -> str:
    *above, key = place
    for part in above:
        field = model.model_fields.get(str(part))  # none for a variant's name or a position in a list
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        models = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
        model = next(models, model)
    return suggestion(str(key), list(model.model_fields))
