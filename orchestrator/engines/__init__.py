"""Engines: ways to run a model behind one interface (`base`), opened by their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import EngineOptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engines.base import Engine, EngineSpec

LM_EVAL_PREFIX = "lm-eval:"


def is_served(options: Mapping[str, Any]) -> bool:
    """Whether engine options mean a model behind a server, which has its own hardware."""
    kind = str(options.get("kind", ""))
    return bool(options.get("base_url")) or (
        kind.startswith(LM_EVAL_PREFIX) and (kind.endswith("completions") or takes_messages(kind))
    )


def takes_messages(kind: str) -> bool:
    """Whether an engine takes conversations, and puts them into text itself."""
    return kind.startswith(LM_EVAL_PREFIX) and "chat" in kind


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
        return _open_lm_eval(spec, on_cpu=gpus == 0)
    raise EngineOptionError(f"there is no engine '{spec.kind}'")


def _open_lm_eval(spec: EngineSpec, *, on_cpu: bool) -> Engine:
    from lm_eval.models.api_models import TemplateAPI  # noqa: PLC0415 - seconds to import, in the replica only

    from orchestrator.engines.lm_eval_engine import LmEvalEngine, load_lm  # noqa: PLC0415
    from orchestrator.engines.served_engine import CONCURRENCY, ServedEngine  # noqa: PLC0415

    lm = load_lm(spec, spec.kind.removeprefix(LM_EVAL_PREFIX), on_cpu=on_cpu)
    if not isinstance(lm, TemplateAPI):
        return LmEvalEngine(lm)
    concurrency = int(spec.arguments.get("num_concurrent", CONCURRENCY))
    return ServedEngine(lm, concurrency=concurrency, chat=takes_messages(spec.kind))
