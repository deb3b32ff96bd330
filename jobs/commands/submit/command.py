"""`lldeg submit`: run what a sweep still owes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from jobs.commands.exit_status import INCOMPLETE
from jobs.commands.submit.detectable_drops import detection_table, given_flip_rate, measured_flip_rates
from jobs.commands.submit.progress_view import dry_run_table, follow, outcome, sweep_notes
from orchestrator.cluster.ray_environment import prepare_for_ray
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.rundir.progress import SweepProgress
    from orchestrator.sweep.plan import Plan


def submit(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the sweep.", show_default=False)
    ],
    *,
    run_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Run directory (path or URL); default runs/<name>."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="Ray cluster to use: auto, ray://… driven from here, http://… as a Ray job; "
            "default: this machine only.",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="With --address http://…: return once the job is running.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and stop.")] = False,
    flip_rate: Annotated[
        float | None,
        typer.Option(metavar="P", help="For --dry-run: share of answers expected to flip; 0.1 unless given."),
    ] = None,
    flips_of: Annotated[
        str | None, typer.Option(metavar="RUN", help="For --dry-run: take the flip rates of this run.")
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again for samples whose row is an error.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the configuration; may be repeated."
        ),
    ] = None,
) -> None:
    """Run a sweep, or what is left of it.

    Answers are written to the run directory as they arrive; submitting again does only what is missing.
    Ctrl-C stops the run, and submitting again resumes it.

    Exit status: 0 the run is complete, 2 wrong usage or input, 3 the run is incomplete.

    Examples:
        lldeg submit configs/quickstart.yaml

        lldeg submit configs/llama3.yaml --set sampling.seeds=10 --dry-run

        lldeg submit configs/llama3.yaml --address http://head:8265 --run-dir s3://bucket/llama3 --detach
    """
    as_job = address is not None and address.startswith(("http://", "https://"))
    if detach and not as_job:
        raise UserError(
            "--detach needs a Ray cluster that runs without this machine: --address http://HEAD:8265."
        )
    prepare_for_ray(address)
    if address is not None and as_job and not dry_run:
        from jobs.commands.submit.remote_job import submit_job  # noqa: PLC0415 - slow to import, and needed here only

        raise typer.Exit(submit_job(context.command, context.params))
    from orchestrator.rundir.heartbeat import forget_stop  # noqa: PLC0415
    from orchestrator.rundir.lease import exclusive  # noqa: PLC0415
    from orchestrator.rundir.progress import SweepProgress  # noqa: PLC0415
    from orchestrator.sweep.plan import initial_counts, plan_sweep  # noqa: PLC0415 - slow to import, and --help need not wait
    from orchestrator.sweep.prepare import prepare  # noqa: PLC0415

    console = Console()
    with console.status("checking the sweep"):
        sweep = prepare(config, overrides=set_ or (), run_dir=run_dir, here=address is None)
    progress = SweepProgress({})
    alone = nullcontext() if dry_run else exclusive(sweep.store, on_loss=progress.taken_over)
    with alone:  # a plan made while another submit writes would be stale
        if not dry_run:
            forget_stop(sweep.store)
        plan = plan_sweep(sweep, config_path=config, remove_torn=not dry_run, retry_errors=retry_errors)
        for note in sweep_notes(sweep):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        for warning in plan.warnings:
            console.print(f"Warning: {warning}.", style="yellow", markup=False)
        if dry_run:
            console.print(dry_run_table(plan))
            rates = measured_flip_rates(flips_of) if flips_of else given_flip_rate(flip_rate)
            console.print(detection_table(plan, rates, sweep.config.analysis.alpha))
            return
        progress.variants.update(initial_counts(plan))
        _run(plan, progress, address, console)
    console.print(outcome(plan, progress), markup=False, highlight=False, soft_wrap=True)
    _raise_for(plan, progress)


def _run(plan: Plan, progress: SweepProgress, address: str | None, console: Console) -> None:
    from orchestrator.workers.execute import execute  # noqa: PLC0415

    try:
        with follow(progress, console) as watch:
            execute(plan, progress, address=address, watch=watch)
    except KeyboardInterrupt:
        progress.stop = "interrupted"
    if progress.stop is not None:
        url = plan.sweep.store.url
        console.print(
            f"Stopped: {progress.stop}. {progress.owed:,} samples are still owed to {url}; "
            "the same command resumes the run."
        )
        raise typer.Exit(INCOMPLETE)


def _raise_for(plan: Plan, progress: SweepProgress) -> None:
    refusals = [f"{name}: {counts.refusal}" for name, counts in progress.variants.items() if counts.refusal]
    if refusals:
        raise UserError(
            f"The engine cannot run {'; '.join(refusals)}. "
            f"What the other variants answered is kept; its words are in {plan.sweep.store.url}/logs."
        )
    if progress.owed:
        raise typer.Exit(INCOMPLETE)
