"""A subset of items worth running: written by `lldeg subset`, read by `lldeg submit` and `lm_eval --samples`.

The file maps each task to item numbers, as lm-eval expects; one more key, which lm-eval ignores, says which
runs chose the items. Those runs must not be tested on them: an item is in the file because it flipped there,
and regresses to its mean in every other run, which looks like a difference between models.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.schema import Manifest
from stats.arrays import EvidenceError
from stats.flips import refuse_reused_runs

CHOSEN_BY = "chosen_by"
Run = tuple[float | None, int | None]
"""Temperature and seed."""


class ChosenBy(BaseModel):
    """The runs that chose a subset.

    Attributes:
        model: folder or hub name of the baseline; None if unknown.
        revision: identity of its weights, None if unknown.
        runs: temperature and seed of each.
    """

    model: str | None
    revision: str | None
    runs: tuple[Run, ...]

    def is_model(self, model: str | None, revision: str | None) -> bool:
        """Whether that is the same model: by its weights if they are known, else by its name."""
        if self.revision is not None and revision is not None:
            return self.revision == revision
        return self.model == model


@dataclass(frozen=True)
class Subset:
    """Items worth running.

    Attributes:
        items: numbers of the items by task, ascending; tasks not listed are run whole.
        chosen_by: the runs that chose them; None for a file that does not say.
    """

    items: Mapping[str, tuple[int, ...]]
    chosen_by: ChosenBy | None = None

    def text(self) -> str:
        """The file."""
        content: dict[str, Any] = {task: list(items) for task, items in self.items.items()}
        if self.chosen_by is not None:
            content[CHOSEN_BY] = self.chosen_by.model_dump(mode="json")
        return json.dumps(content, ensure_ascii=False) + "\n"


def read_subset(path: Path) -> Subset:
    """Read the file.

    Raises:
        UserError: there is no such file, or its form is wrong.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; `lldeg subset` writes such a file.")
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must map tasks to lists of item numbers.")
    origin = chosen_by(content.pop(CHOSEN_BY, None), str(path))
    for task, items in content.items():
        numbers = items if isinstance(items, list) and len(set(map(str, items))) == len(items) else []
        if not numbers or not all(type(item) is int and item >= 0 for item in numbers):
            raise UserError(f"{path}: '{task}' must have a non-empty list of distinct item numbers.")
    if not content:
        raise UserError(f"{path} names no tasks.")
    return Subset({task: tuple(sorted(items)) for task, items in content.items()}, origin)


def chosen_by(content: object, where: str) -> ChosenBy | None:
    """Read what a file or a manifest says about the runs that chose.

    Args:
        content: the value found; None for nothing.
        where: the file, for the error.

    Raises:
        UserError: the form is wrong.
    """
    if content is None:
        return None
    try:
        return ChosenBy.model_validate(content)
    except ValidationError:
        raise UserError(
            f"{where}: '{CHOSEN_BY}' is damaged; recreate the file with `lldeg subset`."
        ) from None


def refuse_reused(
    origin: ChosenBy | None, model: str | None, revision: str | None, runs: Iterable[Run], subset: str
) -> None:
    """Refuse to test a baseline on the items that its own runs chose.

    Args:
        origin: who chose.
        model: the baseline under test.
        revision: identity of its weights.
        runs: temperature and seed of the runs under test.
        subset: what to call the subset.

    Raises:
        UserError: one of the runs chose the items.
    """
    if origin is None or not origin.is_model(model, revision):
        return
    try:
        refuse_reused_runs([_name(run) for run in origin.runs], {_name(run) for run in runs})
    except EvidenceError as error:
        raise UserError(f"{subset}: {error}") from None


def refuse_reused_in(
    manifests: Sequence[Manifest], baseline: str, temperatures: Collection[float] | None = None
) -> None:
    """The same for an analysis of one or several runs together.

    Args:
        manifests: of all runs that are analyzed.
        baseline: name of the baseline.
        temperatures: those that are tested; None for all.

    Raises:
        UserError: a run chose the items that it, or another of the runs, is to be tested on.
    """
    for manifest in manifests:
        subset = manifest.get("subset")
        origin = chosen_by(subset.get("chosen_by") if subset else None, "the run's manifest")
        for tested in manifests:
            entry = tested["variants"].get(baseline)
            if entry is not None:
                reruns = {(t, seed) for task in tested["tasks"].values() for t, seed in task["reruns"]}
                runs = [run for run in reruns if temperatures is None or run[0] in temperatures]
                refuse_reused(
                    origin, entry["model"], entry.get("revision"), runs, "The run's subset of items"
                )


def _name(run: Run) -> str:
    temperature, seed = run
    where = "an unknown temperature" if temperature is None else f"temperature {temperature:g}"
    return where if seed is None else f"seed {seed} at {where}"
