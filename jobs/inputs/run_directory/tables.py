"""A whole run as two Arrow tables: its samples, and its items."""

from collections.abc import Iterator

import pyarrow as pa

from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.run_directory.scan import read_files, refuse_damaged
from orchestrator.rundir.schema import ITEMS

MODEL_AND_TASK = ("variant", "task")


def samples_table(run: RunFiles) -> pa.Table:
    """All samples, each with its variant and its task.

    Raises:
        UserError: a file cannot be read.
    """
    tables = [table for v in run.models for task in run.tasks for table in _labelled(run, v, task)]
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in MODEL_AND_TASK})
    return pa.concat_tables(tables, promote_options="permissive")


def cell_table(run: RunFiles, variant: str, task: str) -> pa.Table | None:
    """The samples of one variant on one task; None if there are none.

    Raises:
        UserError: a file cannot be read.
    """
    tables = list(_labelled(run, variant, task))
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def items_table(run: RunFiles) -> pa.Table:
    """The items of all tasks.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    tables = [run.items(task, ITEMS.names) for task in run.tasks]
    return pa.concat_tables(tables, promote_options="permissive") if tables else ITEMS.empty_table()


def _labelled(run: RunFiles, variant: str, task: str) -> Iterator[pa.Table]:
    damaged = []
    for path, table in read_files(run, run.samples(variant, task)):
        if table is None:
            damaged.append(path)
            continue
        labelled = table.replace_schema_metadata()
        for position, (name, label) in enumerate(zip(MODEL_AND_TASK, (variant, task), strict=True)):
            labels = pa.array([label] * table.num_rows, pa.string())
            labelled = labelled.add_column(position, name, labels)
        yield labelled
    refuse_damaged(damaged)
