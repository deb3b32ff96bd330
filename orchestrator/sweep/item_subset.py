"""A subset of items worth running: written by `lldeg subset`, read by `lldeg submit` and `lm_eval --samples`.

The file maps each task to item numbers, as lm-eval expects; one more key, which lm-eval ignores, says which
runs chose the items. Those runs must not be tested on them: an item is in the file because it flipped there,
and regresses to its mean in every other run, which looks like a difference between models.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.schema import Manifest
from stats.arrays import EvidenceError
from stats.flips import refuse_reused_runs

CHOSEN_BY = "chosen_by"
Run = tuple[float | None, int | None]  # temperature and seed


class ChosenBy(BaseModel):
    """The runs that chose a subset."""

    model: str | None  # folder or hub name of the baseline; None if unknown
    revision: str | None  # identity of its weights; None if unknown
    runs: tuple[Run, ...]

    def refuse_reused(
        self, model: str | None, revision: str | None, runs: Iterable[Run], subset: str
    ) -> None:
        """Refuse to test a baseline on the items that its own runs chose.

        It is the same model by its weights (the revision) or, where they are not known, by its name. The
        UserError calls the items `subset`.
        """
        known = self.revision is not None and revision is not None
        if self.revision == revision if known else self.model == model:
            chose, tested = ({_name(run) for run in some} for some in (self.runs, runs))
            try:
                refuse_reused_runs(chose, tested)
            except EvidenceError as error:
                raise UserError(f"{subset}: {error}") from None


class Subset(BaseModel):
    """Items worth running."""

    items: dict[str, tuple[int, ...]]  # numbers by task, ascending; tasks not listed are run whole
    chosen_by: ChosenBy | None = None  # None for a file that does not say

    def text(self) -> str:
        """What the file holds, as JSON."""
        origin = {} if self.chosen_by is None else {CHOSEN_BY: self.chosen_by.model_dump(mode="json")}
        return json.dumps({**self.items, **origin}, ensure_ascii=False) + "\n"


def read_subset(path: Path) -> Subset:
    """Read the file; a UserError if there is none, or its form is wrong."""
    if not path.exists():
        raise UserError(f"{path} does not exist; `lldeg subset` writes such a file.")
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must map tasks to lists of item numbers.")
    origin = _origin(content.pop(CHOSEN_BY, None), str(path))
    for task, items in content.items():
        numbers = items if isinstance(items, list) and len(set(map(str, items))) == len(items) else []
        if not numbers or not all(type(item) is int and item >= 0 for item in numbers):
            raise UserError(f"{path}: '{task}' must have a non-empty list of distinct item numbers.")
    if not content:
        raise UserError(f"{path} names no tasks.")
    return Subset(items={task: tuple(sorted(items)) for task, items in content.items()}, chosen_by=origin)


def refuse_reused_in(
    manifests: Sequence[Manifest], baseline: str, temperatures: Collection[float] | None = None
) -> None:
    """Refuse to analyze runs together, at some temperatures or all, if one chose the items of another.

    The UserError says that a run chose the items that it, or another of the runs, is to be tested on.
    """
    origins = [_origin(one.get("subset", {}).get(CHOSEN_BY), "the run's manifest") for one in manifests]
    for tested in manifests:
        if entry := tested["variants"].get(baseline):
            reruns = {(t, seed) for task in tested["tasks"].values() for t, seed in task["reruns"]}
            runs = [run for run in reruns if temperatures is None or run[0] in temperatures]
            for origin in filter(None, origins):
                name = "The run's subset of items"
                origin.refuse_reused(entry["model"], entry.get("revision"), runs, name)


def _origin(content: object, where: str) -> ChosenBy | None:
    """What a file or a manifest says about the runs that chose; a UserError if its form is wrong."""
    try:
        return None if content is None else ChosenBy.model_validate(content)
    except ValidationError:
        raise UserError(
            f"{where}: '{CHOSEN_BY}' is damaged; recreate the file with `lldeg subset`."
        ) from None


def _name(run: Run) -> str:
    temperature, seed = run
    where = "an unknown temperature" if temperature is None else f"temperature {temperature:g}"
    return where if seed is None else f"seed {seed} at {where}"
