"""This program's own code, for clusters that do not have it."""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = ("jobs", "orchestrator", "stats")


def packages() -> list[str]:
    """Folders of the packages that a node needs to run this program, as Ray's `py_modules` wants them."""
    folders = []
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError(f"the package {name} is not there")
        folders.append(spec.submodule_search_locations[0])
    return folders
