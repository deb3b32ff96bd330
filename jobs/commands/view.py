"""`lldeg view`: the report of a run in a browser, with all its flips and the progress of a running sweep."""

import socket
from typing import Annotated

import typer

from jobs.analysis.request import AnalyzeRequest, PairByOption
from jobs.commands.options import Columns, Higher, Lower, Margin, Range
from jobs.formats.columns import parse_columns
from jobs.formats.samples import InputQuery
from jobs.formats.write_run import as_runs
from jobs.scores.scales import scale_options
from orchestrator.errors import UserError

HOST = "127.0.0.1"
PORT = 8737


def view(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Runs, folders of runs, or results of other tools."),
    ],
    *,
    port: Annotated[int, typer.Option(metavar="PORT", help="Port on 127.0.0.1; 0 picks a free one.")] = PORT,
    margin: Margin = None,
    higher: Higher = None,
    lower: Lower = None,
    range_: Range = None,
    columns: Columns = None,
    pair_by: PairByOption = None,
) -> None:
    """Show runs in a browser: verdicts, plots, every answer that changed, and progress.

    The server is reachable only from this machine; Ctrl-C stops it. Reloading the page of a run that has
    grown analyzes it again.

    For example:

        lldeg view runs/quickstart

        lldeg view runs --port 9000

        lldeg view base.eval int4.eval
    """
    import uvicorn  # noqa: PLC0415 - the other commands start faster without a server

    from jobs.report.server import Catalog, application  # noqa: PLC0415 - the same

    share, scales = scale_options(higher, lower, range_, margin)
    query = InputQuery(columns=parse_columns(columns), pair_by=pair_by)
    with as_runs(paths, query) as runs, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except (OSError, OverflowError) as error:
            raise UserError(
                f"Port {port} cannot be used: {error}. Choose another with --port, or 0 for a free one."
            ) from None
        catalog = Catalog(runs, AnalyzeRequest(scales=scales, margin=share))
        typer.echo(f"http://{HOST}:{listener.getsockname()[1]}/ (Ctrl-C stops)")
        config = uvicorn.Config(application(catalog), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])
