"""Running a sweep on this machine or a Ray cluster: what the command and the Python API share."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.exit_status import go_on, interruption
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from jobs.submit.request import SubmitRequest
    from orchestrator.rundir.progress import SweepProgress
    from orchestrator.sweep.plan import Plan
    from orchestrator.workers.stopping import StoppingPolicy


@dataclass(frozen=True)
class Submitted:
    """What a submit planned, and how far it came."""

    plan: Plan
    progress: SweepProgress

    def raise_for_refusals(self) -> None:
        """Raise an error if an engine cannot run a variant.

        Raises:
            UserError: it names the variants and the reasons.
        """
        counts = self.progress.variants.items()
        if refusals := [f"{name}: {count.refusal}" for name, count in counts if count.refusal]:
            raise UserError(
                f"The engine cannot run {'; '.join(refusals)}. Answers of the other variants are kept; "
                f"the engine's own messages are in {self.plan.sweep.store.url}/logs."
            )


class View:
    """What a submit shows while it works; this one shows nothing."""

    def checking(self) -> AbstractContextManager[object]:
        """Entered while the sweep is checked."""
        return nullcontext()

    def announce(self, plan: Plan) -> None:
        """Gets the plan before anything runs."""

    @contextmanager
    def follow(self, _: SweepProgress) -> Iterator[Callable[[SweepProgress], None]]:
        """Entered while the sweep runs; yields a function to call whenever something happened."""
        yield lambda _: None


def plan_only(request: SubmitRequest) -> Plan:
    """The plan of a sweep; nothing is written, and no engine started.

    Raises:
        UserError: every mistake in the configuration.
    """
    from orchestrator.sweep.plan import plan_sweep  # noqa: PLC0415 - slow to import, and --help need not wait
    from orchestrator.sweep.prepare import prepare  # noqa: PLC0415

    config, here = request.config, request.address is None
    sweep = prepare(config, overrides=request.overrides, run_dir=request.run_dir, here=here)
    go_on()
    return plan_sweep(
        sweep,
        config_path=config,
        remove_torn=False,
        retry_errors=request.retry_errors,
        finish=request.finish,
    )


def run_sweep(request: SubmitRequest, view: View | None = None) -> Submitted:
    """Run the samples of a sweep that are still missing.

    Args:
        request: the sweep, the run directory and the Ray cluster; without an address, Ray is started on this
            machine.
        view: what shows the progress; None shows nothing.

    Returns:
        The plan and the progress; after Ctrl-C or a signal the progress says "interrupted by …".

    Raises:
        UserError: every mistake in the configuration, or another submit runs in the run directory.
    """
    from orchestrator.cluster.ray_cluster import ray_cluster  # noqa: PLC0415 - slow to import, and --help need not wait
    from orchestrator.rundir.heartbeat import forget_stop  # noqa: PLC0415
    from orchestrator.rundir.lease import exclusive, owner  # noqa: PLC0415
    from orchestrator.rundir.progress import SweepProgress  # noqa: PLC0415
    from orchestrator.sweep.plan import initial_counts, plan_sweep  # noqa: PLC0415
    from orchestrator.sweep.prepare import prepare  # noqa: PLC0415
    from orchestrator.workers.execute import conclude, execute, write_documents  # noqa: PLC0415

    view, config, address = view or View(), request.config, request.address
    with view.checking():
        sweep = prepare(config, overrides=request.overrides, run_dir=request.run_dir, here=address is None)
        go_on()
    progress = SweepProgress({})
    elsewhere = nullcontext() if address is None else ray_cluster(address, sweep.config.include_path)
    # A Ray cluster that is not there leaves no run. A plan made while another submit writes would be stale.
    with elsewhere, exclusive(sweep.store, on_loss=progress.taken_over):
        holder = owner(sweep.store)
        forget_stop(sweep.store)
        sweep.store.remove_unfinished()
        retry, finish = request.retry_errors, request.finish
        plan = plan_sweep(sweep, config_path=config, retry_errors=retry, finish=finish)
        view.announce(plan)
        progress.variants.update(initial_counts(plan))
        write_documents(plan)
        stopping = stopping_of(plan, progress.notes.append)
        try:
            with view.follow(progress) as show:

                def watch(now: SweepProgress) -> None:
                    go_on()
                    show(now)

                execute(plan, progress, address=address, watch=watch, stopping=stopping)
        except KeyboardInterrupt:
            progress.stop = f"interrupted by {interruption()}"
        _count_written(plan, progress)
        conclude(plan, progress, holder)
    return Submitted(plan, progress)


def _count_written(plan: Plan, progress: SweepProgress) -> None:
    """Count what replicas wrote that were withdrawn with their block, as far as that is known."""
    if not any(counts.not_needed for counts in progress.variants.values()):
        return
    from jobs.formats.run_counts import Footers  # noqa: PLC0415 - not needed otherwise
    from jobs.formats.run_files import RunFiles  # noqa: PLC0415

    for name, count in Footers().count(RunFiles.open(plan.sweep.store.url)).items():
        if (counts := progress.variants.get(name)) is not None and count.planned == counts.planned:
            more = min(max(0, count.done - counts.done), counts.not_needed)
            counts.written, counts.not_needed = counts.written + more, counts.not_needed - more


def stopping_of(plan: Plan, warn: Callable[[str], None], *, record: bool = True) -> StoppingPolicy | None:
    """What takes the looks and stops variants early; None in a run that does not stop early.

    Args:
        plan: of a run whose manifest and items have been written.
        warn: gets a sentence if looks can no longer be taken.
        record: whether to write looks.json.
    """
    entry = plan.manifest.get("stopping")
    if entry is None:
        return None
    from jobs.analysis.sequential.stopping import stopping_policy  # noqa: PLC0415 - not needed otherwise

    finish = bool(entry.get("finished"))
    return stopping_policy(plan.sweep.store.url, warn, finish=finish, record=record)
