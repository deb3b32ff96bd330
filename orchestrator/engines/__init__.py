"""Engines: ways to run a model behind one interface (`base`), opened by their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engines.base import EngineOptionError

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine, EngineSpec

LM_EVAL_PREFIX = "lm-eval:"


def open_engine(spec: EngineSpec, *, gpus: float) -> Engine:
    """Load a model.

    Args:
        spec: the model and its options.
        gpus: GPUs this process may use; 0 runs on the CPU.

    Raises:
        EngineOptionError: the engine refuses its options or its model.
    """
    if spec.kind == "vllm":
        from orchestrator.engines.vllm_engine import VllmEngine  # noqa: PLC0415 - ten seconds to import

        return VllmEngine(spec, on_cpu=gpus == 0)
    if spec.kind.startswith(LM_EVAL_PREFIX):
        from orchestrator.engines.lm_eval_engine import LmEvalEngine  # noqa: PLC0415

        return LmEvalEngine(spec, spec.kind.removeprefix(LM_EVAL_PREFIX), on_cpu=gpus == 0)
    raise EngineOptionError(f"there is no engine '{spec.kind}'")
