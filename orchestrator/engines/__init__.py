"""Engines: ways to run a model behind one interface (`base`), opened by their kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import EngineOptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.engines.base import Engine, EngineSpec

LM_EVAL_PREFIX = "lm-eval:"
SENDING = ("num_concurrent", "timeout", "patience")
"""Options of a served model that change no answer: requests at a time, and seconds to wait for an answer and
for a server that is away."""


def is_served(options: Mapping[str, Any]) -> bool:
    """Whether engine options mean a model behind a server, which has its own hardware."""
    kind = str(options.get("kind", ""))
    return bool(options.get("base_url")) or (
        kind.startswith(LM_EVAL_PREFIX) and (kind.endswith("completions") or takes_messages(kind))
    )


def takes_messages(kind: str) -> bool:
    """Whether an engine takes conversations, and puts them into text itself."""
    return kind.startswith(LM_EVAL_PREFIX) and "chat" in kind


def tokenizer_of(options: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The tokenizer an engine is told to use, None for the model's own, and whether its code may run."""
    tokenizer = options.get("tokenizer")
    return (str(tokenizer) if tokenizer else None), bool(options.get("trust_remote_code", False))


def parallel_workers(options: Mapping[str, Any]) -> int:
    """GPUs that one engine is spread over: one for each of its tensor- and pipeline-parallel workers."""
    return _whole(options.get("tensor_parallel_size")) * _whole(options.get("pipeline_parallel_size"))


def _whole(value: object) -> int:
    """A parallel size; 1 for what is none, which the engine itself will refuse."""
    return value if isinstance(value, int) and value > 0 else 1


def deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    """The engine options that decide an answer: all but those that say how requests are sent to a server."""
    sending = SENDING if is_served(options) else ()
    return {name: value for name, value in options.items() if name not in sending}


def served_problems(options: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the options of a served model, each as the end of a sentence."""
    url = str(options.get("base_url") or "")
    if not url and str(options["kind"]).startswith(f"{LM_EVAL_PREFIX}local-"):
        yield "a served model needs base_url, for example http://127.0.0.1:8000/v1/completions"
    if url and not url.startswith(("http://", "https://")):
        yield f"base_url must be an address with http:// or https://, not '{url}'"
    if not isinstance(options.get("header", {}), dict):
        yield "header must be a mapping of names to values"
    for name in SENDING:
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            yield f"{name} must be a number above 0, not {value!r}"


def open_engine(spec: EngineSpec, *, gpus: float) -> Engine:
    """Load a model.

    Args:
        spec: the model and its options.
        gpus: GPUs this process may use, or the part of one; 0 runs on the CPU.

    Raises:
        EngineOptionError: the engine refuses its options or its model.
    """
    if spec.kind == "vllm":
        from orchestrator.engines.vllm_engine import VllmEngine  # noqa: PLC0415 - ten seconds to import

        return VllmEngine(spec, gpus=gpus)
    if spec.kind.startswith(LM_EVAL_PREFIX):
        return _open_lm_eval(spec, on_cpu=gpus == 0)
    raise EngineOptionError(f"there is no engine '{spec.kind}'")


def _open_lm_eval(spec: EngineSpec, *, on_cpu: bool) -> Engine:
    from lm_eval.models.api_models import TemplateAPI  # noqa: PLC0415 - seconds to import, in the replica only

    from orchestrator.engines.lm_eval_engine import LmEvalEngine, load_lm  # noqa: PLC0415
    from orchestrator.engines.served_engine import CONCURRENCY, ServedEngine, with_environment  # noqa: PLC0415

    name, options = spec.kind.removeprefix(LM_EVAL_PREFIX), dict(spec.options)
    if name == "local-completions":  # its own default asks the server, which may be away
        options.setdefault("tokenizer_backend", "huggingface")
    if "header" in options:
        options["header"] = with_environment(options["header"])
    patience = options.pop("patience", None)
    lm = load_lm(replace(spec, options=options), name, on_cpu=on_cpu)
    if not isinstance(lm, TemplateAPI):
        return LmEvalEngine(lm)
    return ServedEngine(
        lm,
        concurrency=int(options.get("num_concurrent", CONCURRENCY)),
        patience=patience,
        chat=takes_messages(spec.kind),
    )
