"""Finds out what the user pointed at, and reads it with the reader for that kind.

The kinds are told apart by what they contain, never by how they are called, and are not mixed: runs pool with
runs, lm-eval folders compare with lm-eval folders, score tables with score tables.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from jobs.inputs.lm_eval.files import find_sample_files, name_models
from jobs.inputs.lm_eval.read import read_lm_eval
from jobs.inputs.run_directory.read import read_runs
from jobs.inputs.score_csv.read import listed_rows, score_book, table_rows
from jobs.inputs.score_set import Reading, ScoreBook
from orchestrator.errors import UserError
from orchestrator.rundir.locations import exists, subfolders
from orchestrator.rundir.store import RunStore


class Kind(Enum):
    """What an input is."""

    RUN = "a run directory"
    RUNS = "a folder of runs"
    LM_EVAL = "lm-eval output"
    SCORES = "a score table"
    MODEL_PATHS = "a list of score tables by model and task"
    CHECKPOINTS = "a list of lm-eval folders by model"


ACCEPTED = (
    "a run directory, a folder of runs, lm-eval output folders or results files, score tables (.csv), "
    "or a JSON file that lists one of the last two by model"
)


@dataclass(frozen=True)
class Input:
    """What the user pointed at, sorted out; of the three only the one that `kind` speaks of is filled.

    Attributes:
        kind: RUN, LM_EVAL, SCORES or MODEL_PATHS.
        paths: run directories, or score tables.
        models: lm-eval folder or file by model.
        tables: score table by model and task.
    """

    kind: Kind
    paths: tuple[str, ...] = ()
    models: dict[str, str] = field(default_factory=dict)
    tables: dict[str, dict[str, str]] = field(default_factory=dict)


def resolve(paths: Sequence[str]) -> Input:
    """Sort out what the paths are.

    Args:
        paths: what the user typed, at least one.

    Raises:
        UserError: if a path is nothing we read, or the kinds are mixed.
    """
    kinds = {path: detect(path) for path in paths}
    found = set(kinds.values())
    if found <= {Kind.RUN, Kind.RUNS}:
        return Input(Kind.RUN, paths=tuple(dict.fromkeys(run for path in paths for run in runs_in(path))))
    if len(found) > 1:
        listed = "; ".join(f"{path} is {kind.value}" for path, kind in kinds.items())
        raise UserError(f"These inputs are of different kinds and cannot be compared: {listed}.")
    kind = found.pop()
    if kind is Kind.LM_EVAL:
        return Input(kind, models=name_models(paths))
    if kind is Kind.SCORES:
        return Input(kind, paths=tuple(paths))
    if len(paths) > 1:
        raise UserError("Give one list of models at a time.")
    listing = _beside(Path(paths[0]).parent, _json(Path(paths[0])))
    return Input(Kind.LM_EVAL, models=listing) if kind is Kind.CHECKPOINTS else Input(kind, tables=listing)


def read_scores(paths: Sequence[str], reading: Reading) -> ScoreBook:
    """Read whatever the paths are.

    Args:
        paths: what the user typed, at least one.
        reading: metrics, clusters and filters asked for.

    Raises:
        UserError: if a path is nothing we read, the kinds are mixed, or the reader refuses.
    """
    found = resolve(paths)
    if reading.where and found.kind not in {Kind.SCORES, Kind.MODEL_PATHS}:
        raise UserError("--where keeps rows of score tables; there are none here.")
    if found.kind is Kind.RUN:
        return read_runs(found.paths, reading)
    if found.kind is Kind.LM_EVAL:
        return read_lm_eval(found.models, reading)
    rows = (
        table_rows(found.paths, reading) if found.kind is Kind.SCORES else listed_rows(found.tables, reading)
    )
    return score_book(rows, reading)


def detect(path: str) -> Kind:
    """Tell what kind of input a path is.

    Raises:
        UserError: if it does not exist or is none of them.
    """
    if not exists(path):
        raise UserError(f"There is no {path}.")
    if RunStore(path).has_run():
        return Kind.RUN
    if runs_in(path):
        return Kind.RUNS
    local = Path(path)
    if local.suffix == ".csv" and local.is_file():
        return Kind.SCORES
    if find_sample_files(local):
        return Kind.LM_EVAL
    if local.is_dir():
        what = "is empty" if not any(local.iterdir()) else "holds neither samples nor a manifest.json"
        raise UserError(
            f"{path} {what}; analyze reads {ACCEPTED}. lm-eval writes samples only with --log_samples."
        )
    return _kind_of_file(local)


def runs_in(path: str) -> list[str]:
    """The run itself, or the runs directly inside of a folder."""
    if RunStore(path).has_run():
        return [path]
    return [folder for folder in subfolders(path) if RunStore(folder).has_run()]


def _kind_of_file(path: Path) -> Kind:
    content = _json(path) if path.suffix == ".json" else {}
    values = list(content.values())
    if values and all(isinstance(value, str) for value in values):
        return Kind.CHECKPOINTS
    if values and all(isinstance(value, dict) and _all_text(value) for value in values):
        return Kind.MODEL_PATHS
    raise UserError(f"{path} is nothing that can be analyzed; analyze reads {ACCEPTED}.")


def _all_text(tasks: dict[str, Any]) -> bool:
    return bool(tasks) and all(isinstance(value, str) for value in tasks.values())


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}.") from error
    return content if isinstance(content, dict) else {}


def _beside(folder: Path, listing: Any) -> Any:
    """Take relative paths in a listing from its folder, or from here if they do not lead anywhere there."""
    if isinstance(listing, dict):
        return {key: _beside(folder, value) for key, value in listing.items()}
    beside = folder / listing
    return listing if not beside.exists() and Path(listing).exists() else str(beside)
