"""What the footer of a sample file says without a row being read: how many, which items, how many errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.inputs.run_directory.files import RunFiles
from orchestrator.rundir.sample_files import open_whole

ANY = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Footer:
    """A sample file.

    Attributes:
        path: where it is.
        rows: how many samples it holds.
        errors: of these, how many are errors.
        first, last: its least and greatest item; everything where the writer kept no statistics.
    """

    path: str
    rows: int
    errors: int
    first: int
    last: int


def read_footer(run: RunFiles, path: str) -> Footer | None:
    """Read the footer of a sample file; None if the file is torn or damaged."""
    file = open_whole(run.filesystem, path)
    if file is None:
        return None
    metadata = file.metadata
    items = _statistics(metadata, "item")
    errors = _statistics(metadata, "error")
    known = all(group is not None and group.has_min_max for group in items)
    return Footer(
        path,
        rows=metadata.num_rows,
        errors=sum(group.num_values for group in errors if group is not None),
        first=min((group.min for group in items), default=0) if known else 0,
        last=max((group.max for group in items), default=-1) if known else ANY,
    )


def text_range(metadata: Any, column: str) -> tuple[str, str] | None:
    """The least and the greatest text of a column; None without any, or if the writer kept no statistics."""
    known = [group for group in _statistics(metadata, column) if group is None or group.num_values]
    if not known or not all(group is not None and group.has_min_max for group in known):
        return None
    return min(group.min for group in known), max(group.max for group in known)


def _statistics(metadata: Any, column: str) -> list[Any]:
    """Statistics of a top-level column in every row group; None where the writer kept none."""
    number = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), None)
    if number is None:
        return []
    return [metadata.row_group(i).column(number).statistics for i in range(metadata.num_row_groups)]
