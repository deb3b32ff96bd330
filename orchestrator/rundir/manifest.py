"""The manifest of a run, by which a later submit tells growth from a change of meaning; what wrote the run.

What wrote samples, software and hardware, is in the manifest by an ID that every file names: a digest of the
content, so that replicas know it by themselves; the driver adds what they report before they get anything to
write.
"""

import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from orchestrator import engines
from orchestrator.errors import UserError
from orchestrator.rundir.identity import differences, digest
from orchestrator.rundir.schema import Manifest, SoftwareEntry

DECIDING = frozenset({"model", "revision", "engine", "definition", "sampling", "commits"})
"""Keys of an entry that decide answers; the others may grow or change."""
PACKAGES = ("lldeg", *engines.PACKAGES, "torch", "ray", "pyarrow", "numpy", "scipy")


def merge(old: Manifest | None, new: Manifest, command: str) -> Manifest:
    """The manifest of a run after another submit into it.

    Variants and tasks of earlier submits stay; new ones join. One that is there already must mean the same.

    Raises:
        UserError: something kept its name but changed its definition; the message names the keys that differ,
            and a command that would run the changed sweep in a new directory.
    """
    if old is None:
        return new
    refuse_changes(sorted(_changes(old, new)), command)
    merged: Manifest = {**new}
    merged["variants"] = {**old["variants"], **new["variants"]}
    merged["tasks"] = {**old["tasks"], **new["tasks"]}
    for name in old["tasks"].keys() & new["tasks"].keys():
        told, entry = old["tasks"][name].get("metrics", {}), new["tasks"][name]  # some only by answers
        if told:
            merged["tasks"][name] = {**entry, "metrics": {**told, **entry["metrics"]}}
    if "fidelity" in old and "fidelity" not in new:
        merged["fidelity"] = old["fidelity"]
    if "software" in new:
        merged["software"] = {**software_of(old), **new["software"]}
    if skipped := {**old.get("skipped", {}), **new.get("skipped", {})}:
        merged["skipped"] = {name: why for name, why in skipped.items() if name not in merged["variants"]}
    return merged


def refuse_changes(changes: Sequence[str], command: str) -> None:
    """Refuse what would mix the answers of two sweeps, with a command that runs the other one elsewhere."""
    if changes:
        raise UserError(
            f"The run directory belongs to a different sweep; changed: {'; '.join(changes)}. "
            f"Undo the changes, or start a new run: {command}"
        )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Keys whose change means other answers, or leaves out items that the run has."""
    for section in ("prompt", "sampling", "subset"):
        yield from differences(old.get(section), new.get(section), [section])
    if "fidelity" in old and "fidelity" in new:
        yield from differences(old["fidelity"]["top"], new["fidelity"]["top"], ["fidelity", "top"])
    for section in ("variants", "tasks"):
        for name in old[section].keys() & new[section].keys():
            before, after = old[section][name], new[section][name]
            known = DECIDING if "commits" in before else DECIDING - {"commits"}  # not of older runs
            old_meaning, meaning = ({k: v for k, v in one.items() if k in known} for one in (before, after))
            yield from differences(old_meaning, meaning, [section, name])
    for name in old["tasks"].keys() & new["tasks"].keys():
        before, after = old["tasks"][name], new["tasks"][name]
        old_limit, limit = (next(iter(entry.get("limit") or {}), None) for entry in (before, after))
        if old_limit and limit:
            yield from differences(old_limit, limit, ["tasks", name, "limit"])
        if after["items"] < before["items"]:
            yield from differences(before["items"], after["items"], ["tasks", name, "items"])


def version_changes(old: Manifest | None, new: Manifest) -> list[str]:
    """Packages whose versions differ from those the run was started with: answers of both would mix."""
    return [] if old is None else list(differences(old.get("versions"), new["versions"]))


def software_of(manifest: Manifest) -> dict[str, SoftwareEntry]:
    """All that wrote samples of a run, by ID; of a manifest without a history, its last software."""
    if "software" in manifest:
        return manifest["software"]
    entry: SoftwareEntry = {"versions": manifest.get("versions", {}), "commit": manifest.get("commit")}
    return {software_id(entry): entry}


def software_id(entry: SoftwareEntry) -> str:
    """What the files that something wrote call it."""
    return digest(entry)[:12]


_version = cache(version)  # which reads all that a package says of itself


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide answers, as this process imports them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = _version(package)
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
