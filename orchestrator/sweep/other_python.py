"""Variants whose engine runs in a Python environment of its own: two versions of an engine, side by side.

Such an environment has lldeg's dependencies, too; lldeg's own code is sent there. What decides prompts and
scores must have the driver's versions, so that the engine, with what it needs, is all that differs.
"""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines import kind_of
from orchestrator.engines.base import PYTHON
from orchestrator.rundir.manifest import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.config.schema import SweepConfig

    Versions = Mapping[str, str]

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


def find_versions(config: SweepConfig) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Versions of Python and packages of every variant with a Python of its own, and mistakes."""
    found: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for variant in config.variants:
        python = config.engine_of(variant).get(PYTHON)
        if python is None:
            continue
        versions = versions_of(str(python))
        if isinstance(versions, str):
            problems.append(f"variants.{variant}: python: {python} {versions}")
        else:
            found[variant] = versions
            problems += [f"variants.{variant}: python: {python} {why}" for why in _differences(versions)]
    return found, problems


def versions_of(python: str) -> dict[str, str] | str:
    """Versions of an interpreter and of the packages that a manifest records, or why it cannot say."""
    if not Path(python).is_absolute():
        return "must be an absolute path"
    command = [python, "-I", "-c", ASK, *PACKAGES]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)  # noqa: S603 - the user's interpreter and fixed words
        found = json.loads(ran.stdout)
    except FileNotFoundError:
        return "does not exist"
    except (OSError, subprocess.SubprocessError, ValueError):
        found = None
    return found if isinstance(found, dict) and "python" in found else "is not a Python interpreter"


def of_the_engine(options: Mapping[str, object], versions: Versions) -> dict[str, str]:
    """The versions that are part of a variant's identity: those of its engine."""
    return {name: versions[name] for name in kind_of(options).packages if name in versions}


def _differences(versions: Versions) -> list[str]:
    """Why an environment cannot be compared with the driver's, each as the end of a sentence."""
    ours = {"python": _minor(platform.python_version()), **{name: _version(name) for name in THE_SAME}}
    theirs = {**versions, "python": _minor(versions["python"])}
    return [
        f"has {name} {theirs[name]}, but it must be {ours[name]} as here"
        if name in theirs
        else f"has no package {name}: install lldeg's dependencies there"
        for name in ours
        if theirs.get(name) != ours[name]
    ]


def _minor(python: str) -> str:
    """Objects are sent between interpreters of the same minor version only."""
    return ".".join(python.split(".")[:2])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
