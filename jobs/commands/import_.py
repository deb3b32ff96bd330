"""`lldeg import`: the results of another tool become a run directory."""

from typing import Annotated

import typer

from jobs.analysis.request import PairByOption
from jobs.commands.options import Columns, Where
from jobs.formats.columns import parse_columns
from jobs.formats.metrics import parse_assignments
from jobs.formats.samples import InputQuery
from jobs.formats.write_run import read_logs, write_run
from orchestrator.errors import counted


def import_(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Results of another tool, in any format that `lldeg analyze` reads."
        ),
    ],
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="The run directory to create.")],
    where: Where = None,
    columns: Columns = None,
    pair_by: PairByOption = None,
) -> None:
    """Convert the results of another tool into a run directory.

    The first model becomes the baseline of the run.

    For example:

        lldeg import results/bf16 results/int4 --out runs/imported
    """
    rows = parse_assignments("--where", where or [])
    query = InputQuery(where=rows, columns=parse_columns(columns), pair_by=pair_by)
    models, tasks = read_logs(paths, query)
    samples = write_run(out, models, tasks)
    of = f"{counted(len(models), 'model')} on {counted(len(tasks), 'task')}"
    typer.echo(f"{counted(samples, 'sample')} of {of} written to {out}")
