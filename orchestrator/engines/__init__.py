"""Engines: ways to run a model behind one interface (`base`), one kind a line in the registry below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import EngineOptionError
from orchestrator.engines.lm_eval_kinds import LmEvalClass, ServedClass
from orchestrator.engines.vllm_kind import Vllm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engines.base import Engine, EngineSpec
    from orchestrator.engines.kind import EngineKind

KINDS: tuple[EngineKind, ...] = (
    Vllm(),
    ServedClass(),
    LmEvalClass(),
)
"""All kinds; the first that recognises an engine's options is its kind."""


def kind_of(options: Mapping[str, Any]) -> EngineKind:
    """The kind of engine that options, `kind` included, mean.

    Raises:
        EngineOptionError: there is none of that name.
    """
    for kind in KINDS:
        if kind.recognises(options):
            return kind
    names = " and ".join(dict.fromkeys(kind.name for kind in KINDS))
    raise EngineOptionError(f"there is no engine '{options.get('kind')}'; engines are {names}")


def open_engine(spec: EngineSpec, *, gpus: float) -> Engine:
    """Load a model.

    Args:
        spec: the model and its options.
        gpus: GPUs this process may use, or the share of one; 0 runs on the CPU.

    Raises:
        EngineOptionError: the engine refuses its options or its model, or there is no such kind.
    """
    return kind_of(spec.options).load(spec, gpus=gpus)
