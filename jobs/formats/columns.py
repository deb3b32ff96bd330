"""Which column of a file means what, as the user says: on the command line, or in a file next to the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.formats.json_files import read_yaml
from orchestrator.errors import UserError, suggestion

FILE = "lldeg-columns.yaml"
"""In the folder of the data."""

ROLES = {
    "item": "identifies the question; pairs the models",
    "score": "a number, or true and false; null is a missing answer",
    "rerun": "distinguishes the answers to one item; default: their order",
    "variant": "name of the model; default: the file's name",
    "task": "default: all rows are one task",
    "temperature": "sampling temperature; default: unknown",
    "prompt": "what was asked",
    "response": "what was answered",
    "target": "the expected answer",
    "error": "what went wrong; a row with one is a failed answer, whatever its score",
}
NEEDED = ("item", "score")


@dataclass(frozen=True)
class Columns:
    """The columns that the user named.

    Attributes:
        paths: column by role; a dotted path leads into nested objects.
    """

    paths: Mapping[str, str]

    @staticmethod
    def of(paths: Mapping[str, object], where: str) -> "Columns":
        """Check what was named.

        Args:
            paths: column by role.
            where: what to call it in an error.

        Raises:
            UserError: if a role is unknown or missing, or a column is not a name.
        """
        for role, path in paths.items():
            if role not in ROLES:
                hint = suggestion(str(role), list(ROLES)) or "."
                raise UserError(f"{where}: unknown role {role!r}{hint} The roles are {', '.join(ROLES)}.")
            if not isinstance(path, str) or not path:
                raise UserError(f"{where}: {role} must be the name of a column, but is {path!r}.")
        for role in NEEDED:
            if role not in paths:
                raise UserError(f"{where} does not name the column of {role}: add {role}=COLUMN.")
        return Columns({role: str(path) for role, path in paths.items()})

    @property
    def metric(self) -> str:
        """Name of the score: the last part of its path, which may say its direction and range."""
        return self.paths["score"].rpartition(".")[2]


def parse_columns(given: Sequence[str] | None) -> Columns | None:
    """Read the option --columns, which may be repeated: ROLE=COLUMN, separated by commas.

    Raises:
        UserError: if it is not of that form, or a role is unknown, missing or named twice.
    """
    if not given:
        return None
    paths: dict[str, object] = {}
    for part in ",".join(given).split(","):
        role, _, path = (text.strip() for text in part.partition("="))
        if not role or not path:
            raise UserError(f"--columns {part or given[0]}: write ROLE=COLUMN, such as item=id,score=acc.")
        if role in paths:
            raise UserError(f"--columns names {role} twice.")
        paths[role] = path
    return Columns.of(paths, "--columns")


def columns_beside(path: Path) -> Columns | None:
    """The columns that a file in the folder of the data names; None where there is no such file.

    Args:
        path: a file of data, or the folder itself.

    Raises:
        UserError: if it is not a mapping from role to column.
    """
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.is_file():
        return None
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} must map roles to columns, such as item: id.")
    return Columns.of(content, str(file))
