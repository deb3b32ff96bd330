"""`lldeg submit`: run the samples of a sweep that are still missing."""

from typing import Any

import typer

from jobs.commands.options import options_of
from jobs.exit_status import INCOMPLETE
from jobs.submit.request import SubmitRequest
from jobs.text.terminal import terminal
from orchestrator.config.environment import prepare_for_ray
from orchestrator.errors import counted


@options_of(SubmitRequest)
def submit(**options: Any) -> None:
    """Run a sweep, or resume one.

    Answers are written to the run directory as they arrive; submitting again computes only what is missing.
    Ctrl-C stops the run, and submitting again resumes it.

    With --until-degraded or --until-decided (or `stopping` in the configuration) a variant is no longer
    sampled once its verdict is decided, with --policy once that release policy is decided about it; the false
    alarm rate stays the same. A `budget` in the configuration ends the run before it costs more; a larger one
    resumes it.

    Exit status: 0 if the run is complete, 2 for usage or input errors, 3 if the run is incomplete.

    For example:

        lldeg submit configs/quickstart.yaml

        lldeg submit configs/llama3.yaml --set sampling.seeds=10 --dry-run

        lldeg submit sweep.yaml --until-decided --policy policy.yaml

        lldeg submit configs/llama3.yaml --address http://head:8265 --run-dir s3://bucket/llama3 --detach
    """
    request = SubmitRequest(**options)
    prepare_for_ray(request.address)
    if request.as_job and not request.dry_run:
        from jobs.submit.remote_job import submit_job  # noqa: PLC0415 - slow to import, and needed here only

        raise typer.Exit(submit_job(request))
    from jobs.submit.dry_run import show_dry_run  # noqa: PLC0415 - slow to import, and --help need not wait
    from jobs.submit.progress import outcome_text  # noqa: PLC0415
    from jobs.submit.run_sweep import refuse_refused, run_sweep  # noqa: PLC0415

    console = terminal()
    if request.dry_run:
        show_dry_run(request, console)
        return
    plan, progress = run_sweep(request, console)
    url = plan.sweep.store.url
    if progress.stop is not None and progress.owed:
        missing = f"{url} still lacks {counted(progress.owed, 'sample')}"
        console.print(f"Stopped: {progress.stop}. {missing}; the same command resumes the run.")
        raise typer.Exit(INCOMPLETE)
    console.print(outcome_text(url, progress), markup=False, highlight=False, soft_wrap=True)
    refuse_refused(plan, progress)
    if progress.owed:
        raise typer.Exit(INCOMPLETE)
