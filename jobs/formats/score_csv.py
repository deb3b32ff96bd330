"""Reads score tables: CSV files of many models, tasks, temperatures and reruns, or of one model on one task.

`prompt_id` and `score` must be there; `model`, `task`, `temperature`, `rerun`, `metric`, `higher_is_better`
and `range` may be. Any further column is a label, to cluster by or to filter with. Several rows of one prompt
are its reruns and are averaged; but rows that only a further column tells apart may be other experiments, and
a few repeated ids among many single ones may be a mistake: both are refused, because merging them silently
would change what is tested. So is a score that is not a finite number.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.formats import samples
from jobs.formats.metrics import GENERIC, as_number, parse_range
from jobs.formats.named_columns import csv_texts
from jobs.formats.names import by_data, path_stems
from jobs.formats.notices import some
from jobs.formats.samples import Evaluation, InputFormat, InputQuery, SampleBatch, Stated, TaskFacts
from orchestrator.errors import UserError
from orchestrator.input_files import MOST_TASKS, MOST_VARIANTS
from stats.arrays import LARGEST_SCORE, Floats, Ints

ITEM, SCORE, RERUN = "prompt_id", "score", "rerun"
MODEL, TASK, TEMPERATURE = "model", "task", "temperature"
HIGHER, RANGE, METRIC = "higher_is_better", "range", "metric"
ALIASES = {"item": ITEM, "doc_id": ITEM, "variant": MODEL, "seed": RERUN}
KNOWN = {ITEM, SCORE, RERUN, MODEL, TASK, TEMPERATURE, HIGHER, RANGE}
MIXED = "several metrics"  # of a task: its scores have no common direction
WORDS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}

FEW_LABELS = 50
MOST_COLUMNS = 1_000  # labels are a handful; Arrow takes minutes for 100,000 columns
LARGEST_TABLE = 1 << 30  # bytes
MOST_VALUES = {MODEL: MOST_VARIANTS, TASK: MOST_TASKS, TEMPERATURE: MOST_VARIANTS}


def _evaluations(path: str, task: str | None = None) -> list[Evaluation]:
    return [Evaluation(path, partial(_read, path, task))]


FORMAT = InputFormat(
    "a score table",
    "score tables (.csv)",
    lambda path: [path] if Path(path).suffix == ".csv" and Path(path).is_file() else [],
    _evaluations,
    of_task=_evaluations,
    takes_where=True,
    names=partial(by_data, shorten=path_stems),
)


def _read(path: str, whole: str | None, query: InputQuery) -> Iterator[SampleBatch]:
    """All of it as the samples of one task where a listing says so, else by its columns."""
    table = _checked_table(path, query.where or {})
    if whole is not None:
        yield table.batch(None, whole, query)
        return
    models, tasks = table.column(MODEL, ""), table.column(TASK, samples.DEFAULT_TASK)
    parts: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(models.tolist(), tasks.tolist(), strict=True)):
        parts.setdefault(key, []).append(i)
    for (model, task), chosen in parts.items():
        yield table.at(np.array(chosen)).batch(model or None, task, query)


def _checked_table(path: str, where: Mapping[str, str]) -> "ScoreTable":
    """The rows of a file that `where` keeps."""
    table = _csv_table(path)
    has = f"its columns are {some(table.column_names, 20)}."
    for needed in (ITEM, SCORE):
        if needed not in table.column_names:
            name = "Name yours with --columns, as in --columns item=id,score=correct."
            raise UserError(f"{path} has no column {needed}; {has} {name}")
    rows = np.arange(2, table.num_rows + 2)
    for name, value in where.items():
        if name not in table.column_names:
            raise UserError(f"--where {name}: {path} has no such column; {has}")
        keep = pc.equal(table.column(name), value)
        table, rows = table.filter(keep), rows[keep.to_numpy()]
    if not table.num_rows:
        raise UserError(
            f"{path} has no rows{' that match --where' if where else ''}: there is nothing to compare."
        )
    column = table.column(SCORE)
    try:
        scores: Floats = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = [as_number(text) for text in column.to_pylist()]
        scores = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(scores) <= LARGEST_SCORE))
    if bad.size:
        raise UserError(
            f"{path}: {bad.size} scores are not finite numbers of a sensible size (up to {LARGEST_SCORE:g}); "
            f"the first is {column[int(bad[0])].as_py()!r} in row {rows[bad[0]]}."
        )
    texts = {
        name: np.array(table.column(name).to_pylist(), dtype=object)
        for name in table.column_names
        if name != SCORE
    }
    for name, most in MOST_VALUES.items():
        if len(set(texts.get(name, ()))) > most:
            raise UserError(f"{path} has more than {most:,} values in the column {name}.")
    return ScoreTable(path, scores, texts, rows)


def _csv_table(path: str) -> pa.Table:
    file = Path(path)
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
    with csv_texts(file) as batches:
        table = batches.read_all()
    names = [name.strip() for name in table.column_names]
    renamed = [ALIASES.get(name, name) if ALIASES.get(name) not in names else name for name in names]
    if len(set(renamed)) < len(renamed):
        raise UserError(f"{path} has two columns with the same name; its columns are {some(names, 20)}.")
    return table.rename_columns(renamed)


class ScoreTable:
    """The rows of one file: finite scores, every other column as texts, and their numbers in the file."""

    def __init__(self, path: str, scores: Floats, texts: dict[str, NDArray[np.object_]], rows: Ints) -> None:
        self._path, self._scores, self._texts, self._rows = path, scores, texts, rows

    def column(self, name: str, default: str) -> NDArray[np.object_]:
        """A column, or the default in every row where there is none."""
        texts = self._texts.get(name)
        return np.full(self._scores.size, default, dtype=object) if texts is None else texts

    def at(self, chosen: Ints) -> "ScoreTable":
        """Some of the rows."""
        texts = {name: values[chosen] for name, values in self._texts.items()}
        return ScoreTable(self._path, self._scores[chosen], texts, self._rows[chosen])

    def batch(self, model: str | None, task: str, query: InputQuery) -> SampleBatch:
        """All rows, as samples of one model and task.

        Raises UserError if a column contradicts itself or cannot be read, or rows may be other experiments.
        """
        items, cluster = self._texts[ITEM].tolist(), query.cluster_column
        columns: dict[str, Sequence[object]] = {"cluster": self._labels(cluster)} if cluster else {}
        if query.documents:
            names = [ITEM, *(name for name in self._texts if name not in KNOWN)]
            rows = zip(*(self._texts[name].tolist() for name in names), strict=True)
            columns["doc"] = [dict(zip(names, row, strict=True)) for row in rows]
        metric, stated = self._stated(task)
        try:
            temperatures = self.column(TEMPERATURE, "nan").astype(np.float32)
        except ValueError as error:
            raise UserError(f"{self._path}: the column temperature must hold numbers: {error}.") from error
        if np.isinf(temperatures).any():
            raise UserError(f"{self._path}: the column temperature must hold finite numbers.")
        return SampleBatch(
            TaskFacts(task, model, stated={metric: stated}, output_type=None),
            items,
            scores={metric: self._scores},
            columns=columns,
            temperature=temperatures,
            reruns=self._reruns(cluster),
        )

    def _labels(self, name: str) -> list[str]:
        """A column to cluster by, or the text before the separator of "COLUMN:SEPARATOR" (`prompt_id:|`)."""
        column, _, separator = name.partition(":")
        column = ALIASES.get(column, column)
        if name in self._texts:
            return self._texts[name].tolist()
        if column not in self._texts or not separator:
            raise UserError(
                f"--cluster {name}: {self._path} has no such column; it has {some(list(self._texts), 20)}. "
                "To cluster by the text before a character, write COLUMN:CHARACTER."
            )
        return [text.split(separator)[0] for text in self._texts[column]]

    def _stated(self, task: str) -> tuple[str, Stated]:
        """Metric, direction and range as their columns state them."""
        said = dict.fromkeys((METRIC, HIGHER, RANGE), "")
        for column in said:
            values = sorted({text.strip() for text in self._texts.get(column, ())} - {""})
            if len(values) > 1 and column != METRIC:
                raise UserError(
                    f"{self._path}: {column} of task {task} has several values ({some(values)}); write one."
                )
            said[column] = (values or [""])[0] if len(values) < 2 else MIXED
        metric, higher, limits = said.values()
        if higher and higher.lower() not in WORDS:
            raise UserError(f"{self._path}: {HIGHER} of task {task} is {higher!r}; write true or false.")
        bounds = parse_range(limits, f"{self._path}, range of task {task}") if limits else None
        return metric or GENERIC, Stated(WORDS.get(higher.lower()), bounds)

    def _reruns(self, cluster: str | None) -> Ints:
        """A number per row that tells a prompt's reruns apart: the column `rerun`, else the order of rows."""
        keys: list[object] = list(zip(self._texts[ITEM], self.column(TEMPERATURE, ""), strict=True))
        if RERUN in self._texts:
            reruns = samples.label_codes(self._texts[RERUN])
            keys = list(zip(keys, reruns.tolist(), strict=True))
            is_sound = len(set(keys)) == len(keys)
        else:
            counts, ordinals = dict[object, int](), list[int]()
            for key in keys:
                counts[key] = counts.get(key, -1) + 1
                ordinals.append(counts[key])
            reruns, repeated = np.array(ordinals, dtype=np.int64), sum(map(bool, counts.values()))
            is_sound = not repeated or (repeated * 2 >= len(counts) and not self._telling(keys, cluster))
        if is_sound:
            return reruns
        first = int(np.flatnonzero(np.diff(np.maximum.accumulate(samples.label_codes(keys))) == 0)[0]) + 1
        name, row = self._texts[ITEM][first], self._rows[first]
        said = f"{self._path}: prompt_id {name!r} occurs more than once (row {row})"
        if (column := self._telling(keys, cluster)) is None:
            hint = "remove the duplicates, or number reruns in a column named rerun"
            raise UserError(f"{said}, while most occur once: {hint}.")
        values = some(sorted(set(self._texts[column])))
        raise UserError(
            f"{said}, and column {column} distinguishes the rows: keep one of its values ({values}) with "
            f"--where {column}=VALUE, or rename it to rerun if it numbers reruns."
        )

    def _telling(self, keys: Sequence[object], cluster: str | None) -> str | None:
        """The first label with few values that alone makes the keys unique."""
        for name, values in self._texts.items():
            few = name not in {*KNOWN, cluster} and len(set(values)) <= FEW_LABELS
            if few and len(set(zip(keys, values, strict=True))) == len(keys):
                return name
        return None
