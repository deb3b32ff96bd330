"""Which column of a file means what, as the user says: on the command line, or in a file next to the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.formats.json_files import read_yaml
from jobs.formats.metrics import parse_assignments
from orchestrator.errors import UserError, suggestion

FILE = "lldeg-columns.yaml"  # in the folder of the data
SCORE = "score"  # the role whose column, by the last part of its path, names the metric
ROLES = {
    "item": "identifies the question; pairs the models",
    SCORE: "a number, or true and false; null is a missing answer",
    "rerun": "distinguishes the answers to one item; default: their order",
    "variant": "name of the model; default: the file's name",
    "task": "default: all rows are one task",
    "temperature": "sampling temperature; default: unknown",
    "prompt": "what was asked",
    "response": "what was answered",
    "target": "the expected answer",
    "error": "what went wrong; a row with one is a failed answer, whatever its score",
}

Columns = Mapping[str, str]  # column by role; a dotted path leads into nested objects


def checked_columns(paths: Mapping[str, object], where: str) -> Columns:
    """The columns that somebody named by role; `where` says in an error who did.

    Raises UserError if a role is unknown or missing, or a column is not a name.
    """
    for role, path in paths.items():
        if role not in ROLES:
            hint = suggestion(str(role), list(ROLES))
            raise UserError(f"{where}: unknown role {role!r}{hint}. The roles are {', '.join(ROLES)}.")
        if not isinstance(path, str) or not path:
            raise UserError(f"{where}: {role} must be the name of a column, but is {path!r}.")
    for role in ("item", SCORE):
        if role not in paths:
            raise UserError(f"{where} does not name the column of {role}: add {role}=COLUMN.")
    return {role: str(path) for role, path in paths.items()}


def parse_columns(given: Sequence[str] | None) -> Columns | None:
    """Read the option --columns, which may be repeated: ROLE=COLUMN, separated by commas.

    Raises UserError if it is not of that form, or a role is unknown, missing or named twice.
    """
    if not given:
        return None
    form = "ROLE=COLUMN, such as item=id,score=acc"
    return checked_columns(parse_assignments("--columns", ",".join(given).split(","), form), "--columns")


def columns_beside(path: Path) -> Columns | None:
    """The columns that a file in the folder of the data, or beside a file of them, names; None without one.

    Raises UserError if it is not a mapping from role to column.
    """
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.is_file():
        return None
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} must map roles to columns, such as item: id.")
    return checked_columns(content, str(file))
