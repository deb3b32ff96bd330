"""Number formats on a CPU: which one an engine should compute in, and which ones the CPU only emulates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.hardware import Hardware

HALF_PRECISION = ("bfloat16", "float16", "half")


def is_open(options: Mapping[str, Any]) -> bool:
    """Whether the options leave the number format to the engine."""
    return options.get("dtype") in (None, "auto")


def explain(machine: Hardware) -> str:
    """Which number format is chosen on this CPU, and why."""
    if machine.native_bfloat16:
        return "Engines compute in bfloat16, which this CPU supports; set engine.dtype to change this."
    return "Engines compute in float32: this CPU only emulates bfloat16; set engine.dtype to change this."


def why_slow(options: Mapping[str, Any], machine: Hardware) -> str | None:
    """Why the number format of the options is slow on this CPU; None if it is not."""
    if options.get("dtype") in HALF_PRECISION and not machine.native_bfloat16:
        return "this CPU emulates bfloat16 and float16, which is several times slower than float32"
    return None
