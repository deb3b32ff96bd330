"""`lldeg submit`: run the samples of a sweep that are still missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.commands.exit_status import INCOMPLETE
from jobs.commands.submit.detectable_drops import (
    FlipRates,
    detection_table,
    given_flip_rate,
    measured_flip_rates,
    whole_designs,
)
from jobs.commands.submit.expected_samples import expected_shares
from jobs.commands.submit.expected_work import rate_of, work_lines
from jobs.commands.submit.progress_view import dry_run_table, follow, outcome, sweep_notes
from jobs.commands.submit.run_sweep import Submitted, plan_only, run_sweep, stopping_of
from jobs.text.terminal import terminal
from orchestrator.cluster.ray_environment import prepare_for_ray
from orchestrator.errors import UserError
from orchestrator.workers.stopping import NeverStop

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.sweep.plan import Plan
    from orchestrator.workers.stopping import StoppingPolicy


def submit(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file of the sweep.", show_default=False)
    ],
    *,
    run_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Run directory (path or URL); default: runs/NAME, with the sweep's name."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="Ray cluster: auto, ray://… (driven from here) or http://… (runs as a Ray job); "
            "default: only this machine.",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="With --address http://…: return once the job is running.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and exit.")] = False,
    flip_rate: Annotated[
        float | None,
        typer.Option(metavar="P", help="For --dry-run: expected share of answers that flip; default: 0.1."),
    ] = None,
    flips_of: Annotated[
        str | None, typer.Option(metavar="RUN", help="For --dry-run: take the flip rates from this run.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="TOKENS_PER_SECOND",
            help="For --dry-run: tokens (prompts and answers) that all engines together process in a second; "
            "default: as in the last submit of the run.",
        ),
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again for samples whose row is an error.")
    ] = False,
    until_degraded: Annotated[
        bool, typer.Option("--until-degraded", help="Stop a variant as soon as it is known to be degraded.")
    ] = False,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="The same, and also as soon as it is certified."),
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Run the samples that early stopping skipped; verdicts stay.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the configuration; repeatable."),
    ] = None,
) -> None:
    """Run a sweep, or resume one.

    Answers are written to the run directory as they arrive; submitting again computes only what is missing.
    Ctrl-C stops the run, and submitting again resumes it.

    With --until-degraded or --until-decided (or `stopping` in the configuration) a variant is no longer
    sampled once its verdict is decided; the false alarm rate stays the same.

    Exit status: 0 if the run is complete, 2 for wrong usage or input, 3 if the run is incomplete.

    For example:

        lldeg submit configs/quickstart.yaml

        lldeg submit configs/llama3.yaml --set sampling.seeds=10 --dry-run

        lldeg submit configs/llama3.yaml --address http://head:8265 --run-dir s3://bucket/llama3 --detach
    """
    as_job = address is not None and address.startswith(("http://", "https://"))
    if detach and not as_job:
        raise UserError("--detach needs a sweep that runs as a Ray job: add --address http://HEAD:8265.")
    overrides = [*(set_ or ()), *_until(degraded=until_degraded, decided=until_decided, finish=finish)]
    prepare_for_ray(address)
    if as_job and not dry_run:
        from jobs.commands.submit.remote_job import submit_job  # noqa: PLC0415 - slow to import, and needed here only

        raise typer.Exit(submit_job(context.command, context.params))
    console = terminal()

    def announce(plan: Plan) -> None:
        for note in sweep_notes(plan.sweep):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        for warning in plan.warnings:
            console.print(f"Warning: {warning}.", style="yellow", markup=False)

    if dry_run:
        with console.status("checking the sweep"):
            plan = plan_only(
                config,
                run_dir=run_dir,
                address=address,
                overrides=overrides,
                retry_errors=retry_errors,
                finish=finish,
            )
        announce(plan)
        _show(plan, console, measured_flip_rates(flips_of) if flips_of else given_flip_rate(flip_rate), rate)
        return
    submitted = run_sweep(
        config,
        run_dir=run_dir,
        address=address,
        overrides=overrides,
        retry_errors=retry_errors,
        finish=finish,
        checking=lambda: console.status("checking the sweep"),
        announce=announce,
        follow=lambda progress: follow(progress, console),
    )
    _conclude(submitted, console)


def _show(plan: Plan, console: Console, flips: FlipRates, tokens_per_second: float | None) -> None:
    """The dry run: what would run, how much that is, and what it can detect."""
    decided, alpha = _decided_before(plan), plan.sweep.config.analysis.alpha
    rate = rate_of(plan, tokens_per_second)
    console.print(dry_run_table(plan, decided))
    entry = plan.manifest.get("stopping")
    shares = expected_shares(entry, whole_designs(plan, flips, alpha)) if entry else None
    for line in work_lines(plan, decided, rate, shares):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    fate = (
        "their samples will be errors" if plan.sweep.config.prompt.must_fit else "they lose their beginning"
    )
    for said in plan.sweep.lengths.too_long():
        console.print(f"Warning: {said}: {fate}.", style="yellow", markup=False, soft_wrap=True)
    console.print(detection_table(plan, flips, alpha))


def _decided_before(plan: Plan) -> StoppingPolicy:
    """What the samples of an earlier submit have decided."""
    begun = plan.sweep.store.has_run()
    return (stopping_of(plan, lambda _: None, record=False) if begun else None) or NeverStop()


def _until(*, degraded: bool, decided: bool, finish: bool) -> list[str]:
    """What the options for stopping early set in the configuration.

    Raises:
        UserError: if they contradict each other.
    """
    given = [name for name, is_given in (("degraded", degraded), ("decided", decided)) if is_given]
    if len(given) + finish > 1:
        raise UserError("Use only one of --until-degraded, --until-decided and --finish.")
    return [f"stopping.until={name}" for name in given]


def _conclude(submitted: Submitted, console: Console) -> None:
    """Say how the submit ended; the exit status is 3 if samples are missing."""
    plan, progress = submitted.plan, submitted.progress
    if progress.stop is not None and progress.owed:
        url = plan.sweep.store.url
        console.print(
            f"Stopped: {progress.stop}. {progress.owed:,} samples of {url} are still missing; "
            "the same command resumes the run."
        )
        raise typer.Exit(INCOMPLETE)
    console.print(outcome(plan, progress), markup=False, highlight=False, soft_wrap=True)
    submitted.raise_for_refusals()
    if progress.owed:
        raise typer.Exit(INCOMPLETE)
