"""`lldeg status`: how far a sweep is, from its run directory alone."""

import json
import time
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from jobs.commands.options import Run, TableOrJson
from jobs.exit_status import INCOMPLETE
from jobs.formats.notices import some
from jobs.submit.progress import run_status, standing_text, tally, time_left
from jobs.text.format import clean, problem_text
from jobs.text.terminal import fitting, terminal
from orchestrator.rundir.progress import Standing

SECONDS_UNTIL_MISSED = 15  # a submit writes a heartbeat every three


def status(run: Run, *, format_: TableOrJson = "table") -> None:
    """Show the progress of a sweep: samples done, missing and failed, rates, time left, replicas.

    Works from any machine that can read the run directory, during the sweep and afterwards.

    Exit status: 0 if the sweep is complete or running, 2 for usage or input errors, 3 if samples are missing
    and no submit is running.

    For example:

        lldeg status runs/llama3

        lldeg status s3://bucket/runs/llama3 --format json
    """
    facts = run_status(run)
    if format_ == "json":
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts, terminal())
    if facts["state"] == "incomplete":
        raise typer.Exit(INCOMPLETE)


def _show(facts: dict[str, Any], console: Console) -> None:
    variants = facts["variants"].items()
    not_needed = sum(entry["not_needed"] for _, entry in variants)
    counts = tally(facts["done"], facts["planned"], not_needed)
    console.print(Text(f"{facts['run']}: {facts['state']}, {counts}{time_left(facts['seconds_left'])}"))
    counted = ["done", "missing", *(["not_needed"] if not_needed else []), "errors"]
    rows = []
    for name, entry in variants:
        rates = [f"{entry['samples_per_second']:.1f}", f"{entry['tokens_per_second']:.0f}"]
        row = [clean(name), *(f"{entry[key]:,}" for key in counted)]
        rows.append([*row, *(rates if entry["loads"] else ("", "")), str(entry["replicas"])])
    header = ["variant", *(key.replace("_", " ") for key in counted), "samples/s", "tokens/s", "replicas"]
    console.print(fitting(header, rows, console.width))
    looks = [(name, Standing.model_validate(look)) for name, entry in variants for look in entry["looks"]]
    lines = [f"{name}, last look: {standing_text(look)}" for name, look in looks]
    for replica in facts["replicas"]:
        where = f" on node {replica['node'][:8]}" if replica["node"] else ""
        place = f"replica {replica['number']}, {replica['variant']}: {replica['state']}{where}"
        lines.append(f"{place}, {replica['samples']:,} samples")
    for line in (*lines, *_remarks(facts)):
        console.print(Text(clean(line)))


def _remarks(facts: dict[str, Any]) -> Iterator[str]:
    for name, entry in facts["variants"].items():
        if entry["refusal"]:
            yield f"{name} cannot be run: {entry['refusal']}"
    if facts["damaged"]:
        yield f"Torn or damaged sample files, whose samples are missing: {some(facts['damaged'])}."
    for note in facts["notes"]:
        yield f"Note: {note}"
    if facts["problem"]:
        yield problem_text(facts["problem"])
    if facts["state"] == "running" and facts["last_heartbeat"] is not None:
        ago = max(0, round(time.time() - facts["last_heartbeat"]))
        line = f"Process {facts['pid']} on {facts['host']}, last heartbeat {ago} s ago"
        if ago > SECONDS_UNTIL_MISSED:
            line += ": its machine hangs, or it cannot write to storage"
        yield f"{line}."
    elif facts["state"] == "incomplete":
        yield "No submit is running; submit again to resume."
