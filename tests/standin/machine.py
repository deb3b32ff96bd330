"""What the real model's tests ask of the machine they run on."""

from pathlib import Path

from orchestrator.hardware import this_machine

DTYPE = "bfloat16" if this_machine().native_bfloat16 else "float32"  # the other would take minutes
AVX2 = Path(__file__).parent / "avx2"  # first on PYTHONPATH, it denies all that is above AVX2
