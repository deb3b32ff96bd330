"""YAML files that people write: read without code, and every mistake in them as a sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from orchestrator.errors import UserError, suggestion
from orchestrator.input_files import LARGEST_YAML, read_input

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from pathlib import Path

MOST_MISTAKES = 100
_YAML_WORDS = ((r"valid dictionary( or instance of \w+)?", "mapping"), (r"(valid )?\b[Tt]uple", "list"))


def read_mapping(path: Path, what: str, keys: str) -> tuple[dict[str, Any], list[str]]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: the file.
        what: what it should be, for errors: "a sweep".
        keys: the keys that it has, for errors.

    Returns:
        Its content, and duplicate keys, a sentence each.

    Raises:
        UserError: no such file, or not a YAML mapping.
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


def mistaken(path: Path, problems: Sequence[str]) -> UserError:
    """The error that names all mistakes of a configuration."""
    if len(problems) == 1:
        return UserError(f"{path}: {problems[0]}.")
    listed = "\n".join(f"  - {problem}" for problem in problems)
    return UserError(f"{path} has {len(problems)} mistakes:\n{listed}")


def own_mistakes(error: ValidationError) -> Iterator[Any]:
    """The first problems without "too short", which pydantic reports for a list with wrong entries, too."""
    found = error.errors(include_url=False)[:MOST_MISTAKES]
    for problem in found:
        place = problem["loc"]
        inner = any(other["loc"][: len(place)] == place != other["loc"] for other in found)
        if problem["type"] != "too_short" or not inner:
            yield problem


def mistake_sentence(problem: Any, root: type[BaseModel]) -> str:
    """One of pydantic's problems as a sentence without its full stop.

    Args:
        problem: an entry of `ValidationError.errors()`.
        root: the model of the whole file.
    """
    location: list[int | str] = list(problem["loc"])
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'{suggestion(str(location[-1]), _fields_at(location[:-1], root))}"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    if problem["type"] == "too_short" and not problem["input"]:
        return f"'{where}' is empty"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    for pydantics, yamls in _YAML_WORDS:
        message = re.sub(pydantics, yamls, message)
    return f"{where}: {message[:1].lower()}{message[1:]} (it is {problem['input']!r})"


def _fields_at(location: Sequence[int | str], root: type[BaseModel]) -> list[str]:
    """The keys allowed at a location in the configuration, found by walking down the model classes."""
    model = root
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a variant's name or a position in a list
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model
        )
    return list(model.model_fields)
