"""Executing a plan: its documents, then all its blocks on a Ray cluster."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import yaml

from orchestrator.cluster.ray_cluster import ray_cluster
from orchestrator.cluster.resources import (
    Nodes,
    autoscaling_request,
    replica_resources,
    scoring_processes,
    why_unschedulable,
)
from orchestrator.errors import UserError, error_text
from orchestrator.retry import retry_storage
from orchestrator.rundir.heartbeat import Heartbeat, write_status
from orchestrator.rundir.lease import owner
from orchestrator.rundir.software import software_id
from orchestrator.sweep.blocks import in_order_of_work
from orchestrator.sweep.plan import list_metrics
from orchestrator.sweep.scores import parsed_values
from orchestrator.workers.dispatcher import Dispatcher
from orchestrator.workers.replica import Job
from orchestrator.workers.replica_slots import Workload
from orchestrator.workers.sample_rows import failed_block, items_table, samples_table
from orchestrator.workers.stopping import ItemScores, NeverStop, still_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.cluster.resources import ReplicaResources
    from orchestrator.rundir.progress import SweepProgress
    from orchestrator.rundir.schema import AggregateRow, SoftwareEntry
    from orchestrator.sweep.blocks import Block
    from orchestrator.sweep.plan import Plan
    from orchestrator.workers.dispatcher import GiveUpBlock, Watcher
    from orchestrator.workers.stopping import StoppingPolicy


def execute(
    plan: Plan,
    progress: SweepProgress,
    *,
    address: str | None,
    watch: Watcher,
    stopping: StoppingPolicy | None = None,
) -> None:
    """Run all missing samples of a plan, on the Ray cluster that was joined or on this machine.

    Args:
        plan: what is owed; its documents have been written.
        progress: counts to keep; see `initial_counts`.
        address: of the Ray cluster that was joined; None starts one here.
        watch: called whenever something happened.
        stopping: which samples are no longer needed; by default all are needed.

    Raises:
        UserError: there is no Ray cluster, or no node of it has the resources of a replica.
    """
    sweep = plan.sweep
    stopping = stopping or NeverStop()
    _note_decided(plan, progress, stopping)
    if not progress.owed:
        with suppress(OSError):
            write_status(sweep.store, progress)  # what is not needed may be news
        return
    with (
        ray_cluster(None, ship_code=any(variant.python for variant in sweep.variants.values()))
        if address is None
        else nullcontext(),
        Heartbeat(sweep.store, progress) as heartbeat,
    ):
        nodes, record = Nodes(), _record(plan, progress, heartbeat)
        workloads = _workloads(plan, nodes, stopping)
        replicas = sweep.config.cluster.replicas
        max_replicas = None if replicas == "auto" else replicas
        dispatcher = Dispatcher(
            workloads,
            max_replicas=max_replicas,
            room=nodes.have_room,
            lost_since=nodes.lost_since,
            progress=progress,
            give_up=_give_up(plan, stopping, record),
            watch=watch,
            log=heartbeat.log,
            stopping=stopping,
            record=record,
        )
        requested = None if address is None else max_replicas
        with autoscaling_request([load.resources for load in workloads], requested):
            dispatcher.run()


def _note_decided(plan: Plan, progress: SweepProgress, stopping: StoppingPolicy) -> None:
    """Count what earlier submits have decided as not needed."""
    for variant, counts in progress.variants.items():
        counts.looks = stopping.standing().get(variant, ())
        counts.not_needed = _owed(plan, variant).total() - still_needed(plan.cells_of(variant), stopping)


def _workloads(plan: Plan, nodes: Nodes, stopping: StoppingPolicy) -> list[Workload]:
    """The work of every variant that owes something.

    Raises:
        UserError: replicas of some variants fit on no node.
    """
    sweep = plan.sweep
    resources = {
        name: replica_resources(variant.cluster, variant.options, nodes.now())
        for name, variant in sweep.variants.items()
        if still_needed(plan.cells_of(name), stopping)
    }
    _refuse_unschedulable(resources, nodes)
    references = {key: (ray.put(sweep.built.pop(key)),) for key in list(sweep.built)}  # Ray keeps them now
    holder = owner(sweep.store)
    return [
        Workload(
            _job(plan, variant, taken, references=references, holder=holder, stopping=stopping),
            taken,
            in_order_of_work(plan.cells_of(variant)),
            _owed(plan, variant),
            max_replicas=1 if sweep.variants[variant].kind.served else None,  # one keeps a server busy
        )
        for variant, taken in resources.items()
    ]


def _refuse_unschedulable(resources: dict[str, ReplicaResources], nodes: Nodes) -> None:
    reasons = [
        f"{variant}: {why}"
        for variant, taken in resources.items()
        if (why := why_unschedulable(taken, nodes.now()))
    ]
    if reasons:
        raise UserError(f"The Ray cluster cannot fit these replicas: {'; '.join(reasons)}.")


def _owed(plan: Plan, variant: str) -> Counter[float]:
    """Samples that a variant owes, by temperature; empty if it owes none."""
    counts: Counter[float] = Counter()
    for cell in plan.cells_of(variant):
        counts += cell.owed_by_temperature  # leaves out zeros
    return counts


def write_documents(plan: Plan) -> None:
    """Write the items, the sweep, and last the manifest, which says that the others are there."""
    sweep = plan.sweep
    for name, task in sweep.tasks.items():
        built = sweep.built[sweep.renderings[sweep.config.baseline], name]
        sweep.store.write_items(name, items_table(task, built))
    sweep.store.write_sweep(
        yaml.safe_dump(sweep.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
    sweep.store.write_manifest(plan.manifest)


def conclude(plan: Plan, progress: SweepProgress, holder: str) -> None:
    """After a submit, list the scores that only answers told, and aggregate as lm-eval does.

    What the storage does not take is noted; the samples are there, and the next submit does it again.

    Args:
        plan: of the submit.
        progress: what it has written.
        holder: the submit; see `lease.owner`. The run of another one is left as it is.
    """
    store = plan.sweep.store
    try:
        if owner(store) == holder:
            for name, metrics in progress.metrics.items():
                list_metrics(plan.manifest, plan.sweep.tasks[name], metrics)
            if any(progress.metrics.values()):
                store.write_manifest(plan.manifest)
            _write_aggregates(plan, written=progress.written > 0)
    except OSError as error:
        progress.notes.append(f"scores of corpora were not written ({error_text(error)}): submit again")


def _write_aggregates(plan: Plan, *, written: bool) -> None:
    store, here = plan.sweep.store, {(cell.variant, cell.task) for cell in plan.cells}
    try:
        old = store.read_aggregates()
    except UserError:  # damaged
        old = []
    if written or not old:
        rows = [row for row in old if (row["variant"], row["task"]) not in here]
        rows += [row for variant, task in sorted(here) for row in _aggregates(plan, variant, task)]
        if rows != old:
            store.write_aggregates(rows)


def _aggregates(plan: Plan, variant: str, name: str) -> Iterator[AggregateRow]:
    """What lm-eval makes of the scores of a variant on a task, pass by pass."""
    scores = plan.sweep.tasks[name].scores
    if all(metric.aggregation is None for metric in scores.declared.values()):
        return
    passes: dict[tuple[float, int | None], dict[int, dict[str, Any]]] = {}
    for table in plan.sweep.store.read_values(variant, name):
        for row in table.to_pylist():
            numbers = {key: number for key, number in (row["scores"] or {}).items() if number is not None}
            values = numbers | parsed_values(row["corpus_values"])
            passes.setdefault((row["temperature"], row["seed"]), {})[row["item"]] = values
    for (temperature, seed), items in sorted(passes.items(), key=str):
        by_metric: dict[str, list[Any]] = {}
        for _, values in sorted(items.items()):
            for metric, value in values.items():
                by_metric.setdefault(metric, []).append(value)
        for metric, number in scores.aggregates(by_metric).items():
            yield {
                "variant": variant,
                "task": name,
                "temperature": float(str(np.float32(temperature))),
                "seed": seed,
                "metric": metric,
                "value": number,
                "items": len(by_metric[metric]),
            }


def _job(
    plan: Plan,
    variant: str,
    taken: ReplicaResources,
    *,
    references: dict[tuple[str, str], tuple[Any]],
    holder: str,
    stopping: StoppingPolicy,
) -> Job:
    sweep = plan.sweep
    folder = sweep.store.local_folder
    return Job(
        variant=variant,
        engine=sweep.variants[variant],
        sampling=sweep.config.sampling,
        store_url=str(folder) if folder is not None else sweep.store.url,
        tasks={name: task.spec for name, task in sweep.tasks.items()},
        items={name: references[sweep.renderings[variant], name] for name in sweep.tasks},
        columns=plan.columns,
        gpus=taken.gpus,
        owner=holder,
        software=plan.software,
        scoring_processes=scoring_processes(taken),
        think_end_token=sweep.config.prompt.think_end_token,
        must_fit=sweep.config.prompt.must_fit,
        deciding_metrics=dict(stopping.deciding_metrics),
    )


def _record(plan: Plan, progress: SweepProgress, heartbeat: Heartbeat) -> Callable[[SoftwareEntry], str]:
    """Adds what will write samples to the manifest; returns the ID that the samples are to name."""
    store, known = plan.sweep.store, plan.manifest["software"]
    holder = owner(store)

    def record(entry: SoftwareEntry) -> str:
        name = software_id(entry)
        if name not in known:
            known[name] = entry
            try:
                retry_storage(write, lambda why: heartbeat.log({"event": "manifest failed", "reason": why}))
            except OSError as error:  # samples would name what nobody explains
                progress.stop = f"the manifest cannot be written ({error_text(error)})"
        return name

    def write() -> None:
        if owner(store) == holder:  # the manifest of another submit is not ours to replace
            store.write_manifest(plan.manifest)

    return record


def _give_up(plan: Plan, stopping: StoppingPolicy, record: Callable[[SoftwareEntry], str]) -> GiveUpBlock:
    def give_up(block: Block, reason: str) -> ItemScores | None:
        samples = failed_block(block, f"EngineDied: {reason}")
        rows = samples_table(block, samples, plan.columns)
        software = record(plan.software)
        plan.sweep.store.write_block(block.variant, block.task, block.name, rows, software)
        metric = stopping.deciding_metrics.get(block.task)
        return ItemScores.of(samples, metric) if metric else None

    return give_up
