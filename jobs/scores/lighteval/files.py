"""Where lighteval leaves details: `details/MODEL/DATE/details_TASK_DATE.parquet`, and results beside them.

The layout is that of `EvaluationTracker.save` in the package; a model's name may have a slash and be two
folders.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.formats.json_files import files_below, read_object

DETAILS = re.compile(r"details_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.parquet")


@dataclass(frozen=True)
class DetailsFile:
    """The details of one task.

    Attributes:
        path: the file.
        task: name of the task, as the file's name has it.
        date: likewise.
    """

    path: Path
    task: str
    date: str

    @cached_property
    def _results(self) -> Path | None:
        """The results file of the same evaluation; None where the layout is another one."""
        folder = self.path.absolute().parent.parent
        root = next((parent for parent in folder.parents if parent.name == "details"), None)
        if root is None:
            return None
        return root.parent / "results" / folder.relative_to(root) / f"results_{self.date}.json"

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What the results state about the evaluation; empty where there are none."""
        if self._results is None or not self._results.is_file():
            return {}
        config = read_object(self._results).get("config_general")
        return config if isinstance(config, dict) else {}

    @property
    def model(self) -> str:
        """The model's name as the results state it, else as the folders are called."""
        stated = self.config.get("model_name")
        if isinstance(stated, str):
            return stated
        folder = self.path.absolute().parent.parent
        root = next((parent for parent in folder.parents if parent.name == "details"), folder.parent)
        return str(folder.relative_to(root))

    @property
    def generation(self) -> Mapping[str, Any]:
        """Parameters of generation; empty where unknown."""
        model = self.config.get("model_config") or {}
        return model.get("generation_parameters") or self.config.get("generation_parameters") or {}


def details_files(path: Path) -> Iterator[DetailsFile]:
    """The details at a path: the file itself, or all below a folder; sorted by date."""
    files = files_below(path, "details_*.parquet") if path.is_dir() else [path]
    named = [(match, file) for file in files if (match := DETAILS.fullmatch(file.name))]
    for match, file in sorted(named, key=lambda pair: (pair[0]["date"], str(pair[1]))):
        yield DetailsFile(file, match["task"], match["date"])
