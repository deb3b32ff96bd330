"""Reading a sweep's YAML file; every mistake in it is named at once, every variant resolved once.

Three steps: YAML without duplicate keys, `--set` overrides, pydantic. Mistakes are collected instead of
raised one by one, so that a file with five of them can be corrected in one go.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.config import yaml_file
from orchestrator.config.schema import CostConfig, PromptConfig, ReplicaConfig, SweepConfig
from orchestrator.engines import kind_of
from orchestrator.engines.base import DEFAULT_KIND, ENV, IMAGE, LORA, PYTHON, EngineSpec
from orchestrator.engines.kind import EngineKind
from orchestrator.engines.reply import SECRET_NAME
from orchestrator.errors import suggestion

RENDERING = frozenset(
    {"conversation", "tokenize", "add_generation_prompt", "continue_final_message", "enable_thinking"}
)
"""Arguments of a chat template that lldeg sets, as lm-eval does, or that have a key of their own."""
SECRETS = "set it in the environment, and write $NAME here if a header needs it"
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"([A-Za-z]+ )?\$(\w+|\{\w+\})")  # $NAME or ${NAME}, after a word such as Bearer
_SPECIAL_TOKEN = re.compile(
    r"(eos|bos|pad|unk|sep|cls|mask|prefix|image|audio|video|think_end)_token(_\w+)?$", re.IGNORECASE
)
_VALUES = re.compile(
    r"\bsk-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bgh[opsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abps]-[\w-]{10,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}"
    r"|\b(Bearer|Basic) (?!\$)[\w+/.=~-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
"""Forms that keys of well-known services have."""
_URL_PASSWORD = re.compile(r"://[^/?#\s]*@")
_QUERY = re.compile(r"[?&;]([^=&;\s]+)=([^&;\s]+)")


@dataclass(frozen=True, kw_only=True)
class Variant(EngineSpec):
    """One way to run a model: what a replica loads, and all else that is known of it."""

    name: str  # in the configuration
    cluster: ReplicaConfig  # what one of its replicas takes of a node
    skip_if_unsupported: bool  # whether hardware that cannot run it skips it, instead of refusing the sweep
    cost: CostConfig = field(default_factory=CostConfig)  # its prices
    identity: str = ""  # of weights and tokenizer, a LoRA adapter included; empty until it is looked up
    versions: dict[str, str] | None = None  # of a Python of its own and its packages, once that was asked

    @cached_property
    def kind(self) -> EngineKind:
        """The kind of its engine."""
        return kind_of(self)


def resolve(config: SweepConfig) -> dict[str, Variant]:
    """The variants of a sweep by name, each with what it takes from the top of the file."""
    variants = {}
    for name, own in config.variants.items():
        options = {"kind": DEFAULT_KIND, **config.engine, **own.engine}
        for key, given in ((LORA, own.lora), (PYTHON, own.python)):
            path = options.get(key) if given is None else given
            if isinstance(path, str):
                options[key] = os.path.expanduser(path)  # noqa: PTH111 - Path raises for an unknown user
        options |= {} if own.image is None else {IMAGE: own.image}
        options.pop(ENV, None)
        layers = (config.engine.get(ENV), own.engine.get(ENV), own.env)
        env = {str(k): str(v) for layer in layers if isinstance(layer, dict) for k, v in layer.items()}
        variants[name] = Variant(
            os.path.expanduser(own.model or config.model or ""),  # noqa: PTH111 - likewise
            own.revision or (config.revision if own.model is None else None),  # the sweep's: of its own model
            {**options, ENV: env} if env else options,
            config.prompt.template_arguments,
            name=name,
            cluster=config.cluster.model_copy(update=own.cluster.model_dump(exclude_unset=True)),
            skip_if_unsupported=own.skip_if_unsupported,
            cost=own.cost.laid_over(config.cost),
        )
    return variants


def load_config(path: Path, overrides: Sequence[str] = ()) -> tuple[SweepConfig | None, list[str]]:
    """Read a sweep's YAML file, changed by `--set` arguments ("dotted.key=value", the value in YAML).

    Returns the configuration and the mistakes, one sentence each. With mistakes the configuration is only for
    further checks: it lacks the mistaken parts, or is None if nothing usable is left. A UserError if there is
    no such file, or no YAML mapping in it.
    """
    raw, problems = yaml_file.read_mapping(path, "a sweep", "name, baseline, variants and tasks")
    problems += [problem for override in overrides if (problem := yaml_file.set_key(raw, override))]
    if unusable := yaml_file.unusable_values(raw):
        raise yaml_file.mistaken(path, [*problems, *unusable])
    try:
        config = SweepConfig.model_validate(raw)
    except ValidationError as error:
        mistakes = list(yaml_file.mistakes(error, SweepConfig))
        problems += [sentence for _, sentence in mistakes]
        try:
            config = SweepConfig.model_validate(_without(raw, [place for place, _ in mistakes]))
        except ValidationError:
            return None, problems
    folders = tuple(_beside(path, folder) for folder in config.include_path)
    items = None if config.items is None else _beside(path, config.items)
    config = config.model_copy(update={"include_path": folders, "items": items})
    if config.stopping is not None and isinstance(config.stopping.policy, str):
        file = Path(_beside(path, config.stopping.policy))
        policy, repeated = yaml_file.read_mapping(file, "a policy", "tasks and what they must show")
        problems += repeated
        stopping = config.stopping.model_copy(update={"policy": policy})
        config = config.model_copy(update={"stopping": stopping})
    return config, problems + list(_contradictions(config))


def _beside(path: Path, name: str) -> str:
    """A path relative to the configuration file, as an absolute one; as it is if it cannot be a path."""
    try:
        return str((path.parent / name).resolve())
    except (OSError, ValueError, RuntimeError):
        return name


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
    yield from (f"task '{name}' is listed twice" for name in sorted(counts) if counts[name] > 1)
    variants = resolve(config)
    for name, variant in variants.items():
        if not variant.model:
            yield f"variants.{name} has no model: set its model, or the model of the sweep"
        if not name.strip() or not name.isprintable() or name in {".", ".."} or len(name) > 100:
            yield f"{name!r} cannot be used as the name of a variant"
    if config.budget and not any(price for one in variants.values() for _, price in one.cost):
        yield "budget needs prices: set cost, for example {gpu_hour: 2.5} or {input: 0.15, output: 0.6}"
    yield from _thinking_problems(config.prompt)
    if config.fidelity and config.stopping:
        yield "fidelity needs all answers of the baseline: remove it, or stopping"
    yield from _unwritable(config, variants)
    for folder in config.include_path:
        if not os.path.isdir(folder):  # noqa: PTH112 - Path raises for a name that no disk can hold
            yield f"include_path: the folder {folder} does not exist"


def _unwritable(config: SweepConfig, variants: Mapping[str, Variant]) -> Iterator[str]:
    """Variables that a replica cannot have, and what looks like a secret and would be written to the run."""
    places = {f"engine.{ENV}": config.engine.get(ENV)}
    for name, own in config.variants.items():
        places |= {f"variants.{name}.engine.{ENV}": own.engine.get(ENV), f"variants.{name}.{ENV}": own.env}
    for place, env in places.items():
        yield from _environment_problems(env, place)
    for name, variant in variants.items():
        for key in secrets_in({**variant.options, ENV: {}}):
            yield f"variants.{name}: '{key}' looks like a secret; {SECRETS}"
    others = config.model_dump(exclude={"engine": True, "variants": {"__all__": {"engine", ENV}}})
    for key in secrets_in(others):
        yield f"'{key}' looks like a secret; {SECRETS}"


def _environment_problems(env: Any, place: str) -> Iterator[str]:
    """Why a value at a place of the configuration cannot be the environment of a replica."""
    if env is not None and not isinstance(env, dict):
        yield f"{place} must be a mapping of names to values, not {env!r}"
        return
    for name, value in (env or {}).items():
        if not _VARIABLE_NAME.fullmatch(str(name)):
            yield f"{place}: '{name}' cannot be the name of an environment variable"
        elif is_secret_name(str(name)) or is_secret(str(value)):
            yield f"{place}: '{name}' looks like a secret; set it in the environment of the nodes instead"
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            yield f"{place}: {name} must be text or a number, not {value!r}"


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


def secrets_in(value: Any, place: str = "") -> Iterator[str]:
    """Places of a nested configuration that hold what looks like a secret, as "a.b"."""
    if isinstance(value, dict):
        for name, inner in value.items():
            below = f"{place}.{name}" if place else str(name)
            is_told = isinstance(inner, str) and inner and not _VARIABLE.fullmatch(inner)
            if is_told and is_secret_name(str(name)):
                yield below
            else:
                yield from secrets_in(inner, below)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from secrets_in(inner, f"{place}.{number}")
    elif isinstance(value, str) and is_secret(value):
        yield place


def is_secret_name(name: str) -> bool:
    """Whether a name says that its value is a secret."""
    return bool(SECRET_NAME.search(name)) and not _SPECIAL_TOKEN.search(name)


def is_secret(text: str) -> bool:
    """Whether a text has the form of a key, or holds one."""
    if _VALUES.search(text) or _URL_PASSWORD.search(text):
        return True
    parameters = _QUERY.findall(text) if "://" in text else []
    return any(is_secret_name(name) and not _VARIABLE.fullmatch(value) for name, value in parameters)
