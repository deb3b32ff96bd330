"""`lldeg stop`: end a sweep that is at work, wherever it is."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from orchestrator.errors import UserError
from orchestrator.rundir.heartbeat import request_stop
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.store import RunStore


def stop(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run directory, a folder or a URL.", show_default=False)
    ],
    *,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait until it has stopped.")
    ] = 60.0,
) -> None:
    """Stop the submit that is at work in a run; what is answered stays, and submitting again goes on.

    The request is a file in the run directory, so it works from any machine that sees it.

    Exit status: 0 nobody is at work any more, 2 wrong usage or input, or it does not stop.

    Examples:
        lldeg stop runs/llama3

        lldeg stop s3://bucket/runs/llama3 --wait 300
    """
    store = RunStore(run)
    store.read_manifest()
    if not is_running(store):
        typer.echo(f"Nobody is at work in {run}.")
        return
    request_stop(store)
    until = time.monotonic() + wait
    while is_running(store):
        if time.monotonic() > until:
            raise UserError(
                f"{run} was asked to stop and is still at work after {wait:g} s; see: lldeg status {run}"
            )
        time.sleep(0.5)
    typer.echo(f"{run} has stopped; submit again to go on.")
