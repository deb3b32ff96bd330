"""Engines: ways to run a model behind one interface (`base`); each kind is a line of the registry below."""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.engines.base import Engine, EngineOptionError, EngineSpec
from orchestrator.engines.kind import EngineKind
from orchestrator.engines.lm_eval_kinds import LmEvalClass, ServedClass
from orchestrator.engines.vllm_kind import Vllm

KINDS: tuple[type[EngineKind], ...] = (Vllm, ServedClass, LmEvalClass)
"""All kinds; the first that recognises an engine's options is its kind."""
PACKAGES = tuple(dict.fromkeys(package for kind in KINDS for package in kind.packages))
"""Distributions of all kinds of engine, whose versions a manifest records."""


class UnknownKind(EngineKind):
    """What a configuration names and nothing recognises."""

    name = "unknown"

    @classmethod
    def recognises(cls, options: Mapping[str, Any]) -> bool:
        """Whatever is left."""
        return True

    def problems(self) -> Iterator[str]:
        """The problem of an unknown kind."""
        known = " and ".join(dict.fromkeys(kind.name for kind in KINDS))
        yield f"unknown engine '{self.options.get('kind')}'; the engines are {known}"

    def load(self, gpus: float) -> Engine:
        """Refuse."""
        raise EngineOptionError(*self.problems())


def kind_of(spec: EngineSpec) -> EngineKind:
    """The kind of engine that the options of a model mean."""
    return next((kind for kind in KINDS if kind.recognises(spec.options)), UnknownKind)(spec)
