"""What a replica runs, and on what: versions of packages, its node, its GPU or CPU, its number format."""

import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from orchestrator.engines.kind import EngineKind
from orchestrator.rundir.identity import digest
from orchestrator.rundir.manifest import package_versions
from orchestrator.rundir.schema import HardwareEntry, SoftwareEntry

SECONDS_TO_ANSWER = 30
ASK = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
"""The driver's own tool: asking torch would take memory of the GPU for a process that does not compute."""


def software_here(
    driver: SoftwareEntry, kind: EngineKind, *, gpus: float, dtype: str | None
) -> SoftwareEntry:
    """What this process runs, and where.

    Args:
        driver: what the submit runs, whose lldeg is sent to all nodes.
        kind: of the engine that is loaded.
        gpus: GPUs that this process may use.
        dtype: its number format, None if unknown.
    """
    versions = package_versions()
    if "lldeg" in driver["versions"]:
        versions["lldeg"] = driver["versions"]["lldeg"]
    host = digest(socket.gethostname())[:12]
    hardware: HardwareEntry = {"host": host, "device": None, "cuda": None, "driver": None, "dtype": dtype}
    if kind.served:
        pass  # the server's hardware is its own
    elif kind.runs_on_cpu(gpus):
        hardware["device"] = _cpu()
    else:
        hardware["device"], hardware["driver"] = _gpus()
        built_for = getattr(sys.modules.get("torch"), "version", None)  # CUDA or ROCm, if it uses torch
        hardware["cuda"] = getattr(built_for, "cuda", None) or getattr(built_for, "hip", None)
    return {"versions": versions, "commit": driver["commit"], "hardware": hardware}


def _cpu() -> str:
    """The model of the CPU; on machines that do not name it, the architecture."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.machine()


def _gpus() -> tuple[str | None, str | None]:
    """The models of the GPUs that this process sees, and the version of their driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    command = [*ASK, *([f"--id={visible}"] if visible and "MIG" not in visible else [])]
    models: Iterable[str] = ()
    drivers: Iterable[str] = ()
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)  # noqa: S603 - fixed words, and Ray's numbers
        models, drivers = zip(*(line.rsplit(", ", 1) for line in ran.stdout.splitlines()), strict=True)
    except (
        OSError,
        subprocess.SubprocessError,
        ValueError,
    ):  # not of NVIDIA
        torch = sys.modules.get("torch")  # whose names serve where it computes in this process already
        if torch is not None and torch.cuda.is_initialized():
            models = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    joined = (", ".join(sorted({name.strip() for name in names})) or None for names in (models, drivers))
    return next(joined), next(joined)
