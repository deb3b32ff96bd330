"""A run directory as the analysis sees it: its manifest, its configuration and where its samples lie.

Files whose name begins with a dot are half-written and invisible. The manifest says what was to be done, so
it alone decides what is missing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from posixpath import basename, join, relpath
from typing import Any
from urllib.parse import quote, unquote

import pyarrow.fs as pafs
import yaml

from jobs.analysis.locations import open_location
from orchestrator.errors import UserError

MANIFEST = "manifest.json"
SWEEP = "sweep.yaml"


@dataclass(frozen=True)
class RunFiles:
    """An opened run.

    Attributes:
        location: what the user called it.
        filesystem: where it lies.
        root: its path on that filesystem.
        manifest: manifest.json.
        sweep: sweep.yaml.
    """

    location: str
    filesystem: pafs.FileSystem
    root: str
    manifest: dict[str, Any]
    sweep: dict[str, Any]

    @staticmethod
    def open(location: str) -> "RunFiles":
        """Open a run directory.

        Raises:
            UserError: if it is no run directory, or its manifest cannot be read.
        """
        filesystem, root = open_location(location)
        manifest = _parsed(location, filesystem, join(root, MANIFEST), json.loads)
        sweep = _parsed(location, filesystem, join(root, SWEEP), yaml.safe_load)
        if not isinstance(manifest.get("variants"), dict) or not isinstance(manifest.get("tasks"), dict):
            raise UserError(
                f"{location}/{MANIFEST} names no variants and tasks, so it is no manifest of a run."
            )
        return RunFiles(location, filesystem, root, manifest, sweep)

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Variants by name, as the manifest describes them."""
        return dict(self.manifest["variants"])

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Tasks by name, as the manifest describes them."""
        return dict(self.manifest["tasks"])

    @property
    def baseline(self) -> str | None:
        """The baseline of the sweep."""
        return self.sweep.get("baseline")

    @property
    def analysis(self) -> dict[str, float]:
        """The sweep's level and margin."""
        return dict(self.sweep.get("analysis") or {})

    def items_file(self, task: str) -> str:
        """Path of the item table of a task; the name is encoded, for it comes from outside."""
        return join(self.root, "items", f"{quote(task, safe='')}.parquet")

    def samples(self, model: str, task: str) -> list[str]:
        """Paths of the sample files of one model and task, sorted."""
        return self._samples.get((model, task), [])

    @cached_property
    def _samples(self) -> dict[tuple[str, str], list[str]]:
        folder = join(self.root, "samples")
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        found: dict[tuple[str, str], list[str]] = {}
        for entry in sorted(self.filesystem.get_file_info(selector), key=lambda info: info.path):
            parts = relpath(entry.path, folder).split("/")
            is_block = len(parts) == 3 and parts[2].endswith(".parquet") and not parts[2].startswith(".")
            if entry.type == pafs.FileType.File and is_block:
                model, task = (unquote(part.partition("=")[2]) for part in parts[:2])
                found.setdefault((model, task), []).append(entry.path)
        return found


def _parsed(
    location: str, filesystem: pafs.FileSystem, path: str, parse: Callable[[bytes], object]
) -> dict[str, Any]:
    try:
        with filesystem.open_input_file(path) as file:
            content = parse(file.read())
    except FileNotFoundError as error:
        raise UserError(f"{location} is not a run directory: it has no {basename(path)}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{basename(path)} of {location} cannot be read: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{basename(path)} of {location} holds no mapping.")
    return content
