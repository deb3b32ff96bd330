"""Doing what a plan owes: documents first, then every block on the Ray cluster."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
import yaml

from orchestrator.blocks import longest_first
from orchestrator.cluster import footprint, ray_cluster
from orchestrator.dispatch import Dispatcher
from orchestrator.replica import Job
from orchestrator.samples import failed_block, items_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.blocks import Block
    from orchestrator.dispatch import Watcher
    from orchestrator.plan import Plan
    from orchestrator.progress import SweepProgress


def execute(plan: Plan, progress: SweepProgress, *, address: str | None, watch: Watcher) -> None:
    """Do everything the plan owes, on the Ray cluster at an address or on this machine.

    Args:
        plan: what is owed.
        progress: counts to keep; see `initial_progress`.
        address: Ray cluster; None starts one here.
        watch: called whenever something happened.

    Raises:
        UserError: no cluster, or no place on it for a replica.
    """
    sweep = plan.sweep
    _write_documents(plan)
    if not progress.owed:
        return
    with ray_cluster(address):
        references = {key: (ray.put(built),) for key, built in sweep.built.items()}
        jobs = [_job(plan, variant, references) for variant in sweep.config.variants]
        sizes = [footprint(sweep.config.cluster, job.engine.options) for job in jobs]
        jobs = [replace(job, gpus=size.gpus) for job, size in zip(jobs, sizes, strict=True)]
        places = max(size.places(sweep.config.cluster.replicas) for size in sizes)
        blocks = [
            [block for cell in longest_first(plan.cells_of(job.variant)) for block in cell.blocks()]
            for job in jobs
        ]
        Dispatcher(
            zip(jobs, sizes, blocks, strict=True),
            places=places,
            progress=progress,
            give_up=_giver_up(plan),
            watch=watch,
            log=lambda event: sweep.store.append_log(
                "events.jsonl", json.dumps({"time": time.time(), **event})
            ),
        ).run()


def _write_documents(plan: Plan) -> None:
    sweep = plan.sweep
    sweep.store.write_manifest(plan.manifest)
    sweep.store.write_sweep(
        yaml.safe_dump(sweep.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
    for name, task in sweep.tasks.items():
        built = sweep.built[sweep.renderings[sweep.config.baseline], name]
        sweep.store.write_items(name, items_table(task, built))


def _job(plan: Plan, variant: str, references: dict[tuple[str, str], tuple[Any]]) -> Job:
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
        gpus=0,
    )


def _giver_up(plan: Plan) -> Callable[[Block, str], None]:
    def give_up(block: Block, reason: str) -> None:
        rows = plan.columns.table(block, failed_block(block, f"EngineDied: {reason}"))
        plan.sweep.store.write_block(block.variant, block.task, block.name, rows)

    return give_up
