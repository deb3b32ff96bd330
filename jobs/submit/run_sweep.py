"""Running a sweep on this machine or a Ray cluster: what the command and the Python API share."""

from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console

from jobs.analysis.policy import PolicyError, load_policy, unknown_variants
from jobs.analysis.sequential.early_stopping import EarlyStopping
from jobs.analysis.sequential.run_monitor import comparisons_of, settled_tasks, short_of_items
from jobs.exit_status import end_if_signalled, interruption
from jobs.formats.run_files import Footers, RunFiles
from jobs.submit.progress import show_progress
from jobs.submit.request import SubmitRequest
from jobs.text.terminal import terminal
from orchestrator.cluster.ray_cluster import ray_cluster
from orchestrator.errors import UserError
from orchestrator.rundir.lease import exclusive, owner
from orchestrator.rundir.progress import SweepProgress, forget_stop
from orchestrator.sweep.plan import Plan, plan_sweep
from orchestrator.sweep.prepare import Sweep, prepare
from orchestrator.workers.execute import conclude, execute, write_documents
from orchestrator.workers.stopping import StoppingPolicy


def prepare_sweep(request: SubmitRequest, console: Console) -> Sweep:
    """Find the models, tasks and prompts of a sweep.

    Raises:
        UserError: every mistake in the configuration.
    """
    with console.status("checking the sweep"):
        here = request.address is None
        sweep = prepare(request.config, overrides=request.overrides, run_dir=request.run_dir, here=here)
        end_if_signalled()
    if sweep.config.stopping is not None and isinstance(sweep.config.stopping.policy, dict):
        policy = load_policy(sweep.config.stopping.policy)
        known = [name for name in sweep.config.variants if name != sweep.config.baseline]
        if mistakes := list(unknown_variants(policy, known)):
            raise PolicyError("The policy", mistakes)
    return sweep


def announce_plan(sweep: Sweep, request: SubmitRequest, console: Console) -> Plan:
    """Plan a sweep, and show what depends on this machine, what replaces metrics over a corpus, and warnings.

    Raises:
        UserError: the run directory holds a sweep with other settings, or a policy does not fit the tasks.
    """
    plan = plan_sweep(
        sweep,
        config_path=request.config,
        remove_torn=not request.dry_run,
        retry_errors=request.retry_errors,
        finish=request.finish,
    )
    warnings = list(plan.warnings)
    if "stopping" in plan.manifest:
        run = RunFiles(sweep.store, plan.manifest, {})
        _, tasks_of, duties = comparisons_of(run, settled_tasks(run))
        warnings += short_of_items(run, tasks_of, duties)
    tasks: dict[str, list[str]] = {}
    for name, task in sweep.tasks.items():
        if note := task.scores.corpus_note:
            tasks.setdefault(note, []).append(name)
    over_corpus = [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}: {note}."
        for note, names in tasks.items()
    ]
    for note in (*sweep.notes, *over_corpus):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for warning in warnings:
        console.print(f"Warning: {warning}.", style="yellow", markup=False)
    return plan


def run_sweep(request: SubmitRequest, console: Console | None = None) -> tuple[Plan, SweepProgress]:
    """Run the samples of a sweep that are still missing, and show the progress if there is a console.

    Returns:
        The plan and the progress; after Ctrl-C or a signal the progress says "interrupted by …".

    Raises:
        UserError: every mistake in the configuration, or another submit runs in the run directory.
    """
    console, address = console or terminal(silent=True), request.address
    sweep = prepare_sweep(request, console)
    progress = SweepProgress({}, sweep.config.budget)
    elsewhere = nullcontext() if address is None else ray_cluster(address, sweep.config.include_path)
    # A Ray cluster that is not there leaves no run. A plan made while another submit writes would be stale.
    with elsewhere, exclusive(sweep.store, on_loss=progress.taken_over):
        holder = owner(sweep.store)
        forget_stop(sweep.store)
        sweep.store.remove_unfinished()
        plan = announce_plan(sweep, request, console)
        progress.variants.update(plan.initial_counts())
        write_documents(plan)
        stopping = early_stopping(plan, progress.notes.append)
        try:
            with show_progress(progress, console) as show:

                def watch(now: SweepProgress) -> None:
                    end_if_signalled()
                    show(now)

                execute(plan, progress, address=address, watch=watch, stopping=stopping)
        except KeyboardInterrupt:
            progress.stop = f"interrupted by {interruption()}"
        if any(counts.not_needed for counts in progress.variants.values()):
            # Replicas may have written some of what was withdrawn with their block.
            for name, count in Footers().count(RunFiles.open(sweep.store.url)).items():
                if (counts := progress.variants.get(name)) is not None and count.planned == counts.planned:
                    more = min(max(0, count.done - counts.done), counts.not_needed)
                    counts.done, counts.not_needed = counts.done + more, counts.not_needed - more
        conclude(plan, progress, holder)
    return plan, progress


def early_stopping(plan: Plan, warn: Callable[[str], None], *, record: bool = True) -> StoppingPolicy:
    """What stops variants early, if the run, whose manifest and items have been written, has a plan for that.

    It warns if looks can no longer be taken, and if asked to records them in looks.json.
    """
    if (entry := plan.manifest.get("stopping")) is None:
        return StoppingPolicy()
    finish = bool(entry.get("finished"))
    return EarlyStopping(plan.sweep.store.url, warn, finish=finish, record=record)


def refuse_refused(plan: Plan, progress: SweepProgress) -> None:
    """Raise an error if an engine could not run a variant.

    Raises:
        UserError: it names the variants and the reasons.
    """
    counts = progress.variants.items()
    if refusals := [f"{name}: {count.refusal}" for name, count in counts if count.refusal]:
        raise UserError(
            f"The engine cannot run {'; '.join(refusals)}. Answers of the other variants are kept; "
            f"the engine's own messages are in {plan.sweep.store.url}/logs."
        )
