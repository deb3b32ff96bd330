"""The input formats, and the one way from what the user typed to tables.

Formats are recognised by their content, unless the user names columns. Runs are pooled with runs and never
mixed with anything else; the results of different tools can be compared with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from jobs.formats import named_columns, names
from jobs.formats.across_tools import gather_aligned
from jobs.formats.columns import Columns
from jobs.formats.log_tables import gather, sound_form
from jobs.formats.metrics import refuse_unused
from jobs.formats.notices import some
from jobs.formats.run_files import runs_in
from jobs.formats.run_tables import open_runs
from jobs.formats.samples import Evaluation, InputFormat, InputQuery
from jobs.formats.tables import Tables
from orchestrator.errors import UserError
from orchestrator.input_files import read_json
from orchestrator.rundir.location import exists

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
    "vendor_verifiers",
    "verifiers",
    "nemo_evaluator",
    "llama_cpp",
)
"""Modules here, each with a `FORMAT`; the first that recognises a path wins."""


@dataclass(frozen=True)
class NamedPath:
    """A path as the user gave it, or as a listing gives it a name."""

    path: str  # a local path or a URL
    model: str | None = None  # whose results it holds; None if nothing says so before it is read
    task: str | None = None  # name of the task, likewise
    form: InputFormat | None = None  # what reads it, where the user named its columns


def formats() -> list[InputFormat]:
    """All formats, in order."""
    return [import_module(f"jobs.formats.{name}").FORMAT for name in FORMATS]


def open_inputs(paths: Sequence[str], query: InputQuery, *, are_reruns: bool = False) -> Tables:
    """Read what the user typed, at least one path; of runs only what says what is in them.

    Models are to be compared, or their reruns if `are_reruns`.

    Raises:
        UserError: if a path cannot be read, formats are mixed that cannot be, an option applies to none of
            them, or a reader refuses.
    """
    known = formats()
    named = _named(paths, query.columns, known)
    forms = {path.path: path.form or _format_of(path.path, known) for path in named}
    used = list({id(form): form for form in forms.values()}.values())
    kinds = "; ".join(f"{path} is {form.described}" for path, form in forms.items())
    has_runs = any(form.evaluations is None for form in used)
    if len(used) > 1 and has_runs:
        raise UserError(f"These inputs have different formats and cannot be compared: {kinds}.")
    if query.pair_by == "prompt" and has_runs:
        raise UserError("--pair-by prompt does not apply to runs of lldeg: their items pair by id.")
    if query.where and not any(form.takes_where for form in used):
        takers = some([other.accepted for other in known if other.takes_where])
        raise UserError(f"--where only applies to {takers}, and there are none among the inputs.")
    if has_runs:
        if query.documents:
            raise UserError(f"{named[0].path} is already a run directory: analyze it directly.")
        if any(path.model is not None for path in named):
            raise UserError(
                "A run directory already names its variants and cannot be listed by model: pass its path."
            )
        locations = dict.fromkeys(run for path in named for run in runs_in(path.path))
        return open_runs(list(locations), query.metrics, are_reruns=are_reruns)
    if are_reruns and len(used) > 1:
        raise UserError(f"Reruns are counted within the output of one tool, but {kinds}.")
    return _open_logs(named, [forms[path.path] for path in named], query, are_reruns=are_reruns)


def require_existing(paths: Sequence[str]) -> None:
    """Raise UserError if a path leads nowhere."""
    for path in paths:
        if not exists(path):
            raise UserError(f"{path} does not exist.")


def _open_logs(
    paths: Sequence[NamedPath], forms: Sequence[InputFormat], query: InputQuery, *, are_reruns: bool
) -> Tables:
    unlisted = [Path(path.path).resolve() for path in paths if path.model is None]
    if len(set(unlisted)) < len(unlisted):
        raise UserError("The same input is given twice: comparing a model with itself says nothing.")
    every: list[Sequence[Evaluation]] = []
    for path, form in zip(paths, forms, strict=True):
        with sound_form(path.path):
            if path.task is not None and form.of_task is not None:
                every.append(list(form.of_task(path.path, path.task)))
            else:
                every.append(list(form.evaluations(path.path)) if form.evaluations else [])
    places, notices = (every, []) if are_reruns else names.newest(every)
    given, is_one_tool = [path.path for path in paths], len(set(map(id, forms))) == 1
    by = query.pair_by or (None if is_one_tool else "id")
    if by is None:
        tasks, metrics = gather(places, query), dict[str, str]()
    else:
        tasks, metrics, renamed = gather_aligned([path.task for path in paths], given, places, query, by)
        notices += renamed
    if not any(task.item_numbers for task in tasks.values()):
        raise UserError(f"{', '.join(given)} contains no samples.")
    if are_reruns:
        called = (forms[0].names_of_reruns or names.one_per_model)(tasks)
    else:
        called = ((forms[0].names if is_one_tool else None) or names.by_data)(tasks, given)
    called |= {key: str(listed) for key in called if (listed := paths[key[0]].model) is not None}
    for task in tasks.values():
        task.settle(called)
    names.refuse_mixtures(places, tasks, called)
    refuse_unused("--metric", query.metrics, {name: task.group for name, task in tasks.items()})
    models = tuple(dict.fromkeys(called[key] for key in sorted(called, key=lambda key: key[0])))
    return Tables(models, list(tasks.values()), notices, metrics=metrics, paired_by=by)


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
        replace(name, form=named_columns.FORMAT)
        if named_columns.data_files(name.path)
        and (Path(name.path).is_file() or _recognising(name.path, known) in {None, named_columns.FORMAT})
        else name
        for name in named
    ]
    if all(name.form is None for name in chosen):
        listed = some([name.path for name in named])
        raise UserError(f"--columns applies to .jsonl, .ndjson and .csv files; there is none in {listed}.")
    return chosen


def _recognising(path: str, known: Sequence[InputFormat]) -> InputFormat | None:
    require_existing([path])
    return next((form for form in known if any(True for _ in form.found(path))), None)


def _format_of(path: str, known: Sequence[InputFormat]) -> InputFormat:
    if (form := _recognising(path, known)) is not None:
        return form
    if _listing(path) is not None:
        raise UserError(f"{path} is a list of models: pass a single list and nothing else.")
    local, accepted = Path(path), ", ".join(form.accepted for form in known)
    read = f"lldeg reads {accepted}, or a JSON file that lists them by model."
    if local.is_dir() and any(local.glob("*.csv")):
        said = f"is a folder of CSV files: pass the files themselves, {path.rstrip('/')}/*.csv."
    elif local.is_dir():
        what = "is empty" if not any(local.iterdir()) else "contains neither samples nor a manifest.json"
        said = f"{what}; {read} lm-eval writes samples only with --log_samples."
    else:
        is_empty = local.is_file() and not local.stat().st_size
        said = f"{'is empty' if is_empty else 'is not in a supported format'}; {read}"
    raise UserError(f"{path} {said}")


def _listing(path: str) -> list[NamedPath] | None:
    """The entries of a file {model: path} or {model: {task: path}}; None if it is not such a file.

    A path leads on from the folder of the listing, or from here if nothing is there.
    """
    file = Path(path)
    content = read_json(file) if file.suffix == ".json" and file.is_file() else None
    if not isinstance(content, dict) or not content:
        return None
    entries = []
    for model, value in content.items():
        for task, listed in (value if isinstance(value, dict) and value else {None: value}).items():
            if not isinstance(listed, str):
                return None
            beside = str(file.parent / listed)
            is_here = not exists(beside) and exists(listed)
            entries.append(NamedPath(listed if is_here else beside, model, task))
    return entries
