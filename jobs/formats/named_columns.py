"""Reads JSON Lines and CSV files whose columns the user named; each file is an evaluation.

A value that is null, or a row with an error, is an answer that is missing or failed, never a wrong one.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from jobs.formats import samples
from jobs.formats.columns import FILE, SCORE, Columns, columns_beside
from jobs.formats.json_files import as_text, read_lines
from jobs.formats.metrics import as_number
from jobs.formats.names import by_data, path_stems
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, Row, SampleBatch, TaskFacts
from orchestrator.errors import UserError, suggestion
from stats.arrays import Ints

ROWS_AT_ONCE = 64
"""So few that they stay in the processor's cache until they are used, which takes a third less time."""

ENDINGS = (".jsonl", ".ndjson", ".csv")
LARGEST_SEED = 2**31 - 1
ABSENT = object()  # in place of a value that a row does not have; a null is a value
NAMES, NUMBERS = {str, int}, {float, int, bool, type(None)}
"""Types of which all values will do in a column of names, or of numbers; texts of numbers will do, too."""

Rows = tuple[Sequence[int], Sequence[Row]]
"""Consecutive rows of a file: the line of each (in a CSV file its row, after the header), and the rows."""
Values = list[Any]
Group = tuple[str | None, str]  # model and task


def data_files(path: str) -> list[Path]:
    """The JSON Lines and CSV files at a path: the file itself, or those directly in a folder; sorted."""
    given = Path(path)
    files = sorted(given.iterdir()) if given.is_dir() else [given]
    return [file for file in files if file.suffix in ENDINGS and file.is_file()]


def _evaluations(path: str) -> list[Evaluation]:
    """One per file."""
    files = data_files(path)
    return [Evaluation(str(file), partial(_read, file, file.stem if files[1:] else None)) for file in files]


FORMAT = InputFormat(
    "a file with named columns",
    f"any JSON Lines or CSV file with --columns or {FILE}",
    lambda path: data_files(path) if columns_beside(Path(path)) is not None else [],
    _evaluations,
    takes_where=True,
    names=partial(by_data, shorten=path_stems),
)


def _read(file: Path, model: str | None, query: InputQuery) -> Iterator[SampleBatch]:
    columns = query.columns or columns_beside(file)
    if columns is None:
        raise UserError(f"{file}: name its columns with --columns, or in {FILE} next to it.")
    reader = ColumnReader(file, columns, query, model)
    if file.suffix == ".csv":
        start = 2
        with csv_texts(file, nulls=[""]) as batches:
            for batch in batches:
                yield from reader.batches((range(start, start + batch.num_rows), batch.to_pylist()))
                start += batch.num_rows
    else:
        lines = read_lines(file)
        while held := list(islice(lines, ROWS_AT_ONCE)):
            numbers, content = zip(*held, strict=True)
            yield from reader.batches((numbers, content))
    reader.finish()


@contextmanager
def csv_texts(path: Path, nulls: Sequence[str] = ()) -> Iterator[pacsv.CSVStreamingReader]:
    """The rows of a CSV file in batches; every cell is a text, or null if it is one of `nulls`.

    Raises UserError if it is not CSV, also while it is read.
    """
    parse = pacsv.ParseOptions(newlines_in_values=True)
    try:
        header = pacsv.open_csv(path, parse_options=parse).schema.names
        types = dict.fromkeys(header, pa.string())
        convert = pacsv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=nulls)
        yield pacsv.open_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read as CSV: {error}.") from error


def values_at(rows: Rows, path: str) -> Values:
    """What each of some rows, at least one, has in a column or at a dotted path; ABSENT for nothing."""
    values: Sequence[Any] = rows[1]
    try:
        for name in [path] if path in values[0] else path.split("."):
            values = [value[name] for value in values]
    except (LookupError, TypeError):
        return [_value_at(row, path) for row in rows[1]]
    return list(values)


def _value_at(row: object, path: str) -> Any:
    """The value at a dotted path; a key that itself has dots goes before a nested object."""
    if not isinstance(row, Mapping):
        return ABSENT
    if path in row:
        return row[path]
    first, _, rest = path.partition(".")
    return _value_at(row.get(first), rest) if rest else ABSENT


def paths_in(row: Row, before: str = "") -> Iterator[str]:
    """All dotted paths to values that are not objects."""
    for name, value in row.items():
        if isinstance(value, Mapping) and value:
            yield from paths_in(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _hint(row: Row, path: str) -> str:
    """After what was said of a path that a row does not have: the closest one that it has, or all."""
    known = list(paths_in(row))
    return suggestion(path, known) or f"; it has {', '.join(known[:20]) or 'none'}"


def _taken(rows: Rows, chosen: Sequence[int]) -> Rows:
    numbers, content = rows
    return [numbers[i] for i in chosen], [content[i] for i in chosen]


class ColumnReader:
    """Turns the rows of one file into batches, and remembers what only the whole file tells.

    The model has the name given here where no column has one.
    """

    def __init__(self, file: Path, columns: Columns, query: InputQuery, model: str | None) -> None:
        self._file, self._columns, self._query, self._model = file, columns, query, model
        self._unwanted = {"target", "response"} - query.wanted
        self._found: set[str] = set()  # roles of which a row had a value
        self._filtered: set[str] = set()
        self._first: Row | None = None
        self._labels: dict[str, int] = {}
        self._answered: dict[Group, set[Hashable]] = {}
        self._counts: dict[tuple[Group, Hashable], int] = {}
        self._repeated: str | None = None

    def batches(self, rows: Rows) -> Iterator[SampleBatch]:
        """The samples in some rows, by model and task.

        Raises UserError if a row lacks a value that it needs, or has one that cannot be used.
        """
        self._first = self._first or rows[1][0]
        for path, wanted in (self._query.where or {}).items():
            values = values_at(rows, path) if rows[1] else []
            if any(value is not ABSENT for value in values):
                self._filtered.add(path)
            rows = _taken(rows, [i for i, value in enumerate(values) if as_text(value) == wanted])
        if not rows[1]:
            return
        models, tasks = (self._values(rows, role, NAMES) for role in ("variant", "task"))
        groups: dict[Group, list[int]] = {}
        for i in range(len(rows[1])):
            model = str(models[i]) if models else self._model
            groups.setdefault((model, str(tasks[i]) if tasks else samples.DEFAULT_TASK), []).append(i)
        for group, chosen in groups.items():
            yield self._batch(rows if len(groups) == 1 else _taken(rows, chosen), *group)

    def finish(self) -> None:
        """Check what only the whole file tells.

        Raises UserError if no row has a column that was named, or few items occur more than once.
        """
        if self._first is None:
            raise UserError(f"{self._file} contains no rows.")
        for path in self._query.where or {}:
            if path not in self._filtered:
                raise UserError(f"--where {path}: {self._file} has no such column{_hint(self._first, path)}.")
        for role, path in self._columns.items() if self._found else ():
            if role not in {*self._found, *self._unwanted, "error"}:
                raise UserError(f"No row of {self._file} has {path} ({role}){_hint(self._first, path)}.")
        if 0 < len(self._counts) * 2 < sum(map(len, self._answered.values())):
            raise UserError(
                f"{self._repeated} has an item that occurred before, while most occur once: remove it, or "
                "name the column that distinguishes answers to one item with rerun=COLUMN."
            )

    def _batch(self, rows: Rows, model: str | None, task: str) -> SampleBatch:
        query, prompts, errors = self._query, self._texts(rows, "prompt"), self._values(rows, "error")
        scores = self._values(rows, SCORE) or []
        if errors is not None:
            errors = [_text(error) if error else None for error in errors]
            scores = [None if error else value for value, error in zip(scores, errors, strict=True)]
        self._refuse_others(rows, SCORE, scores, NUMBERS)
        items, temperatures = self._values(rows, "item", NAMES) or [], self._values(rows, "temperature")
        if temperatures is not None:
            temperatures = [None if value is ABSENT else value for value in temperatures]
            self._refuse_others(rows, "temperature", temperatures, NUMBERS)
            temperatures = list(map(as_number, temperatures))
        label = query.cluster_column
        columns = {
            "prompt_hash": None if prompts is None else list(map(query.prompt_hash, prompts)),
            "cluster": list(map(_text, values_at(rows, label))) if label else None,
            "prompt": prompts if "prompt" in query.wanted else None,
            "response": self._texts(rows, "response"),
            "target": self._texts(rows, "target"),
            "error": errors,
        }
        return SampleBatch(
            TaskFacts(task, model),
            items,
            scores={self._columns[SCORE].rpartition(".")[2]: samples.score_column(scores)[0]},
            columns={name: column for name, column in columns.items() if column is not None},
            temperature=None if temperatures is None else np.array(temperatures, dtype=np.float32),
            reruns=self._reruns(rows, (model, task), items, temperatures),
        )

    def _values(self, rows: Rows, role: str, types: set[type] | None = None) -> Values | None:
        """What the rows have in the column of a role; None where it is not named or not wanted.

        Values of other types than those given are refused.
        """
        if role not in self._columns or role in self._unwanted:
            return None
        values = values_at(rows, self._columns[role])
        if role not in self._found and any(value is not ABSENT for value in values):
            self._found.add(role)
        if types is not None:
            self._refuse_others(rows, role, values, types)
        return values

    def _refuse_others(self, rows: Rows, role: str, values: Values, types: set[type]) -> None:
        """Refuse values of other types, naming the first row with one."""
        if set(map(type, values)) <= types:
            return
        path, described = self._columns[role], "a number or a text" if types is NAMES else "a number"
        for i, value in enumerate(values):
            if value is ABSENT:
                raise UserError(f"{self._row(rows, i)} has no {path} ({role}){_hint(rows[1][i], path)}.")
            if type(value) not in types and (types is NAMES or as_number(value) is None):
                said = f"{path} ({role}) is {str(value)[:80]!r}, not {described}."
                raise UserError(f"{self._row(rows, i)}: {said}")

    def _row(self, rows: Rows, i: int) -> str:
        """What to call a row in a sentence."""
        return f"{'Row' if self._file.suffix == '.csv' else 'Line'} {rows[0][i]} of {self._file}"

    def _texts(self, rows: Rows, role: str) -> list[str | None] | None:
        """Texts as they are, other values as JSON; None where a row has none."""
        values = self._values(rows, role)
        if values is None:
            return None
        return [value if type(value) is str else _text(value) for value in values]

    def _reruns(self, rows: Rows, group: Group, items: Values, temperatures: Values | None) -> Ints:
        """A number per row that distinguishes the answers to an item: the column, else their order."""
        values = self._values(rows, "rerun", NAMES)
        if values is not None:
            return np.array(list(map(self._rerun, values)), dtype=np.int64)
        keys = list(zip(items, temperatures, strict=True)) if temperatures else items
        answered = self._answered.setdefault(group, set())
        before = len(answered)
        if answered.isdisjoint(keys):
            answered.update(keys)
            if len(answered) == before + len(keys):
                return np.zeros(len(keys), dtype=np.int64)
            answered.difference_update(keys)
        numbers = []
        for i, key in enumerate(keys):
            count = self._counts.get((group, key), 0) + 1 if key in answered else 0
            if count:
                self._counts[group, key] = count
                self._repeated = self._repeated or self._row(rows, i)
            answered.add(key)
            numbers.append(count)
        return np.array(numbers, dtype=np.int64)

    def _rerun(self, value: str | int) -> int:
        """A seed or an epoch as it is, also if written as text; other labels by order of appearance."""
        text = str(value)
        if text.isdecimal() and int(text) <= LARGEST_SEED:
            return int(text)
        return self._labels.setdefault(text, LARGEST_SEED - len(self._labels))


def _text(value: object) -> str | None:
    return None if value is ABSENT else as_text(value)
