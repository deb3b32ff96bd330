"""`lldeg logs`: what happened in a sweep, and what its replicas printed."""

import json
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from jobs.commands.options import Run
from jobs.text.format import clean
from orchestrator.errors import UserError
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import EVENTS
from orchestrator.rundir.store import RunStore

SECONDS_BETWEEN_LOOKS = 2.0


def logs(
    run: Run,
    *,
    replica: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Show the output of this replica and its engine.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing until the sweep ends.")
    ] = False,
) -> None:
    """Show the events of a sweep: replicas started, loaded, lost and closed, blocks that failed, and why.

    For example:

        lldeg logs runs/llama3 --follow

        lldeg logs runs/llama3 --replica 3
    """
    store = RunStore(run)
    store.read_manifest()
    names = [EVENTS] if replica is None else store.replica_logs(replica)
    if not names:
        available = ", ".join(store.replica_logs()) or "none"
        raise UserError(f"{store.url} has no log of replica {replica}; available logs: {available}.")
    read = dict.fromkeys(names, 0)
    while True:
        working = follow and is_running(store)
        for name in names:
            while lines := store.read_log_lines(name, read[name]):
                for line in lines.decode(errors="replace").splitlines():
                    typer.echo(_event(line) if name == EVENTS else clean(line))
                read[name] += len(lines)
        if not working:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _event(line: str) -> str:
    """An event as one line for people."""
    try:
        event: dict[str, Any] = json.loads(line)
        moment = datetime.fromtimestamp(event.pop("time")).astimezone().isoformat(" ", "seconds")
        kind, variant, number = event.pop("event"), event.pop("variant", ""), event.pop("replica", None)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
        return clean(line)
    who = f"replica {number} ({variant})" if number is not None else variant
    values = {key: f"{value:.1f}" if isinstance(value, float) else value for key, value in event.items()}
    facts = ", ".join(f"{key} {value}" for key, value in values.items())
    return clean(f"{moment}  {who} {kind}" + (f": {facts}" if facts else ""))
