"""Reads JSON Lines and CSV files whose columns the user named; each file is an evaluation.

A value that is null, or a row with an error, is an answer that is missing or failed, never a wrong one.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from jobs.formats.columns import FILE, Columns, columns_beside
from jobs.formats.samples import Evaluation, Query, SampleBatch
from jobs.scores.columns.rows import ENDINGS, read_rows
from jobs.scores.columns.samples import ColumnReader
from jobs.scores.samples.gather import GatheredTask
from jobs.scores.samples.names import Key, by_data, path_stems
from jobs.scores.samples.source import SampleSource
from jobs.scores.source import NamedPath, Source
from orchestrator.errors import UserError


class NamedColumns(SampleSource):
    """JSON Lines and CSV files with columns that --columns names, or a file next to them."""

    described = "a file with named columns"
    accepted = f"any JSON Lines or CSV file with --columns or {FILE}"
    takes_where = True

    def recognises(self, path: str) -> bool:
        """Whether there are such files, and next to them the one that names their columns."""
        return columns_beside(Path(path)) is not None and bool(data_files(path))

    def evaluations(self, path: NamedPath) -> Sequence[Evaluation]:
        """One per file."""
        files, columns = data_files(path.path), path.columns or columns_beside(Path(path.path))
        if columns is None:
            raise UserError(f"{path.path}: name its columns with --columns, or in {FILE} next to it.")
        return [
            Evaluation(str(file), partial(_read, file, columns, file.stem if len(files) > 1 else None))
            for file in files
        ]

    def model_names(self, tasks: Mapping[str, GatheredTask], paths: Sequence[str]) -> dict[Key, str]:
        """As the data state them, else as their files are called."""
        return by_data(tasks, path_stems(paths))


SOURCE: Source = NamedColumns()


def data_files(path: str) -> list[Path]:
    """The JSON Lines and CSV files at a path: the file itself, or those directly in a folder; sorted."""
    given = Path(path)
    files = sorted(given.iterdir()) if given.is_dir() else [given]
    return [file for file in files if file.suffix in ENDINGS and file.is_file()]


def _read(file: Path, columns: Columns, model: str | None, query: Query) -> Iterator[SampleBatch]:
    reader = ColumnReader(columns, query, model)
    for rows in read_rows(file):
        yield from reader.batches(rows)
    reader.finish(file)
