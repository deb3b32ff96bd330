"""The manifest of a run, by which a later submit tells growth from a change of meaning."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines import packages
from orchestrator.errors import UserError
from orchestrator.rundir.identity import differences
from orchestrator.rundir.software import software_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.rundir.schema import Environment, Manifest, TaskEntry, VariantEntry

    Entry = VariantEntry | TaskEntry

_DECIDING = frozenset({"model", "revision", "engine", "definition", "sampling", "commits"})
"""Keys of an entry that decide answers; the others may grow or change."""
PACKAGES = ("lldeg", *packages(), "torch", "ray", "pyarrow", "numpy", "scipy")


def environment() -> Environment:
    """Package versions, the commit of lldeg and the hardware of the driver: a part of the manifest."""
    return {
        "versions": package_versions(),
        "commit": _commit(),
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()},
    }


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide answers, as this process imports them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
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


def merge(old: Manifest | None, new: Manifest, command: str) -> Manifest:
    """The manifest of a run after another submit into it.

    Variants and tasks of earlier submits stay; new ones join. One that is there already must mean the same.

    Args:
        old: the manifest found in the run directory; None for a new run.
        new: the manifest of this submit.
        command: a command that would run the changed sweep in a new directory.

    Raises:
        UserError: something kept its name but changed its definition; the message names the keys that differ.
    """
    if old is None:
        return new
    changes = [*_changes("variants", old["variants"], new["variants"])]
    changes += _changes("tasks", old["tasks"], new["tasks"])
    changes += _other_items(old["tasks"], new["tasks"])
    changes += differences(old.get("prompt"), new.get("prompt"), ["prompt"])
    changes += differences(old.get("sampling"), new.get("sampling"), ["sampling"])
    changes += differences(old.get("subset"), new.get("subset"), ["subset"])
    if changes:
        raise UserError(
            f"The run directory belongs to a different sweep; changed: {'; '.join(sorted(changes))}. "
            f"Undo the changes, or start a new run: {command}"
        )
    merged: Manifest = {**new}
    merged["variants"] = {**old["variants"], **new["variants"]}
    merged["tasks"] = {**old["tasks"], **new["tasks"]}
    for name in old["tasks"].keys() & new["tasks"].keys():
        told, entry = old["tasks"][name].get("metrics", {}), new["tasks"][name]  # some only by answers
        if told:
            merged["tasks"][name] = {**entry, "metrics": {**told, **entry["metrics"]}}
    if "software" in new:
        merged["software"] = {**software_of(old), **new["software"]}
    if skipped := {**old.get("skipped", {}), **new.get("skipped", {})}:
        merged["skipped"] = {name: why for name, why in skipped.items() if name not in merged["variants"]}
    return merged


def _changes(section: str, old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Iterator[str]:
    for name in old.keys() & new.keys():
        known = _DECIDING if "commits" in old[name] else _DECIDING - {"commits"}  # not of older runs
        before, after = ({k: v for k, v in one[name].items() if k in known} for one in (old, new))
        yield from differences(before, after, [section, name])


def _other_items(old: Mapping[str, TaskEntry], new: Mapping[str, TaskEntry]) -> Iterator[str]:
    """Tasks whose limit means other items, or leaves out items that the run has."""
    for name in old.keys() & new.keys():
        before, after = (next(iter(entry.get("limit") or {}), None) for entry in (old[name], new[name]))
        if before and after:
            yield from differences(before, after, ["tasks", name, "limit"])
        if new[name]["items"] < old[name]["items"]:
            yield from differences(old[name]["items"], new[name]["items"], ["tasks", name, "items"])


def version_changes(old: Manifest | None, new: Manifest) -> list[str]:
    """Packages whose versions differ from those the run was started with: answers of both would mix."""
    return [] if old is None else list(differences(old.get("versions"), new["versions"]))
