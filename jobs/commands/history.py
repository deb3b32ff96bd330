"""`lldeg history`: has a model or an endpoint become worse over the dates of a folder of runs?"""

from typing import Annotated

import typer
from typer import Argument, Option

from jobs.analysis.request import AtTemperature, Cluster
from jobs.commands.options import Metric, TableOrJson
from jobs.formats.metrics import parse_assignments
from jobs.formats.samples import InputQuery
from jobs.text.terminal import terminal


def history(
    folder: Annotated[str, Argument(metavar="FOLDER", help="Folder with a run directory for each date.")],
    *,
    reference: Annotated[
        str | None,
        Option(
            metavar="RUN",
            help="Run whose baseline is the reference on every date; default: the baseline of each run, or "
            "the first date where runs hold a single model.",
        ),
    ] = None,
    out: Annotated[str | None, Option(metavar="DIR", help="Output folder; default: FOLDER/analysis.")] = None,
    alpha: Annotated[
        float, Option(metavar="A", min=1e-12, max=0.5, help="Probability of any false alarm, ever.")
    ] = 0.05,
    temperature: AtTemperature = None,
    metric: Metric = None,
    cluster: Cluster = None,
    format_: TableOrJson = "table",
) -> None:
    """Track a model over time and alert when it degrades; the false alarm rate holds however often you look.

    The date of a run is the one in the name of its folder, else that of its first event. Writes history.json
    and history.svg.

    Exit status: 0 without an alarm, 1 with one, 2 for usage or input errors, 3 if the newest run could not be
    compared.

    For example:

        lldeg history runs/daily

        lldeg history s3://bucket/daily --reference runs/reference
    """
    from jobs.history import follow, history_files, print_history  # noqa: PLC0415 - --help need not wait
    from jobs.text.outputs import json_text  # noqa: PLC0415

    reading = InputQuery(parse_assignments("--metric", metric or []), cluster)
    target = out or f"{folder.rstrip('/')}/analysis"
    history_files(target).remove()  # what fails from here on must not leave the alarm of another day
    found = follow(folder, reading, reference=reference, alpha=alpha, temperature=temperature)
    found.write(target)
    if format_ == "json":
        typer.echo(json_text(found.entry), nl=False)
    else:
        print_history(found, terminal())
    for warning in found.warnings:
        typer.echo(f"Warning: {warning}", err=format_ == "json")
    typer.echo(f"Written to {target}", err=format_ == "json")
    if not found.measured:
        typer.echo(f"The newest run, {found.newest}, could not be compared.", err=True)
    raise typer.Exit(found.exit_status)
