"""Reading a sweep's YAML file; every mistake in it is named at once.

Three steps: YAML without duplicate keys, `--set` overrides, pydantic. Mistakes are collected instead of
raised one by one, so that a file with five of them can be corrected in one go.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from orchestrator.config.environment import problems_of
from orchestrator.config.plain import unusable_values
from orchestrator.config.schema import Section, SweepConfig
from orchestrator.config.secrets import secrets_in
from orchestrator.engines.base import ENV
from orchestrator.errors import UserError, suggestion

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

_YAML_WORDS = ((r"valid dictionary( or instance of \w+)?", "mapping"), (r"(valid )?\b[Tt]uple", "list"))

SECRETS = "set it in the environment, and write $NAME here if a header needs it"


def load_config(path: Path, overrides: Sequence[str] = ()) -> tuple[SweepConfig | None, list[str]]:
    """Read a sweep configuration and name every mistake in it.

    Args:
        path: the YAML file.
        overrides: `--set` arguments, each "dotted.key=value" with the value in YAML.

    Returns:
        the configuration and the mistakes, one sentence each. With mistakes the configuration is only for
        further checks: it lacks the mistaken parts, or is None if nothing usable is left.

    Raises:
        UserError: no such file, or not a YAML mapping.
    """
    raw, problems = _read_yaml(path)
    problems += [problem for override in overrides if (problem := _override(raw, override))]
    if unusable := unusable_values(raw):
        raise mistaken(path, [*problems, *unusable])
    config, found = _validate(raw)
    problems += found
    if isinstance(raw.get("include_path"), str):
        raw["include_path"] = [raw["include_path"]]
    if config is not None:
        folders = tuple(_beside(path, folder) for folder in config.include_path)
        items = None if config.items is None else _beside(path, config.items)
        config = config.model_copy(update={"include_path": folders, "items": items})
        problems += list(_contradictions(config))
    return config, problems


def _beside(path: Path, name: str) -> str:
    """A path relative to the configuration file, as an absolute one; as it is if it cannot be a path."""
    try:
        return str((path.parent / name).resolve())
    except (OSError, ValueError, RuntimeError):
        return name


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # no name that a disk can hold
        return False


def mistaken(path: Path, problems: Sequence[str]) -> UserError:
    """The error that names all mistakes of a configuration."""
    if len(problems) == 1:
        return UserError(f"{path}: {problems[0]}.")
    listed = "\n".join(f"  - {problem}" for problem in problems)
    return UserError(f"{path} has {len(problems)} mistakes:\n{listed}")


def _read_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; pass the YAML file of a sweep.") from None
    except (OSError, UnicodeDecodeError) as error:
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
        raise UserError(
            f"{path} is not a sweep: a sweep is a YAML mapping with name, baseline, variants and tasks."
        )
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


def _override(raw: dict[str, Any], override: str) -> str | None:
    """Set a key; returns what is wrong with the override, None if nothing is."""
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


def _validate(raw: dict[str, Any]) -> tuple[SweepConfig | None, list[str]]:
    try:
        return SweepConfig.model_validate(raw), []
    except ValidationError as error:
        found = list(_own_mistakes(error))
        problems = [_sentence(problem) for problem in found]
        remaining = _without(raw, [problem["loc"] for problem in found])
    try:
        return SweepConfig.model_validate(remaining), problems
    except ValidationError:
        return None, problems


def _own_mistakes(error: ValidationError) -> Iterator[Any]:
    """The problems without "too short", which pydantic also reports for a list whose entries are wrong."""
    found = error.errors(include_url=False)
    for problem in found:
        place = problem["loc"]
        inner = any(other["loc"][: len(place)] == place != other["loc"] for other in found)
        if problem["type"] != "too_short" or not inner:
            yield problem


def _without(raw: Any, locations: Sequence[Sequence[int | str]]) -> Any:
    """A copy of a nested mapping without the mistaken parts, for the checks that follow."""
    parts = dict(enumerate(raw)) if isinstance(raw, list) else raw
    if not isinstance(parts, dict):
        return raw
    inside = {key for key, value in parts.items() if isinstance(value, (dict, list))}
    heads = {location[0] for location in locations if len(location) == 1 or location[0] not in inside}
    kept = {
        key: _without(value, [loc[1:] for loc in locations if len(loc) > 1 and loc[0] == key])
        for key, value in parts.items()
        if key not in heads
    }
    return list(kept.values()) if isinstance(raw, list) else kept


def _sentence(problem: Any) -> str:
    location: list[int | str] = list(problem["loc"])
    where = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'{suggestion(str(location[-1]), _fields_at(location[:-1]))}"
    if problem["type"] == "missing":
        return f"'{where}' is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    for pydantics, yamls in _YAML_WORDS:
        message = re.sub(pydantics, yamls, message)
    return f"{where}: {message[:1].lower()}{message[1:]} (it is {problem['input']!r})"


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """The keys allowed at a location in the configuration, found by walking down the model classes."""
    model: type[BaseModel] = SweepConfig
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a variant's name or a position in a list
        kinds = [field.annotation, *get_args(field.annotation)]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), model)
    return list(model.model_fields)


def _contradictions(config: SweepConfig) -> Iterator[str]:
    """Mistakes between keys that are each right by themselves."""
    if config.baseline not in config.variants:
        hint = (
            suggestion(config.baseline, list(config.variants))
            or f"; variants are {', '.join(config.variants)}"
        )
        yield f"baseline '{config.baseline}' is not a variant{hint}"
    elif config.variants[config.baseline].skip_if_unsupported:
        yield f"variants.{config.baseline} is the baseline and cannot be skipped: remove skip_if_unsupported"
    names = [task.task for task in config.tasks]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"task '{name}' is listed twice"
    for name in config.variants:
        if not config.model_of(name):
            yield f"variants.{name} has no model: set its model, or the model of the sweep"
        if not name.strip() or name in {".", ".."} or len(name) > 100:
            yield f"'{name}' cannot be used as the name of a variant"
    yield from problems_of(config.engine.get(ENV), f"engine.{ENV}")
    for name, own in config.variants.items():
        yield from problems_of(own.engine.get(ENV), f"variants.{name}.engine.{ENV}")
        yield from problems_of(own.env, f"variants.{name}.{ENV}")
    yield from _secrets(config)
    for folder in config.include_path:
        if not _is_folder(folder):
            yield f"include_path: the folder {folder} does not exist"


def _secrets(config: SweepConfig) -> Iterator[str]:
    """What looks like a secret, and would be written to the files of the run."""
    for name in config.variants:
        for key in secrets_in({**config.engine_of(name), ENV: {}}):
            yield f"variants.{name}: '{key}' looks like a secret; {SECRETS}"
    others = config.model_dump(exclude={"engine": True, "variants": {"__all__": {"engine", ENV}}})
    for key in secrets_in(others):
        yield f"'{key}' looks like a secret; {SECRETS}"
