"""What wrote the samples of a run, software and hardware: in the manifest by an ID that every file names.

The ID is a digest of the content, so that replicas know it by themselves; the driver adds what they report to
the manifest before they get anything to write.
"""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from orchestrator.engines import packages
from orchestrator.rundir.identity import digest
from orchestrator.rundir.schema import Manifest, SoftwareEntry

PACKAGES = ("lldeg", *packages(), "torch", "ray", "pyarrow", "numpy", "scipy")


def software_of(manifest: Manifest) -> dict[str, SoftwareEntry]:
    """All that wrote samples of a run, by ID; of a manifest without a history, its last software."""
    if "software" in manifest:
        return manifest["software"]
    return software_entry(manifest.get("versions", {}), manifest.get("commit"))


def software_entry(versions: dict[str, str], commit: str | None) -> dict[str, SoftwareEntry]:
    """One piece of software by its ID."""
    entry: SoftwareEntry = {"versions": versions, "commit": commit}
    return {software_id(entry): entry}


def software_id(entry: SoftwareEntry) -> str:
    """What the files that something wrote call it."""
    return digest(entry)[:12]


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide answers, as this process imports them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def source_commit() -> str | None:
    """Commit of the source tree lldeg runs from; None for an installed wheel."""
    folder = Path(str(files("orchestrator"))).parent
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return None
