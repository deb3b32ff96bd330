"""`lldeg import`: the results of another tool become a run directory."""

from typing import Annotated

import typer

from jobs.analysis.request import PairByOption
from jobs.commands.options import Columns, Where
from jobs.formats.columns import parse_columns
from jobs.formats.key_values import parse_assignments
from jobs.formats.write_run import to_run, write_run
from jobs.scores.score_set import Reading


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
    run = to_run(paths, Reading({}, where=rows, columns=parse_columns(columns), pair_by=pair_by))
    write_run(out, run)
    typer.echo(
        f"{run.samples:,} samples of {len(run.models)} models on {len(run.tasks)} tasks written to {out}"
    )
