"""`lldeg stop`: end a running sweep, on whichever machine it runs."""

import time
from typing import Annotated

import typer

from jobs.commands.options import Run
from orchestrator.errors import UserError
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import request_stop
from orchestrator.rundir.store import RunStore


def stop(
    run: Run,
    *,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait until it has stopped.")
    ] = 60.0,
) -> None:
    """Stop the submit that is running in a run directory. Answers are kept; submitting again resumes.

    The request is a file in the run directory, so it works from any machine that can write there.

    Exit status: 0 if no submit is running any more, 2 for usage or input errors or if it did not stop.

    For example:

        lldeg stop runs/llama3

        lldeg stop s3://bucket/runs/llama3 --wait 300
    """
    store = RunStore(run)
    store.read_manifest()
    if not is_running(store):
        typer.echo(f"No submit is running in {run}.")
        return
    request_stop(store)
    until = time.monotonic() + wait
    while is_running(store):
        if time.monotonic() > until:
            raise UserError(
                f"The submit in {run} was asked to stop but is still running after {wait:g} s; "
                f"see: lldeg status {run}"
            )
        time.sleep(0.5)
    typer.echo(f"The submit in {run} has stopped; submit again to resume.")
