"""The input formats, and the one way from what the user typed to tables.

Formats are recognised by their content, unless the user names columns. Runs are pooled with runs and never
mixed with anything else; the results of different tools can be compared with each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from jobs.formats.across_tools import gather_aligned
from jobs.formats.columns import Columns
from jobs.formats.gather import gather, sound_form
from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.log_tables import LogTask
from jobs.formats.metrics import refuse_unused
from jobs.formats.named_columns import FORMAT as NAMED_COLUMNS
from jobs.formats.named_columns import data_files
from jobs.formats.names import by_data, newest, refuse_mixtures, refuse_repeated
from jobs.formats.notices import some
from jobs.formats.run_files import runs_in
from jobs.formats.run_tables import open_runs
from jobs.formats.samples import Evaluation, InputQuery
from jobs.formats.tables import Tables
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.locations import exists

FORMATS = (
    "run_tables",
    "named_columns",
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
"""Modules here, each with a `FORMAT`; the first that recognises a path wins."""


def formats() -> list[InputFormat]:
    """All formats, in order."""
    return [import_module(f"jobs.formats.{name}").FORMAT for name in FORMATS]


def open_inputs(paths: Sequence[str], query: InputQuery, *, are_reruns: bool = False) -> Tables:
    """Read what the user typed; of runs only what says what is in them.

    Args:
        paths: what the user typed, at least one.
        query: what is asked of them.
        are_reruns: whether the reruns of models are wanted, not models to be compared.

    Raises:
        UserError: if a path cannot be read, formats are mixed that cannot be, an option applies to none of
            them, or a reader refuses.
    """
    known = formats()
    named = _named(paths, query.columns, known)
    by_path = {
        name.path: NAMED_COLUMNS if name.columns is not None else _format_of(name.path, known)
        for name in named
    }
    used = list({id(found): found for found in by_path.values()}.values())
    kinds = "; ".join(f"{path} is {found.described}" for path, found in by_path.items())
    is_of_runs = any(found.evaluations is None for found in used)
    if len(used) > 1 and is_of_runs:
        raise UserError(f"These inputs have different formats and cannot be compared: {kinds}.")
    if query.pair_by == "prompt" and is_of_runs:
        raise UserError("--pair-by prompt does not apply to runs of lldeg: their items pair by id.")
    if query.where and not any(found.takes_where for found in used):
        takers = some([other.accepted for other in known if other.takes_where])
        raise UserError(f"--where only applies to {takers}, and there are none among the inputs.")
    if is_of_runs and query.documents:
        raise UserError(f"{named[0].path} is already a run directory: analyze it directly.")
    if is_of_runs:
        if any(path.model is not None for path in named):
            raise UserError(
                "A run directory already names its variants and cannot be listed by model: pass its path."
            )
        locations = dict.fromkeys(run for path in named for run in runs_in(path.path))
        return open_runs(list(locations), query.metrics, are_reruns=are_reruns)
    if are_reruns and len(used) > 1:
        raise UserError(f"Reruns are counted within the output of one tool, but {kinds}.")
    return _open_logs(named, by_path, query, are_reruns=are_reruns)


def is_run(path: str) -> bool:
    """Whether a path is a run directory or a folder of runs, into which outputs may be written."""
    return bool(runs_in(path))


def require_existing(paths: Sequence[str]) -> None:
    """Check that something is there to be read.

    Raises:
        UserError: a path leads nowhere.
    """
    for path in paths:
        if not exists(path):
            raise UserError(f"{path} does not exist.")


def _open_logs(
    paths: Sequence[NamedPath], by_path: Mapping[str, InputFormat], query: InputQuery, *, are_reruns: bool
) -> Tables:
    refuse_repeated([path.path for path in paths if path.model is None])
    every: list[Sequence[Evaluation]] = []
    for path in paths:
        with sound_form(path.path):
            every.append(evaluations(path) if (evaluations := by_path[path.path].evaluations) else [])
    places, notices = (every, []) if are_reruns else newest(every)
    given, used = [path.path for path in paths], {id(found) for found in by_path.values()}
    by = query.pair_by or ("id" if len(used) > 1 else None)
    if by is None:
        tasks, metrics = gather(places, query), dict[str, str]()
    else:
        tasks, metrics, renamed = gather_aligned([path.task for path in paths], given, places, query, by)
        notices += renamed
    if not any(task.items for task in tasks.values()):
        raise UserError(f"{', '.join(given)} contains no samples.")
    first = by_path[given[0]]
    name_models = first.names if len(used) == 1 else by_data
    names = first.names_of_reruns(tasks) if are_reruns else name_models(tasks, given)
    names |= {key: str(listed) for key in names if (listed := paths[key[0]].model) is not None}
    refuse_mixtures(places, tasks, names)
    refuse_unused(query.metrics, {name: task.facts.group for name, task in tasks.items()})
    models = tuple(dict.fromkeys(names[key] for key in sorted(names, key=lambda key: key[0])))
    return Tables(
        models, [LogTask(task, names) for task in tasks.values()], notices, metrics=metrics, paired_by=by
    )


def _named(paths: Sequence[str], columns: Columns | None, known: Sequence[InputFormat]) -> list[NamedPath]:
    """The paths with the names that a listing gives them, those with named columns marked.

    Columns apply to files, and to folders of files that are in no other format.
    """
    named = [NamedPath(path) for path in paths]
    if len(paths) == 1 and _recognising(paths[0], known) is None:
        named = _listing(paths[0]) or named
    if columns is None:
        return named
    chosen = [
        replace(name, columns=columns)
        if data_files(name.path)
        and (Path(name.path).is_file() or _recognising(name.path, known) in {None, NAMED_COLUMNS})
        else name
        for name in named
    ]
    if all(name.columns is None for name in chosen):
        listed = some([name.path for name in named])
        raise UserError(f"--columns applies to .jsonl, .ndjson and .csv files; there is none in {listed}.")
    return chosen


def _recognising(path: str, known: Sequence[InputFormat]) -> InputFormat | None:
    require_existing([path])
    return next((found for found in known if any(True for _ in found.found(path))), None)


def _format_of(path: str, known: Sequence[InputFormat]) -> InputFormat:
    found = _recognising(path, known)
    if found is not None:
        return found
    if _listing(path) is not None:
        raise UserError(f"{path} is a list of models: pass a single list and nothing else.")
    raise UserError(_unreadable(path, known))


def _unreadable(path: str, known: Sequence[InputFormat]) -> str:
    local = Path(path)
    accepted = ", ".join(found.accepted for found in known)
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
    """One per listed path, from the folder of the listing, or from here if it leads nowhere there.

    None for entries that are not paths.
    """
    for model, value in content.items():
        by_task = value if isinstance(value, dict) and value else {None: value}
        for task, path in by_task.items():
            if not isinstance(path, str):
                yield None
                continue
            beside = str(folder / path)
            yield NamedPath(path if not exists(beside) and exists(path) else beside, model, task)
