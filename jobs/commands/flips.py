"""`lldeg flips`: which answers change when only the seed, the temperature or the run changes."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.analysis.sequential.run_monitor import stopped_notes
from jobs.commands.options import Columns, Metric, Out
from jobs.formats.columns import parse_columns
from jobs.formats.metrics import parse_assignments, read_metrics
from jobs.formats.run_files import runs_in
from jobs.formats.samples import InputQuery
from jobs.scores.read import read_reruns
from jobs.text.terminal import terminal
from orchestrator.errors import UserError
from orchestrator.extras import lacking


def flips(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Runs, or evaluation logs of one model, optionally after a JSON file {task: metric}.",
        ),
    ],
    *,
    out: Out = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this variant.")] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Only this task.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="Only this temperature.")] = None,
    metric: Metric = None,
    columns: Columns = None,
    by_task: Annotated[bool, typer.Option("--by-task", help="Show each task, not only the total.")] = False,
) -> None:
    """Count the answers that flip between reruns, against the baseline, and with temperature.

    Writes success_counts.json, flips.json and plots.

    For example:

        lldeg flips runs/quickstart

        lldeg flips runs/monday runs/tuesday --variant bf16 --by-task

        lldeg flips task_metrics.json results/seed0 results/seed1 results/seed2
    """
    from jobs.reruns.outputs import print_flips, write_flips  # noqa: PLC0415 - slow to import, and --help need not wait
    from jobs.reruns.summary import summarize  # noqa: PLC0415

    listed, first = None, Path(paths[0])
    if first.suffix == ".json" and first.is_file() and paths[1:] and not first.name.startswith("results_"):
        listed, paths = first, paths[1:]
    metrics = read_metrics(listed) | parse_assignments("--metric", metric or [])
    reruns = read_reruns(
        paths,
        InputQuery(metrics, columns=parse_columns(columns)),
        variant=variant,
        task=task,
        temperature=temperature,
    )
    report = summarize(reruns)
    report["warnings"][:0] = stopped_notes(reruns.runs)
    if not report["cells"]:
        raise UserError(" ".join(report["warnings"]))
    folder = Path(out) if out else default_folder(paths)
    written = write_flips(reruns, report, folder)
    print_flips(report, terminal(), by_task=by_task)
    typer.echo(f"Written to {folder}: {', '.join(written)}")
    if note := lacking("figures", "Drawing the plots"):
        typer.echo(note)


def default_folder(paths: list[str]) -> Path:
    """Into the run; into ./analysis if there are several inputs, or one that is not a run on this disk."""
    if len(paths) == 1 and "://" not in paths[0] and runs_in(paths[0]):
        return Path(paths[0]) / "analysis"
    return Path("analysis")
