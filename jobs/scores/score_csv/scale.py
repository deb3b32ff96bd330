"""What the columns of a score table say about its scores: metric, direction and range."""

from jobs.formats.metrics import parse_range
from jobs.formats.notices import some
from jobs.formats.samples import GENERIC, Stated
from jobs.scores.score_csv.table import HIGHER, METRIC, RANGE, ScoreTable
from orchestrator.errors import UserError

WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def tested_metric(table: ScoreTable) -> str:
    """The metric that a column `metric` names; "score" where there is none, or it names several."""
    named = {text.strip() for text in table.texts.get(METRIC, ())} - {""}
    return named.pop() if len(named) == 1 else GENERIC


def stated_scale(table: ScoreTable, task: str) -> Stated:
    """Direction and range as the columns `higher_is_better` and `range` state them.

    Args:
        table: rows of one task.
        task: its name, for the error.

    Raises:
        UserError: if a column contradicts itself or cannot be read.
    """
    higher, limits = _single(table, HIGHER, task), _single(table, RANGE, task)
    if higher is not None and higher.lower() not in WORDS:
        raise UserError(f"{table.path}: {HIGHER} of task {task} is {higher!r}; write true or false.")
    where = f"{table.path}, range of task {task}"
    return Stated(
        None if higher is None else WORDS[higher.lower()],
        None if limits is None else parse_range(limits, where),
    )


def _single(table: ScoreTable, column: str, task: str) -> str | None:
    """The one value of a column, None where it is absent or empty."""
    found = {text.strip() for text in table.texts.get(column, ())} - {""}
    if len(found) > 1:
        raise UserError(
            f"{table.path}: {column} of task {task} has several values ({some(sorted(found))}); write one."
        )
    return found.pop() if found else None
