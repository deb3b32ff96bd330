"""Which software wrote the samples of a run: a history in the manifest, an ID in every file of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.rundir.identity import digest

if TYPE_CHECKING:
    from orchestrator.rundir.schema import Manifest, SoftwareEntry


def software_of(manifest: Manifest) -> dict[str, SoftwareEntry]:
    """All software that wrote samples of a run, by ID; of a manifest without a history, its last one."""
    if "software" in manifest:
        return manifest["software"]
    return software_entry(manifest["versions"], manifest.get("commit"))


def software_entry(versions: dict[str, str], commit: str | None) -> dict[str, SoftwareEntry]:
    """One piece of software by its ID."""
    entry: SoftwareEntry = {"versions": versions, "commit": commit}
    return {digest(entry)[:12]: entry}
