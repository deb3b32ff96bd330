"""Variants whose engine runs in a Python environment of its own: two versions of an engine, side by side.

Such an environment has lldeg's dependencies, too; lldeg's own code is sent there. What decides prompts and
scores must have the driver's versions, so that the engine, with what it needs, is all that differs.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.config.variants import Variant
from orchestrator.rundir.software import PACKAGES, package_versions

SECONDS_TO_ANSWER = 60
THE_SAME = ("ray", "lm-eval")
"""Packages that must have the driver's versions: the one talks to it, the other scores."""
ASK = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for package in sys.argv[1:]:
    try:
        found[package] = version(package)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def find_versions(variants: Mapping[str, Variant]) -> tuple[dict[str, Variant], list[str]]:
    """The variants, those with a Python of its own with the versions of what is there, and mistakes."""
    found, problems = dict(variants), []
    for name, variant in variants.items():
        if variant.python is None:
            continue
        place = f"variants.{name}: python: {variant.python}"
        versions = versions_of(str(variant.python))
        if isinstance(versions, str):
            problems.append(f"{place} {versions}")
        else:
            found[name] = replace(variant, versions=versions)
            problems += [f"{place} {why}" for why in _differences(versions)]
    return found, problems


def versions_of(python: str) -> dict[str, str] | str:
    """Versions of an interpreter and of the packages that a manifest records, or why it cannot say."""
    if not Path(python).is_absolute():
        return "must be an absolute path"
    command = [python, "-I", "-c", ASK, *PACKAGES]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)  # noqa: S603 - the user's interpreter and fixed words
        versions = json.loads(ran.stdout)
    except FileNotFoundError:
        return "does not exist"
    except (OSError, subprocess.SubprocessError, ValueError):
        versions = None
    return versions if isinstance(versions, dict) and "python" in versions else "is not a Python interpreter"


def engine_versions(variant: Variant) -> dict[str, str]:
    """The versions that are part of a variant's identity: those of its engine, in a Python of its own."""
    versions = variant.versions or {}
    return {name: versions[name] for name in variant.kind.packages if name in versions}


def versions_note(variant: Variant) -> str:
    """A sentence about the engine of a variant with a Python of its own."""
    listed = ", ".join(f"{name} {number}" for name, number in engine_versions(variant).items())
    return f"{variant.name} runs in {variant.python}: {listed or 'its engine is not installed there'}."


def _differences(versions: Mapping[str, str]) -> Iterator[str]:
    """Why an environment cannot be compared with the driver's, each as the end of a sentence."""
    here = package_versions()
    ours = {"python": _minor(platform.python_version()), **{name: here.get(name) for name in THE_SAME}}
    theirs = {**versions, "python": _minor(versions["python"])}
    for name, our in ours.items():
        if name not in theirs and our is not None:
            yield f"has no package {name}: install lldeg's dependencies there"
        elif theirs.get(name) != our:
            yield f"has {name} {theirs[name]}, but it must be {our} as here"


def _minor(python: str) -> str:
    """Objects are sent between interpreters of the same minor version only."""
    return ".".join(python.split(".")[:2])
