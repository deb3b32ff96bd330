"""The input formats, and the one way from what the user typed to a reader.

Formats are recognised by their content and never mixed: runs are pooled with runs, lm-eval folders are
compared with lm-eval folders, and score tables with score tables.
"""

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from jobs.inputs.links import linked
from jobs.inputs.rerun_set import RerunSet, Wanted
from jobs.inputs.run_directory.read import runs_in
from jobs.inputs.scales.settle import scaled
from jobs.inputs.score_set import Reading, ScoreSet, some
from jobs.inputs.source import NamedPath, Source
from jobs.inputs.write_run import ImportedRun
from orchestrator.errors import UserError
from orchestrator.rundir.locations import exists

FORMATS = (
    "run_directory",
    "score_csv",
    "lm_eval",
    "inspect_ai",
    "evalscope",
    "helm",
    "every_eval_ever",
)
"""Folders here, each with a `SOURCE` in its module `read`; the first that recognises a path wins."""


def sources() -> list[Source]:
    """All formats, in order."""
    return [import_module(f"jobs.inputs.{name}.read").SOURCE for name in FORMATS]


def read_scores(paths: Sequence[str], reading: Reading) -> ScoreSet:
    """Read scores averaged over reruns, settle direction and range of every task, and link what tasks share.

    Args:
        paths: what the user typed, at least one.
        reading: metrics, clusters, filters and scales asked for.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or a scale is unknown.
    """
    source, named = resolve(paths)
    _refuse_where(source, reading)
    return linked(scaled(source.read_scores(named, reading), reading.scales))


def read_reruns(paths: Sequence[str], wanted: Wanted) -> RerunSet:
    """Read the answers to every item, rerun by rerun.

    Args:
        paths: what the user typed, at least one.
        wanted: what of it to read.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or nothing is left.
    """
    source, named = resolve(paths)
    reruns = source.read_reruns(named, wanted)
    if not reruns.cells:
        raise UserError(f"{some(paths)} has no matching answers; remove a filter, or finish the run.")
    return reruns


def to_run(paths: Sequence[str], reading: Reading) -> ImportedRun:
    """Read everything, as the content of a run directory.

    Args:
        paths: what the user typed, at least one.
        reading: filters asked for.

    Raises:
        UserError: if a path cannot be read, formats are mixed, or the reader refuses.
    """
    source, named = resolve(paths)
    _refuse_where(source, reading)
    return source.to_run(named, reading)


def resolve(paths: Sequence[str]) -> tuple[Source, list[NamedPath]]:
    """Find the format of the paths, and the names that a listing gives them.

    Args:
        paths: what the user typed, at least one.

    Raises:
        UserError: if a path is in no format that is read, or formats are mixed.
    """
    known = sources()
    named = [NamedPath(path) for path in paths]
    if len(paths) == 1 and _recognising(paths[0], known) is None:
        named = _listing(paths[0]) or named
    found = {name.path: _source_of(name.path, known) for name in named}
    if len(set(found.values())) > 1:
        kinds = "; ".join(f"{path} is {source.described}" for path, source in found.items())
        raise UserError(f"These inputs have different formats and cannot be compared: {kinds}.")
    return found[named[0].path], named


def is_run(path: str) -> bool:
    """Whether a path is a run directory or a folder of runs, into which outputs may be written."""
    return bool(runs_in(path))


def _refuse_where(source: Source, reading: Reading) -> None:
    if reading.where and not source.takes_where:
        takers = some([other.accepted for other in sources() if other.takes_where])
        raise UserError(f"--where only applies to {takers}, and there are none among the inputs.")


def _recognising(path: str, known: Sequence[Source]) -> Source | None:
    if not exists(path):
        raise UserError(f"{path} does not exist.")
    return next((source for source in known if source.recognises(path)), None)


def _source_of(path: str, known: Sequence[Source]) -> Source:
    source = _recognising(path, known)
    if source is not None:
        return source
    if _listing(path) is not None:
        raise UserError(f"{path} is a list of models: pass a single list and nothing else.")
    raise UserError(_unreadable(path, known))


def _unreadable(path: str, known: Sequence[Source]) -> str:
    local = Path(path)
    accepted = ", ".join(source.accepted for source in known)
    read = f"lldeg reads {accepted}, or a JSON file that lists them by model."
    if local.is_dir() and any(local.glob("*.csv")):
        return f"{path} is a folder of CSV files: pass the files themselves, {path.rstrip('/')}/*.csv."
    if local.is_dir():
        what = "is empty" if not any(local.iterdir()) else "contains neither samples nor a manifest.json"
        return f"{path} {what}; {read} lm-eval writes samples only with --log_samples."
    return f"{path} is not in a supported format; {read}"


def _listing(path: str) -> list[NamedPath] | None:
    """The entries of a file {model: path} or {model: {task: path}}; None if it is not such a file.

    Raises:
        UserError: if it is not valid JSON.
    """
    file = Path(path)
    if file.suffix != ".json" or not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict) or not content:
        return None
    entries = list(_entries(content, file.parent))
    return [entry for entry in entries if entry is not None] if None not in entries else None


def _entries(content: dict[str, Any], folder: Path) -> Iterator[NamedPath | None]:
    """One per listed path; None for entries that are not paths."""
    for model, value in content.items():
        by_task = value if isinstance(value, dict) and value else {None: value}
        for task, path in by_task.items():
            yield NamedPath(_beside(folder, path), model, task) if isinstance(path, str) else None


def _beside(folder: Path, path: str) -> str:
    """Take a relative path from the folder of the listing, or from here if it leads nowhere there."""
    beside = folder / path
    return path if not exists(str(beside)) and exists(path) else str(beside)
