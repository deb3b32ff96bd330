"""Doing what a plan owes: documents first, then every block on the Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray
import yaml

from orchestrator.cluster.ray_cluster import ray_cluster
from orchestrator.cluster.resources import Nodes, footprint, misfit, wanted_places
from orchestrator.engines import is_served
from orchestrator.errors import UserError
from orchestrator.rundir.heartbeat import Heartbeat
from orchestrator.rundir.lease import owner
from orchestrator.sweep.blocks import longest_first
from orchestrator.workers.dispatcher import Dispatcher
from orchestrator.workers.replica import Job
from orchestrator.workers.replica_slots import Workload
from orchestrator.workers.sample_rows import failed_block, items_table, samples_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.rundir.progress import SweepProgress
    from orchestrator.sweep.blocks import Block
    from orchestrator.sweep.plan import Plan
    from orchestrator.workers.dispatcher import Watcher


def execute(plan: Plan, progress: SweepProgress, *, address: str | None, watch: Watcher) -> None:
    """Do everything the plan owes, on the Ray cluster at an address or on this machine.

    Args:
        plan: what is owed.
        progress: counts to keep; see `initial_counts`.
        address: Ray cluster; None starts one here.
        watch: called whenever something happened.

    Raises:
        UserError: no cluster, or no place on it for a replica.
    """
    sweep = plan.sweep
    _write_documents(plan)
    if not progress.owed:
        return
    with ray_cluster(address, sweep.config.include_path), Heartbeat(sweep.store, progress) as heartbeat:
        nodes = Nodes()
        workloads = _workloads(plan, nodes)
        replicas = sweep.config.cluster.replicas
        most = None if replicas == "auto" else replicas
        dispatcher = Dispatcher(
            workloads,
            most=most,
            room=nodes.room,
            lost_since=nodes.lost_since,
            progress=progress,
            give_up=_giver_up(plan),
            watch=watch,
            log=heartbeat.log,
        )
        with wanted_places([load.size for load in workloads], None if address is None else most):
            dispatcher.run()


def _workloads(plan: Plan, nodes: Nodes) -> list[Workload]:
    """The work of every variant that owes something.

    Raises:
        UserError: replicas of some variants fit on no node.
    """
    sweep = plan.sweep
    owing = [variant for variant in sweep.config.variants if any(c.owed for c in plan.cells_of(variant))]
    sizes = {
        variant: footprint(sweep.config.cluster_of(variant), sweep.engine(variant).options, nodes.now())
        for variant in owing
    }
    misfits = [f"{name}: {why}" for name, size in sizes.items() if (why := misfit(size, nodes.now()))]
    if misfits:
        raise UserError(f"The cluster has no room for {'; '.join(misfits)}.")
    references = {key: (ray.put(sweep.built.pop(key)),) for key in list(sweep.built)}  # Ray keeps them now
    holder = owner(sweep.store)
    return [
        Workload(
            _job(plan, variant, sizes[variant].gpus, references, holder),
            sizes[variant],
            _blocks(plan, variant),
            most=1 if is_served(sweep.engine(variant).options) else None,  # one keeps a server busy
        )
        for variant in owing
    ]


def _blocks(plan: Plan, variant: str) -> Iterator[Block]:
    for cell in longest_first(plan.cells_of(variant)):
        yield from cell.blocks()


def _write_documents(plan: Plan) -> None:
    sweep = plan.sweep
    sweep.store.write_manifest(plan.manifest)
    sweep.store.write_sweep(
        yaml.safe_dump(sweep.asked.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
    for name, task in sweep.tasks.items():
        built = sweep.built[sweep.renderings[sweep.config.baseline], name]
        sweep.store.write_items(name, items_table(task, built))


def _job(
    plan: Plan, variant: str, gpus: float, references: dict[tuple[str, str], tuple[Any]], holder: str
) -> Job:
    sweep = plan.sweep
    folder = sweep.store.local_folder
    return Job(
        variant=variant,
        engine=sweep.engine(variant),
        sampling=sweep.config.sampling,
        store_url=str(folder) if folder is not None else sweep.store.url,
        tasks={name: task.spec for name, task in sweep.tasks.items()},
        items={name: references[sweep.renderings[variant], name] for name in sweep.tasks},
        columns=plan.columns,
        gpus=gpus,
        owner=holder,
    )


def _giver_up(plan: Plan) -> Callable[[Block, str], None]:
    def give_up(block: Block, reason: str) -> None:
        rows = samples_table(block, failed_block(block, f"EngineDied: {reason}"), plan.columns)
        plan.sweep.store.write_block(block.variant, block.task, block.name, rows)

    return give_up
