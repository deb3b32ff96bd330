"""Finds out what the user pointed at, and reads it with the reader for that kind.

The kinds are told apart by what they contain, never by how they are called, and are not mixed: runs pool with
runs, lm-eval folders compare with lm-eval folders, score tables with score tables.
"""

import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from jobs.analysis.lm_eval_files import find_sample_files, name_models
from jobs.analysis.locations import exists, subfolders
from jobs.analysis.read_csv import read_score_paths, read_score_tables
from jobs.analysis.read_lm_eval import read_lm_eval
from jobs.analysis.read_run import read_runs
from jobs.analysis.run_files import MANIFEST
from jobs.analysis.scores import Reading, ScoreBook
from orchestrator.errors import UserError


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


def read_scores(paths: Sequence[str], reading: Reading) -> ScoreBook:
    """Read whatever the paths are.

    Args:
        paths: what the user typed, at least one.
        reading: metrics, clusters and filters asked for.

    Raises:
        UserError: if a path is nothing we read, the kinds are mixed, or the reader refuses.
    """
    kinds = {path: detect(path) for path in paths}
    if set(kinds.values()) <= {Kind.RUN, Kind.RUNS}:
        return read_runs([run for path in paths for run in runs_in(path)], reading)
    kind = next(iter(kinds.values()))
    if len(set(kinds.values())) > 1:
        listed = "; ".join(f"{path} is {found.value}" for path, found in kinds.items())
        raise UserError(f"These inputs are of different kinds and cannot be compared: {listed}.")
    if kind is Kind.LM_EVAL:
        return read_lm_eval(name_models(paths), reading)
    if kind is Kind.SCORES:
        return read_score_tables(paths, reading)
    if len(paths) > 1:
        raise UserError("Give one list of models at a time.")
    listing = _json(Path(paths[0]))
    read = read_lm_eval if kind is Kind.CHECKPOINTS else read_score_paths
    return read(_beside(Path(paths[0]).parent, listing), reading)


def detect(path: str) -> Kind:
    """Tell what kind of input a path is.

    Raises:
        UserError: if it does not exist or is none of them.
    """
    if not exists(path):
        raise UserError(f"There is no {path}.")
    if exists(path, MANIFEST):
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
    if exists(path, MANIFEST):
        return [path]
    return [folder for folder in subfolders(path) if exists(folder, MANIFEST)]


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


def _beside(folder: Path, listing: Any) -> Any:  # noqa: ANN401 – a nest of mappings of paths
    """Take relative paths in a listing from the folder of the listing."""
    if isinstance(listing, dict):
        return {key: _beside(folder, value) for key, value in listing.items()}
    return str(folder / listing)
