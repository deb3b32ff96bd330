"""Reads score tables: CSV files of many models, tasks, temperatures and reruns, or of one model on one task.

`prompt_id` and `score` must be there; `model`, `task`, `temperature`, `rerun`, `metric`, `higher_is_better`
and `range` may be. Any further column is a label, to cluster by or to filter with. Several rows of one prompt
are its reruns and are averaged; but rows that only a further column tells apart may be other experiments, and
a few repeated ids among many single ones may be a mistake: both are refused, because merging them silently
would change what is tested. So is a score that is not a finite number.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from jobs.formats.input_format import InputFormat, NamedPath
from jobs.formats.metrics import as_number, parse_range
from jobs.formats.names import DEFAULT_TASK, by_data, path_stems
from jobs.formats.notices import some
from jobs.formats.samples import GENERIC, Evaluation, InputQuery, SampleBatch, Stated, TaskFacts, label_codes
from orchestrator.errors import UserError
from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS
from stats.arrays import LARGEST_SCORE, Floats, Ints

ITEM, SCORE, RERUN = "prompt_id", "score", "rerun"
MODEL, TASK, TEMPERATURE = "model", "task", "temperature"
HIGHER, RANGE, METRIC = "higher_is_better", "range", "metric"
ALIASES = {"item": ITEM, "doc_id": ITEM, "variant": MODEL, "seed": RERUN}
KNOWN = {ITEM, SCORE, RERUN, MODEL, TASK, TEMPERATURE, HIGHER, RANGE}
WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}

FEW_LABELS = 50
MOST_COLUMNS = 1_000  # labels are a handful; Arrow takes minutes for 100,000 columns
LARGEST_TABLE = 1 << 30  # bytes
MOST_VALUES = {MODEL: MOST_VARIANTS, TASK: MOST_TASKS, TEMPERATURE: MOST_VARIANTS}

Texts = NDArray[np.object_]


def _tables(path: str) -> list[Path]:
    """A CSV file; what is in it is checked when it is read."""
    return [Path(path)] if Path(path).suffix == ".csv" and Path(path).is_file() else []


def _evaluations(path: NamedPath) -> list[Evaluation]:
    """The table is always a single evaluation."""
    return [Evaluation(path.path, partial(_read, path))]


FORMAT = InputFormat(
    "a score table",
    "score tables (.csv)",
    _tables,
    _evaluations,
    takes_where=True,
    names=partial(by_data, shorten=path_stems),
)


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

    def stated(self, name: str) -> set[str]:
        """What a column says; empty where it is absent or empty."""
        return {text.strip() for text in self.texts.get(name, ())} - {""}

    def at(self, chosen: Ints) -> "ScoreTable":
        """Some of the rows."""
        texts = {name: values[chosen] for name, values in self.texts.items()}
        return ScoreTable(self.path, self.score[chosen], texts, self.rows[chosen])

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


def _read(path: NamedPath, query: InputQuery) -> Iterator[SampleBatch]:
    table = _checked_table(path.path, query.where or {})
    if path.task is not None:
        yield _batch(table, path.model, path.task, query)
        return
    models, tasks = table.column(MODEL, ""), table.column(TASK, DEFAULT_TASK)
    parts: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(models.tolist(), tasks.tolist(), strict=True)):
        parts.setdefault(key, []).append(i)
    for (model, task), chosen in parts.items():
        yield _batch(table.at(np.array(chosen)), model or None, task, query)


def _checked_table(path: str, where: Mapping[str, str]) -> ScoreTable:
    """The rows of a file that `where` keeps.

    Raises:
        UserError: if it is not a CSV file with prompt_id and score, no row matches, or a score is not finite.
    """
    table = _csv_table(path)
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
    texts = {
        name: np.array(table.column(name).to_pylist(), dtype=object)
        for name in table.column_names
        if name != SCORE
    }
    for name, most in MOST_VALUES.items():
        if len(set(texts.get(name, ()))) > most:
            raise UserError(f"{path} has more than {most:,} values in the column {name}.")
    return ScoreTable(path, score, texts, rows)


def _csv_table(path: str) -> pa.Table:
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path} does not exist.")
    if file.stat().st_size > LARGEST_TABLE:
        raise UserError(f"{path} is larger than {LARGEST_TABLE >> 20} MiB: split it, a file a model or task.")
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        try:
            columns = len(next(csv.reader(lines), ()))
        except csv.Error:  # not CSV; Arrow says why
            columns = 0
    if columns > MOST_COLUMNS:
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


def _batch(table: ScoreTable, model: str | None, task: str, query: InputQuery) -> SampleBatch:
    cluster = query.cluster_column
    if cluster:
        table = table.with_labels(cluster)
    items = table.texts[ITEM].tolist()
    named = table.stated(METRIC)
    metric = named.pop() if len(named) == 1 else GENERIC
    columns = {"cluster": table.texts[cluster].tolist()} if cluster else {}
    if query.documents:
        labels = {name: table.texts[name].tolist() for name in table.labels}
        columns["doc"] = [
            {ITEM: item, **dict(zip(labels, values, strict=True))}
            for item, *values in zip(items, *labels.values(), strict=True)
        ]
    return SampleBatch(
        TaskFacts(task, stated={metric: _stated(table, task)}, output_type=None),
        model,
        items,
        scores={metric: table.score},
        columns=columns,
        temperature=_temperatures(table),
        reruns=_reruns(table, cluster),
    )


def _stated(table: ScoreTable, task: str) -> Stated:
    """Direction and range as the columns `higher_is_better` and `range` state them.

    Raises:
        UserError: if a column contradicts itself or cannot be read.
    """
    said: dict[str, str | None] = {}
    for column in (HIGHER, RANGE):
        found = table.stated(column)
        if len(found) > 1:
            values = some(sorted(found))
            raise UserError(
                f"{table.path}: {column} of task {task} has several values ({values}); write one."
            )
        said[column] = found.pop() if found else None
    higher, limits = said[HIGHER], said[RANGE]
    if higher is not None and higher.lower() not in WORDS:
        raise UserError(f"{table.path}: {HIGHER} of task {task} is {higher!r}; write true or false.")
    return Stated(
        None if higher is None else WORDS[higher.lower()],
        None if limits is None else parse_range(limits, f"{table.path}, range of task {task}"),
    )


def _temperatures(table: ScoreTable) -> NDArray[np.float32]:
    texts = table.column(TEMPERATURE, "nan")
    try:
        temperatures: NDArray[np.float32] = texts.astype(np.float32)
    except ValueError as error:
        raise UserError(f"{table.path}: the column temperature must hold numbers: {error}.") from error
    if np.isinf(temperatures).any():
        raise UserError(f"{table.path}: the column temperature must hold finite numbers.")
    return temperatures


def _reruns(table: ScoreTable, cluster: str | None) -> Ints:
    """A number per row that tells a prompt's reruns apart: the column `rerun`, else the order of rows."""
    keys = list(zip(table.texts[ITEM], table.column(TEMPERATURE, ""), strict=True))
    if RERUN in table.texts:
        reruns = label_codes(table.texts[RERUN])
        full = [(*key, rerun) for key, rerun in zip(keys, reruns.tolist(), strict=True)]
        if len(set(full)) < len(full):
            raise UserError(_repeated(table, full, cluster))
        return reruns
    counts: dict[object, int] = {}
    ordinals = []
    for key in keys:
        ordinals.append(counts.get(key, 0))
        counts[key] = ordinals[-1] + 1
    repeated = sum(count > 1 for count in counts.values())
    if repeated and (repeated * 2 < len(counts) or _telling(table, keys, cluster)):
        raise UserError(_repeated(table, keys, cluster))
    return np.array(ordinals, dtype=np.int64)


def _repeated(table: ScoreTable, keys: Sequence[object], cluster: str | None) -> str:
    first = int(np.flatnonzero(np.diff(np.maximum.accumulate(label_codes(keys))) == 0)[0]) + 1
    name = table.texts[ITEM][first]
    said = f"{table.path}: prompt_id {name!r} occurs more than once (row {table.rows[first]})"
    if telling := _telling(table, keys, cluster):
        values = sorted(set(table.texts[telling[0]]))
        return (
            f"{said}, and column {telling[0]} distinguishes the rows: keep one of its values "
            f"({some(values)}) with --where {telling[0]}=VALUE, or rename it to rerun if it numbers reruns."
        )
    return f"{said}, while most occur once: remove the duplicates, or number reruns in a column named rerun."


def _telling(table: ScoreTable, keys: Sequence[object], cluster: str | None) -> list[str]:
    """Label columns with few values that alone make the keys unique."""
    found = []
    for name in table.labels:
        values = table.texts[name]
        few = len(set(values)) <= FEW_LABELS
        if name != cluster and few and len(set(zip(keys, values, strict=True))) == len(keys):
            found.append(name)
    return found
