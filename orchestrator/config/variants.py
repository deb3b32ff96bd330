"""The variants of a sweep, each resolved once: nobody asks the configuration for a default again."""

import os
from dataclasses import dataclass
from functools import cached_property

from orchestrator.config.schema import ReplicaConfig, SweepConfig, VariantConfig
from orchestrator.engines import kind_of
from orchestrator.engines.base import DEFAULT_KIND, ENV, LORA, PYTHON, EngineSpec
from orchestrator.engines.kind import EngineKind


@dataclass(frozen=True, kw_only=True)
class Variant(EngineSpec):
    """One way to run a model: what a replica loads, and all else that is known of it."""

    name: str  # in the configuration
    cluster: ReplicaConfig  # what one of its replicas takes of a node
    skip_if_unsupported: bool  # whether hardware that cannot run it skips it, instead of refusing the sweep
    identity: str = ""  # of weights and tokenizer, a LoRA adapter included; empty until it is looked up
    versions: dict[str, str] | None = None  # of a Python of its own and its packages, once that was asked

    @cached_property
    def kind(self) -> EngineKind:
        """The kind of its engine."""
        return kind_of(self)


def resolve(config: SweepConfig) -> dict[str, Variant]:
    """The variants of a sweep by name, each with what it takes from the top of the file."""
    return {name: _resolved(config, name, own) for name, own in config.variants.items()}


def _resolved(config: SweepConfig, name: str, own: VariantConfig) -> Variant:
    options = {"kind": DEFAULT_KIND, **config.engine, **own.engine}
    options |= {key: value for key, value in ((LORA, own.lora), (PYTHON, own.python)) if value is not None}
    for key in (LORA, PYTHON):
        if isinstance(options.get(key), str):
            options[key] = os.path.expanduser(options[key])  # noqa: PTH111 - Path raises for an unknown user
    options.pop(ENV, None)
    layers = (config.engine.get(ENV), own.engine.get(ENV), own.env)
    env = {str(k): str(v) for layer in layers if isinstance(layer, dict) for k, v in layer.items()}
    return Variant(
        os.path.expanduser(own.model or config.model or ""),  # noqa: PTH111 - likewise
        own.revision or (config.revision if own.model is None else None),  # the sweep's is of its own model
        {**options, ENV: env} if env else options,
        config.prompt.template_arguments,
        name=name,
        cluster=config.cluster.model_copy(update=own.cluster.model_dump(exclude_unset=True)),
        skip_if_unsupported=own.skip_if_unsupported,
    )
