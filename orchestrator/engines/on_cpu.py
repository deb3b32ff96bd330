"""What engines cannot do on a CPU, or do slowly there, as far as that is known before they are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.hardware import Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.hardware import Hardware

VLLM = "vllm"
TRANSFORMERS = ("lm-eval:hf", "lm-eval:huggingface")
HALF_PRECISION = ("bfloat16", "float16", "half")
QUANTIZED_CACHES = ("fp8", "nvfp4", "int4", "int8")
"""How the names of quantized KV caches begin."""


def number_format(options: Mapping[str, Any], machine: Hardware) -> str | None:
    """The `dtype` for an engine whose options leave it open; None if it is given, or the engine's to choose.

    transformers (hf) keeps the format of the checkpoint, which is right wherever the CPU is not slow in it.
    """
    kind = str(options["kind"])
    if options.get("dtype") not in (None, "auto") or not (kind == VLLM or kind.startswith(TRANSFORMERS)):
        return None
    if not machine.native_bfloat16:
        return "float32"
    return "bfloat16" if kind == VLLM else None


def obstacles(options: Mapping[str, Any], machine: Hardware) -> Iterator[Obstacle]:
    """Why vLLM will not run these options on this CPU; of other engines nothing is known."""
    if options["kind"] != VLLM:
        return
    cache = str(options.get("kv_cache_dtype", "auto"))
    if cache.startswith(QUANTIZED_CACHES) and not machine.fp8_kv_cache:
        yield Obstacle(
            f"kv_cache_dtype: {cache} needs a GPU or a CPU with AVX-512 or AMX, and this machine has neither",
            "remove it, or set skip_if_unsupported: true in a variant that may be left out",
        )
    if options.get("pipeline_parallel_size", 1) not in (1, None):
        yield Obstacle("pipeline_parallel_size: vLLM has no pipeline parallelism on CPUs", "set it to 1")


def is_slow(options: Mapping[str, Any], machine: Hardware) -> bool:
    """Whether the number format is one that this CPU emulates."""
    return options.get("dtype") in HALF_PRECISION and not machine.native_bfloat16
