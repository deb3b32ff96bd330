"""Reads sample files: the columns that are needed, in large pieces, or only what their footers say.

Files that are damaged are named. Counting by footers shows the progress of a sweep on another machine, too.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from posixpath import dirname
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.formats.notices import NoticeCode, some
from jobs.formats.run_files import RunFiles
from orchestrator.engines.base import CUT
from orchestrator.errors import AnswerWithheldError, UserError
from orchestrator.rundir.progress import read_status
from orchestrator.rundir.sample_files import open_whole, read_whole, readers
from orchestrator.rundir.schema import ITEMS, SOFTWARE_KEY

ROWS_PER_PIECE = 1 << 17
PLACE, RESPONSE = ("item", "temperature", "seed"), "response"
MARKS: dict[NoticeCode, tuple[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]] = {
    NoticeCode.CUT_ANSWERS: ("finish_reason", lambda reasons: pc.equal(reasons, CUT)),
    NoticeCode.CUT_PROMPTS: ("prompt_cut", lambda tokens: pc.greater(tokens, 0)),
    NoticeCode.EMPTY_ANSWERS: (
        RESPONSE,
        lambda texts: pc.equal(pc.utf8_trim_whitespace(texts.cast(pa.string())), ""),
    ),
    NoticeCode.WITHHELD_ANSWERS: (
        "error",
        lambda errors: pc.starts_with(errors.cast(pa.string()), f"{AnswerWithheldError.__name__}:"),
    ),
}
"""What is noted of an answer: the column that tells, which older files may lack, and when it does."""


def read_files(
    run: RunFiles,
    files: Sequence[str],
    columns: Sequence[str] | Callable[[str, Any], Sequence[str]] | None = None,
    texts: Sequence[str] = (),
) -> Iterator[tuple[str, pa.Table | None]]:
    """Columns of files of samples, as `read_whole` gives them, in their order; None for a damaged file.

    What chooses columns gets path and footer of a file.

    Raises:
        OSError: if the storage fails.
    """
    at_once = readers(run.filesystem)
    with ThreadPoolExecutor(at_once) as pool:
        for start in range(0, len(files), at_once):  # so that no more than these are held
            paths = files[start : start + at_once]
            wanted = [partial(columns, path) if callable(columns) else columns for path in paths]
            tables = pool.map(partial(read_whole, run.filesystem, texts=texts), paths, wanted)
            yield from zip(paths, tables, strict=True)


def refuse_damaged(files: Sequence[str]) -> None:
    """End where an answer that is left out would be taken for one that never was.

    Raises:
        UserError: if there are damaged files; it names them.
    """
    if files:
        raise UserError(
            f"These sample files are torn or damaged: {some(files)}. Submit the sweep again to replace their "
            "samples."
        )


def scan(
    run: RunFiles, files: Sequence[str], metric: str, text: str, damaged: list[str]
) -> Iterator[pa.Table]:
    """Read samples, in pieces of many files.

    Args:
        run: the run directory.
        files: paths of its sample files.
        metric: key of the metric.
        text: a column of texts, "prompt_hash" or "response"; it comes dictionary-encoded.
        damaged: gets the paths of the files that are torn or damaged; nothing of them is read.

    Yields:
        Tables with the columns item, temperature, seed, score, `text`, unscored (whether it is an answer
        without an error that has no such score), and one for each of `MARKS`: whether it holds of the answer,
        null where that is unknown.

    Raises:
        UserError: if no file has the metric.
        OSError: if the storage fails.
    """
    needed, has_metric = {*PLACE, text}, False
    read = [*needed, "error", f"scores.{metric}", "finish_reason", "prompt_cut"]

    def choose(path: str, footer: Any) -> list[str]:
        """Without the answers, if what is known of them tells that none is blank.

        Nor with those of other tools, some of which keep no text of an answer that was a call of a tool.
        """
        if run.manifest.get("imported"):
            return read
        answers = run.texts[path] = text_range(footer, RESPONSE)
        return read if answers is not None and answers[0].strip() else list({*read, RESPONSE})

    held: list[pa.Table] = []
    for path, table in read_files(run, files, choose, [text]):
        if table is None or not needed <= set(table.column_names):
            damaged.append(path)
        elif table.num_rows:
            items = table["item"].to_numpy()
            run.spans[path] = int(items.min()), int(items.max())
            held.append(piece := _projected(table, metric, text))
            if piece["score"].null_count < table.num_rows:
                writer = (table.schema.metadata or {}).get(SOFTWARE_KEY)
                run.writers[path] = None if writer is None else writer.decode(errors="replace")
            has_metric |= "scores" in table.column_names
        if sum(piece.num_rows for piece in held) >= ROWS_PER_PIECE:
            yield _joined(held)
            held = []
    if run.spans.keys() & set(files) and not has_metric:
        raise UserError(f"No file in {dirname(files[0])} has the metric {metric!r}.")
    if held:
        yield _joined(held)


def _projected(table: pa.Table, metric: str, text: str) -> pa.Table:
    """The columns that `scan` yields; what the file does not have is null."""
    columns = {name: table[name] for name in (*PLACE, text)}
    there, rows = table.column_names, table.num_rows
    has_metric = "scores" in there
    columns["score"] = (
        pc.struct_field(table["scores"], [metric]) if has_metric else pa.nulls(rows, pa.float64())
    )
    failed = pc.is_valid(table["error"]) if "error" in there else pa.nulls(rows, pa.bool_())
    unknown = pc.is_null(columns["score"], nan_is_null=True)
    columns["unscored"] = pc.and_not(unknown, pc.fill_null(failed, False))
    for code, (column, holds) in MARKS.items():
        columns[code] = holds(table[column]) if column in there else pa.nulls(rows, pa.bool_())
    return pa.table(columns)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()


def text_range(metadata: Any, column: str) -> tuple[str, str] | None:
    """The least and the greatest text of a column; None without any, or if the writer kept no statistics."""
    known = [group for group in statistics(metadata, column) if group is None or group.num_values]
    if not known or not all(group is not None and group.has_min_max for group in known):
        return None
    return min(group.min for group in known), max(group.max for group in known)


def statistics(metadata: Any, column: str) -> list[Any]:
    """Statistics of a top-level column in every row group; None where the writer kept none."""
    number = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), None)
    if number is None:
        return []
    return [metadata.row_group(i).column(number).statistics for i in range(metadata.num_row_groups)]


def samples_table(run: RunFiles, cells: Iterable[tuple[str, str]] | None = None) -> pa.Table:
    """Samples, each with its variant and its task, of some pairs of both or of all.

    Raises:
        UserError: a file cannot be read.
    """
    tables, damaged = [], []
    for variant, task in itertools.product(run.models, run.tasks) if cells is None else cells:
        for path, table in read_files(run, run.samples(variant, task)):
            if table is None:
                damaged.append(path)
                continue
            labels = [pa.array([label] * table.num_rows, pa.string()) for label in (variant, task)]
            names = ["variant", "task", *table.column_names]
            tables.append(pa.Table.from_arrays([*labels, *table.columns], names=names))
        refuse_damaged(damaged)
    if not tables:
        return pa.schema({"variant": pa.string(), "task": pa.string()}).empty_table()
    return pa.concat_tables(tables, promote_options="permissive")


def items_table(run: RunFiles) -> pa.Table:
    """The items of all tasks.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    tables = [run.items(task, ITEMS.names) for task in run.tasks]
    return pa.concat_tables(tables, promote_options="permissive") if tables else ITEMS.empty_table()


@dataclass(frozen=True)
class Count:
    """Samples of a variant, or of a run.

    Attributes:
        planned: what the sweep asked for.
        done: rows that are there.
        errors: of these, rows with an error instead of an answer.
        not_needed: samples that are not there because their comparison was decided, by the last heartbeat.
        damaged: sample files that are torn or damaged; nothing in them is there.
    """

    planned: int
    done: int
    errors: int
    not_needed: int = 0
    damaged: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """Samples that are there or still to come."""
        return self.planned - self.not_needed

    @staticmethod
    def total(counts: Iterable["Count"]) -> "Count":
        """All of them together."""
        listed = list(counts)
        names = ("planned", "done", "errors", "not_needed")
        sums = {name: sum(getattr(count, name) for count in listed) for name in names}
        return Count(**sums, damaged=tuple(path for count in listed for path in count.damaged))


class Footers:
    """What the footers of sample files say, each read once: a finished block is never changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int] | None] = {}

    def count(self, run: RunFiles) -> dict[str, Count]:
        """Samples by variant."""
        asked = sum(int(entry["items"]) * len(entry["reruns"]) for entry in run.tasks.values())
        told = read_status(run.store).variants
        counts = {}
        for variant in run.models:
            paths = [path for task in run.tasks for path in run.samples(variant, task)]
            unknown = [path for path in paths if path not in self._known]
            with ThreadPoolExecutor(readers(run.filesystem)) as pool:
                self._known.update(zip(unknown, pool.map(partial(_rows, run), unknown), strict=True))
            known = [rows for path in paths if (rows := self._known[path]) is not None]
            done, errors = sum(rows for rows, _ in known), sum(failed for _, failed in known)
            planned = max(asked, done)  # an imported run asks for nothing
            not_needed = min(told[variant].not_needed if variant in told else 0, planned - done)
            damaged = tuple(path for path in paths if self._known[path] is None)
            counts[variant] = Count(planned, done, errors, not_needed, damaged)
        return counts


def _rows(run: RunFiles, path: str) -> tuple[int, int] | None:
    """Rows of a file, and those that are errors, by its footer alone; None if it is torn or damaged."""
    file = open_whole(run.filesystem, path)
    if file is None:
        return None
    errors = sum(group.num_values for group in statistics(file.metadata, "error") if group is not None)
    return file.metadata.num_rows, errors
