"""`lldeg export`: a run in the format of another tool."""

from typing import Annotated

import typer

from jobs.export import Target
from orchestrator.errors import counted


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path or a URL.")],
    *,
    to: Annotated[Target, typer.Option("--to", help="Format.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder for the files; it must be new or empty.")],
) -> None:
    """Write the samples of a run as files that other tools read.

    lm-eval: for every variant and temperature a folder as of `lm_eval --log_samples`, with an evaluation for
    each seed. every-eval-ever: data/lldeg/RUN/VARIANT/, an aggregate and a sample file for each temperature
    and seed, by the metric that `lldeg analyze` tests. Samples that failed are left out.

    For example:

        lldeg export runs/quickstart --to lm-eval --out exported

        lldeg export runs/quickstart --to every-eval-ever --out exported
    """
    from jobs.export.export_run import export_run  # noqa: PLC0415 - --help need not wait for it

    done = export_run(run, to, out)
    typer.echo(f"{counted(done.files, 'file')} with {counted(done.rows, 'row')} written to {done.out}")
