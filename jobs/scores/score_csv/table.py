"""One CSV file as columns of text and one of numbers, checked.

`prompt_id` and `score` must be there; `model`, `task`, `temperature`, `rerun`, `higher_is_better` and `range`
may be. Any further column is a label, to cluster by or to filter with. A score that is not a finite number is
refused, with its row.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from jobs.formats.metrics import as_number
from jobs.formats.notices import some
from orchestrator.errors import UserError
from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS
from stats.arrays import LARGEST_SCORE, Floats

ITEM, SCORE, RERUN = "prompt_id", "score", "rerun"
MODEL, TASK, TEMPERATURE = "model", "task", "temperature"
HIGHER, RANGE, METRIC = "higher_is_better", "range", "metric"
ALIASES = {"item": ITEM, "doc_id": ITEM, "variant": MODEL, "seed": RERUN}
KNOWN = {ITEM, SCORE, RERUN, MODEL, TASK, TEMPERATURE, HIGHER, RANGE}

MOST_COLUMNS = 1_000  # labels are a handful; Arrow takes minutes for 100,000 columns
LARGEST_TABLE = 1 << 30  # bytes
MOST_VALUES = {MODEL: MOST_VARIANTS, TASK: MOST_TASKS, TEMPERATURE: MOST_VARIANTS}

Texts = NDArray[np.object_]


@dataclass(frozen=True)
class ScoreTable:
    """The rows of one file.

    Attributes:
        path: where they come from.
        score: shape (rows,), finite.
        texts: every other column, each of shape (rows,).
        rows: their row numbers in the file, the header being row 1.
    """

    path: str
    score: Floats
    texts: dict[str, Texts]
    rows: NDArray[np.int64]

    @property
    def labels(self) -> list[str]:
        """Columns that have no meaning of their own."""
        return [name for name in self.texts if name not in KNOWN]

    def column(self, name: str, default: str) -> Texts:
        """A column, or the default in every row where there is none."""
        found = self.texts.get(name)
        return np.full(self.score.size, default, dtype=object) if found is None else found

    def with_labels(self, name: str) -> "ScoreTable":
        """The table with a column of that name: one of the file's, or the start of its texts.

        Args:
            name: a column, or "COLUMN:SEPARATOR" for the text before the separator (`prompt_id:|`).

        Raises:
            UserError: if there is no such column.
        """
        column, _, separator = name.partition(":")
        column = ALIASES.get(column, column)
        if name in self.texts:
            return self
        if column not in self.texts or not separator:
            raise UserError(
                f"--cluster {name}: {self.path} has no such column; it has {some(list(self.texts), 20)}. "
                "To cluster by the text before a character, write COLUMN:CHARACTER."
            )
        labels = np.array([text.split(separator)[0] for text in self.texts[column]], dtype=object)
        return replace(self, texts={**self.texts, name: labels})


def read_table(path: str, where: Mapping[str, str]) -> ScoreTable:
    """Read a CSV file.

    Args:
        path: the file.
        where: value that a column must have for a row to be kept.

    Raises:
        UserError: if it is not a CSV file with prompt_id and score, no row matches, or a score is not finite.
    """
    table = _read(path)
    for needed in (ITEM, SCORE):
        if needed not in table.column_names:
            raise UserError(f"{path} has no column {needed}; its columns are {some(table.column_names, 20)}.")
    rows = np.arange(2, table.num_rows + 2)
    keep = pa.array(np.ones(table.num_rows, dtype=bool))
    for name, value in where.items():
        if name not in table.column_names:
            raise UserError(
                f"--where {name}: {path} has no such column; it has {some(table.column_names, 20)}."
            )
        keep = pc.and_(keep, pc.equal(table.column(name), value))
    table, rows = table.filter(keep), rows[keep.to_numpy(zero_copy_only=False)]
    if not table.num_rows:
        raise UserError(
            f"{path} has no rows{' that match --where' if where else ''}: there is nothing to compare."
        )
    score = _numbers(path, table.column(SCORE), rows)
    texts = {name: _texts(table.column(name)) for name in table.column_names if name != SCORE}
    for name, most in MOST_VALUES.items():
        if len(set(texts.get(name, ()))) > most:
            raise UserError(f"{path} has more than {most:,} values in the column {name}.")
    return ScoreTable(path, score, texts, rows)


def _read(path: str) -> pa.Table:
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path} does not exist.")
    if file.stat().st_size > LARGEST_TABLE:
        raise UserError(f"{path} is larger than {LARGEST_TABLE >> 20} MiB: split it, a file a model or task.")
    if _has_more_columns(file, MOST_COLUMNS):
        raise UserError(
            f"{path} has more than {MOST_COLUMNS:,} columns: keep those that the comparison needs."
        )
    parse = pacsv.ParseOptions(newlines_in_values=True)
    try:
        header = pacsv.open_csv(file, parse_options=parse).schema.names
        convert = pacsv.ConvertOptions(
            column_types={name: pa.string() for name in header}, strings_can_be_null=False
        )
        table = pacsv.read_csv(file, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read as CSV: {error}.") from error
    names = [name.strip() for name in header]
    renamed = [ALIASES.get(name, name) if ALIASES.get(name) not in names else name for name in names]
    if len(set(renamed)) < len(renamed):
        raise UserError(f"{path} has two columns with the same name; its columns are {some(names, 20)}.")
    return table.rename_columns(renamed)


def _has_more_columns(file: Path, most: int) -> bool:
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        try:
            return len(next(csv.reader(lines), ())) > most
        except csv.Error:  # not CSV; Arrow says why
            return False


def _texts(column: pa.ChunkedArray) -> Texts:
    texts: Texts = np.array(column.to_pylist(), dtype=object)
    return texts


def _numbers(path: str, column: pa.ChunkedArray, rows: NDArray[np.int64]) -> Floats:
    try:
        numbers: Floats = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = [as_number(text) for text in column.to_pylist()]
        numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(numbers) <= LARGEST_SCORE))
    if bad.size:
        text = column[int(bad[0])].as_py()
        raise UserError(
            f"{path}: {bad.size} scores are not finite numbers of a sensible size (up to {LARGEST_SCORE:g}); "
            f"the first is {text!r} in row {rows[bad[0]]}."
        )
    return numbers
