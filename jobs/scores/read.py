"""The input formats, and the one way from what the user typed to a reader.

Formats are recognised by their content, unless the user names columns. Runs are pooled with runs and never
mixed with anything else; the results of different tools can be compared with each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from jobs.formats.columns import Columns
from jobs.formats.notices import some
from jobs.formats.registry import require_existing
from jobs.formats.write_run import ImportedRun
from jobs.scores.across_tools.mixed import MixedSources
from jobs.scores.columns.read import SOURCE as NAMED_COLUMNS
from jobs.scores.columns.read import data_files
from jobs.scores.links import linked
from jobs.scores.rerun_set import RerunSet, Wanted
from jobs.scores.samples.source import SampleSource
from jobs.scores.scales import scaled
from jobs.scores.score_set import Reading, ScoreSet
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.locations import exists

FORMATS = (
    "run_directory",
    "columns",
    "score_csv",
    "lm_eval",
    "inspect_ai",
    "evalscope",
    "helm",
    "every_eval_ever",
    "lighteval",
    "verifiers",
    "nemo_evaluator",
)
"""Folders here, each with a `SOURCE` in its module `read`; the first that recognises a path wins."""


def sources() -> list[Source]:
    """All formats, in order."""
    return [import_module(f"jobs.scores.{name}.read").SOURCE for name in FORMATS]


def read_scores(paths: Sequence[str], reading: Reading) -> ScoreSet:
    """Read scores averaged over reruns, settle direction and range of every task, and link what tasks share.

    Args:
        paths: what the user typed, at least one.
        reading: metrics, clusters, filters and scales asked for.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or a scale is unknown.
    """
    return linked(read_unlinked(paths, reading))


def read_unlinked(paths: Sequence[str], reading: Reading) -> ScoreSet:
    """The same without links, which are numbers of one reading: documents and clusters keep their names."""
    source, named = resolve(paths, reading.columns)
    _refuse_options(source, reading)
    return scaled(source.read_scores(named, reading), reading.scales)


def read_reruns(paths: Sequence[str], wanted: Wanted) -> RerunSet:
    """Read the answers to every item, rerun by rerun.

    Args:
        paths: what the user typed, at least one.
        wanted: what of it to read.

    Raises:
        UserError: if a path cannot be read, formats are mixed, the reader refuses, or nothing is left.
    """
    source, named = resolve(paths, wanted.columns)
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
    source, named = resolve(paths, reading.columns)
    _refuse_options(source, reading)
    return source.to_run(named, reading)


def resolve(paths: Sequence[str], columns: Columns | None = None) -> tuple[Source, list[NamedPath]]:
    """Find the format of the paths, and the names that a listing gives them.

    Args:
        paths: what the user typed, at least one.
        columns: which columns mean what in JSON Lines and CSV files.

    Raises:
        UserError: if a path is in no format that is read, or formats are mixed that cannot be.
    """
    known = sources()
    named = [NamedPath(path) for path in paths]
    if len(paths) == 1 and _recognising(paths[0], known) is None:
        named = _listing(paths[0]) or named
    if columns is not None:
        named = _with_columns(named, columns, known)
    found = {
        name.path: NAMED_COLUMNS if name.columns is not None else _source_of(name.path, known)
        for name in named
    }
    if len(set(found.values())) == 1:
        return found[named[0].path], named
    mixable = {path: source for path, source in found.items() if isinstance(source, SampleSource)}
    if len(mixable) < len(found):
        kinds = "; ".join(f"{path} is {source.described}" for path, source in found.items())
        raise UserError(f"These inputs have different formats and cannot be compared: {kinds}.")
    return MixedSources(mixable), named


def _with_columns(named: Sequence[NamedPath], columns: Columns, known: Sequence[Source]) -> list[NamedPath]:
    """The paths, those with named columns marked: files, and folders of files that are in no other format."""
    chosen = [
        replace(name, columns=columns)
        if data_files(name.path) and (Path(name.path).is_file() or _is_unknown(name.path, known))
        else name
        for name in named
    ]
    if all(name.columns is None for name in chosen):
        paths = some([name.path for name in named])
        raise UserError(f"--columns applies to .jsonl, .ndjson and .csv files; there is none in {paths}.")
    return chosen


def _is_unknown(path: str, known: Sequence[Source]) -> bool:
    return _recognising(path, known) in {None, NAMED_COLUMNS}


def _refuse_options(source: Source, reading: Reading) -> None:
    if reading.pair_by == "prompt" and not isinstance(source, SampleSource):
        raise UserError("--pair-by prompt does not apply to runs of lldeg: their items pair by id.")
    if reading.where and not source.takes_where:
        takers = some([other.accepted for other in sources() if other.takes_where])
        raise UserError(f"--where only applies to {takers}, and there are none among the inputs.")


def _recognising(path: str, known: Sequence[Source]) -> Source | None:
    require_existing([path])
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
    content = read_json(file)
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
