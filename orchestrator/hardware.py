"""What this machine computes with: its GPUs, and what its CPU can do that not every CPU can.

vLLM decides by what torch says of the CPU, so torch is asked here too.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

Obstacle = tuple[str, str]  # why a machine cannot run something, and the way out
X86 = ("x86_64", "amd64", "i386", "i686")


@dataclass(frozen=True)
class Hardware:
    """A machine."""

    cpus: int
    gpus: int
    fp8_kv_cache: bool  # whether vLLM's CPU build can keep a quantized KV cache here
    native_bfloat16: bool  # else the CPU emulates bfloat16, several times slower than float32
    gpu_bytes: int = 0  # memory of the first GPU; 0 without one
    gpu_name: str = ""


@cache
def this_machine() -> Hardware | None:
    """The machine this process runs on; None if torch, whom to ask, is not installed."""
    if find_spec("torch") is None:
        return None
    import torch  # noqa: PLC0415 - two seconds, and not every sweep needs to know

    def can(question: str) -> bool:
        return bool(getattr(torch.cpu, question, lambda: False)())

    gpus = torch.cuda.device_count()
    amx = can("_is_amx_tile_supported")
    return Hardware(
        cpus=os.cpu_count() or 1,
        gpus=gpus,
        fp8_kv_cache=amx or can("_is_avx512_supported"),
        native_bfloat16=amx or can("_is_avx512_bf16_supported") or platform.machine().lower() not in X86,
        gpu_bytes=torch.cuda.get_device_properties(0).total_memory if gpus else 0,
        gpu_name=torch.cuda.get_device_name(0) if gpus else "",
    )
