"""`lldeg status`: how far a sweep is, from its run directory alone."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from jobs.exit_status import INCOMPLETE
from jobs.formats.notices import some
from jobs.formats.run_counts import Footers, total
from jobs.formats.run_files import RunFiles
from jobs.submit.progress_view import standing_text, tally
from jobs.text.format import clean, problem_text
from jobs.text.terminal import fitting, terminal
from orchestrator.rundir.heartbeat import Status, VariantStatus, read_status
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from jobs.formats.run_counts import Count

SECONDS_UNTIL_MISSED = 15  # a submit writes a heartbeat every three


def status(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run directory (path or URL).", show_default=False)
    ],
    *,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="Output format.")] = "table",
) -> None:
    """Show the progress of a sweep: samples done, missing and failed, rates, time left, replicas.

    Works from any machine that can read the run directory, during the sweep and afterwards.

    Exit status: 0 if the sweep is complete or running, 2 for wrong usage or input, 3 if samples are missing
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


def run_status(url: str) -> dict[str, Any]:
    """The progress of a run, as JSON values.

    Counts come from the samples on disk; rates, replicas and notes come from the last heartbeat of the submit
    that is running, or of the last one that ran.

    Raises:
        UserError: the URL is not a run directory.
    """
    run = RunFiles.open(url)
    counts = Footers().count(run)
    told, running = read_status(run.store), is_running(run.store)
    everything = total(counts.values())
    variants = {name: _variant(count, told, name, running=running) for name, count in counts.items()}
    missing = sum(entry["missing"] for entry in variants.values())
    return {
        "run": url,
        "state": "running" if running else "incomplete" if missing else "complete",
        "planned": everything.planned,
        "done": everything.done,
        "missing": missing,
        "errors": everything.errors,
        "damaged": list(everything.damaged),
        "seconds_left": told.seconds_left if running else None,
        "last_heartbeat": told.last_heartbeat,
        "host": told.host,
        "pid": told.pid,
        "variants": variants,
        "replicas": [replica.model_dump() for replica in told.replicas if running],
        "problem": told.problem if running else None,
        "notes": told.notes,
    }


def _variant(count: Count, status: Status, name: str, *, running: bool) -> dict[str, Any]:
    told = status.variants.get(name, VariantStatus())
    return {
        "planned": count.planned,
        "done": count.done,
        "missing": count.needed - count.done,
        "not_needed": count.not_needed,
        "looks": [look.as_json() for look in told.looks],
        "errors": count.errors,
        "lost": told.lost,
        "loads": told.loads,
        "replicas": told.replicas if running else 0,
        "samples_per_second": told.samples_per_second,
        "tokens_per_second": told.tokens_per_second,
        "refusal": told.refusal,
    }


def _table(variants: dict[str, dict[str, Any]], width: int) -> RenderableType:
    """Counts and rates of the variants."""
    keys = {"done": "done", "missing": "missing", "not needed": "not_needed", "errors": "errors"}
    if not any(entry["not_needed"] for entry in variants.values()):
        del keys["not needed"]
    rows = []
    for name, entry in variants.items():
        counts = [f"{entry[key]:,}" for key in keys.values()]
        rates = [f"{entry['samples_per_second']:.1f}", f"{entry['tokens_per_second']:.0f}"]
        rows.append([clean(name), *counts, *(rates if entry["loads"] else ("", "")), str(entry["replicas"])])
    return fitting(("variant", *keys, "samples/s", "tokens/s", "replicas"), rows, width)


def _show(facts: dict[str, Any], console: Console) -> None:
    not_needed = sum(entry["not_needed"] for entry in facts["variants"].values())
    line = f"{facts['run']}: {facts['state']}, {tally(facts['done'], facts['planned'], not_needed)}"
    if facts["seconds_left"] is not None:
        line += f", about {timedelta(seconds=round(facts['seconds_left']))} left"
    console.print(Text(line))
    console.print(_table(facts["variants"], console.width))
    for name, entry in facts["variants"].items():
        for look in entry["looks"]:
            console.print(Text(clean(f"{name}, last look: {standing_text(Standing.from_json(look))}")))
    for replica in facts["replicas"]:
        where = f" on node {replica['node'][:8]}" if replica["node"] else ""
        line = f"replica {replica['number']}, {replica['variant']}: {replica['state']}{where}"
        console.print(Text(f"{line}, {replica['samples']:,} samples"))
    for remark in _remarks(facts):
        console.print(Text(clean(remark)))


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
