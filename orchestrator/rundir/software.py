"""What wrote the samples of a run, software and hardware: in the manifest by an ID that every file names.

The ID is a digest of the content, so that replicas know it by themselves; the driver adds what they report to
the manifest before they get anything to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.rundir.identity import digest

if TYPE_CHECKING:
    from orchestrator.rundir.schema import Manifest, SoftwareEntry


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
