"""A whole run as two Arrow tables: its samples, and its items."""

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.inputs.run_directory.files import RunFiles
from orchestrator.errors import UserError
from orchestrator.rundir.schema import ITEMS

MODEL_AND_TASK = ("variant", "task")


def samples_table(run: RunFiles) -> pa.Table:
    """All samples, each with its variant and its task.

    Raises:
        UserError: a file cannot be read.
    """
    tables = [
        _read(run, path, variant, task)
        for variant in run.models
        for task in run.tasks
        for path in run.samples(variant, task)
    ]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in MODEL_AND_TASK})
    return pa.concat_tables(tables, promote_options="permissive")


def cell_table(run: RunFiles, variant: str, task: str) -> pa.Table | None:
    """The samples of one variant on one task; None if there are none.

    Raises:
        UserError: a file cannot be read.
    """
    tables = [_read(run, path, variant, task) for path in run.samples(variant, task)]
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def items_table(run: RunFiles) -> pa.Table:
    """The items of all tasks.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    tables = [run.items(task, ITEMS.names) for task in run.tasks]
    return pa.concat_tables(tables, promote_options="permissive") if tables else ITEMS.empty_table()


def _read(run: RunFiles, path: str, variant: str, task: str) -> pa.Table:
    try:
        table = pq.read_table(path, filesystem=run.filesystem, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove it, and submit the sweep again to replace its samples."
        ) from None
    labels = [pa.array([label] * table.num_rows, pa.string()) for label in (variant, task)]
    for position, (name, label) in enumerate(zip(MODEL_AND_TASK, labels, strict=True)):
        table = table.add_column(position, name, label)
    return table
