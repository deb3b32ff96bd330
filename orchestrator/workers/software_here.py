"""What a replica runs, and on what: versions of packages, its node, its GPU or CPU, its number format."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines import kind_of
from orchestrator.rundir.identity import digest
from orchestrator.rundir.software import package_versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.engines.base import EngineSpec
    from orchestrator.rundir.schema import HardwareEntry, SoftwareEntry

SECONDS_TO_ANSWER = 30
ASK = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
"""The driver's own tool: asking torch would take memory of the GPU for a process that does not compute."""


def software_here(
    driver: SoftwareEntry, spec: EngineSpec, *, gpus: float, dtype: str | None
) -> SoftwareEntry:
    """What this process runs, and where.

    Args:
        driver: what the submit runs, whose lldeg is sent to all nodes.
        spec: the engine that is loaded.
        gpus: GPUs that this process may use.
        dtype: its number format, None if unknown.
    """
    versions = package_versions()
    if "lldeg" in driver["versions"]:
        versions["lldeg"] = driver["versions"]["lldeg"]
    host, kind = digest(socket.gethostname())[:12], kind_of(spec.options)
    hardware: HardwareEntry = {"host": host, "device": None, "cuda": None, "driver": None, "dtype": dtype}
    if kind.served:
        pass  # the server's hardware is its own
    elif kind.runs_on_cpu(gpus):
        hardware["device"] = _cpu()
    else:
        hardware["device"], hardware["driver"] = _gpus()
        hardware["cuda"] = _cuda()
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
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)  # noqa: S603 - fixed words, and Ray's numbers
        models, drivers = zip(*(line.rsplit(", ", 1) for line in ran.stdout.splitlines()), strict=True)
    except (OSError, subprocess.SubprocessError, ValueError):  # not of NVIDIA
        models, drivers = _gpus_of_torch(), ()
    return _joined(models), _joined(drivers)


def _joined(names: Iterable[str]) -> str | None:
    return ", ".join(sorted({name.strip() for name in names})) or None


def _gpus_of_torch() -> tuple[str, ...]:
    """As torch calls them, where it computes on them in this process already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ()
    return tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def _cuda() -> str | None:
    """The version of CUDA or ROCm that torch was built for, if the engine uses torch."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return getattr(version, "cuda", None) or getattr(version, "hip", None)
