"""Reading a sweep's YAML file; every mistake in it is named at once.

Three steps: YAML without duplicate keys, `--set` overrides, pydantic. Mistakes are collected instead of
raised one by one, so that a file with five of them can be corrected in one go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from orchestrator.config.environment import problems_of
from orchestrator.config.plain import unusable_values
from orchestrator.config.schema import PromptConfig, SweepConfig
from orchestrator.config.secrets import secrets_in
from orchestrator.config.variants import Variant, resolve
from orchestrator.config.yaml_file import mistake_sentence, mistaken, own_mistakes, read_mapping
from orchestrator.engines.base import ENV
from orchestrator.errors import suggestion

RENDERING = frozenset(
    {"conversation", "tokenize", "add_generation_prompt", "continue_final_message", "enable_thinking"}
)
"""Arguments of a chat template that lldeg sets, as lm-eval does, or that have a key of their own."""
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
    raw, problems = read_mapping(path, "a sweep", "name, baseline, variants and tasks")
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
        found = list(own_mistakes(error))
        problems = [mistake_sentence(problem, SweepConfig) for problem in found]
        remaining = _without(raw, [problem["loc"] for problem in found])
    try:
        return SweepConfig.model_validate(remaining), problems
    except ValidationError:
        return None, problems


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
    counts = Counter(task.task for task in config.tasks)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield f"task '{name}' is listed twice"
    variants = resolve(config)
    for name, variant in variants.items():
        if not variant.model:
            yield f"variants.{name} has no model: set its model, or the model of the sweep"
        if not name.strip() or not name.isprintable() or name in {".", ".."} or len(name) > 100:
            yield f"{name!r} cannot be used as the name of a variant"
    yield from _thinking_problems(config.prompt)
    yield from _unwritable(config, variants)
    for folder in config.include_path:
        if not _is_folder(folder):
            yield f"include_path: the folder {folder} does not exist"


def _unwritable(config: SweepConfig, variants: Mapping[str, Variant]) -> Iterator[str]:
    """Variables that a replica cannot have, and what looks like a secret and would be written to the run."""
    yield from problems_of(config.engine.get(ENV), f"engine.{ENV}")
    for name, own in config.variants.items():
        yield from problems_of(own.engine.get(ENV), f"variants.{name}.engine.{ENV}")
        yield from problems_of(own.env, f"variants.{name}.{ENV}")
    for name, variant in variants.items():
        for key in secrets_in({**variant.options, ENV: {}}):
            yield f"variants.{name}: '{key}' looks like a secret; {SECRETS}"
    others = config.model_dump(exclude={"engine": True, "variants": {"__all__": {"engine", ENV}}})
    for key in secrets_in(others):
        yield f"'{key}' looks like a secret; {SECRETS}"


def _thinking_problems(prompt: PromptConfig) -> Iterator[str]:
    """Arguments of a chat template that is not used or sets them itself, and thinking without an end."""
    if prompt.template_arguments and not prompt.apply_chat_template:
        first = "enable_thinking" if prompt.enable_thinking is not None else "chat_template_args"
        yield f"prompt.{first} is an argument of the chat template: set prompt.apply_chat_template: true"
    for name in sorted(RENDERING & prompt.chat_template_args.keys()):
        yield f"prompt.chat_template_args: '{name}' cannot be set here"
    if prompt.enable_thinking and prompt.think_end_token is None:
        yield (
            'prompt.enable_thinking needs prompt.think_end_token, for example "</think>", or thoughts would '
            "be scored"
        )
