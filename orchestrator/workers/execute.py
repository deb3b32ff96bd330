"""Executing a plan: its documents, then all its blocks on a Ray cluster."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import ray
import yaml

from orchestrator.cluster import resources
from orchestrator.cluster.ray_cluster import ray_cluster
from orchestrator.errors import UserError, error_text
from orchestrator.retry import retry_storage
from orchestrator.rundir.lease import owner
from orchestrator.rundir.manifest import software_id
from orchestrator.rundir.progress import Heartbeat, SweepProgress, write_status
from orchestrator.rundir.schema import AggregateRow, SoftwareEntry
from orchestrator.sweep.blocks import SMALLEST_BLOCK, Block, in_order_of_work
from orchestrator.sweep.plan import Plan, list_metrics
from orchestrator.sweep.scores import parsed_values
from orchestrator.workers.answer_block import failed_block, items_table, rows_of, write_rows
from orchestrator.workers.dispatcher import Dispatcher, Watcher
from orchestrator.workers.replica import Job
from orchestrator.workers.replica_slots import BlockQueue, ReplicaSlots, VariantWork
from orchestrator.workers.stopping import ReportedScores, StoppingPolicy, reported_scores, still_needed


def execute(
    plan: Plan,
    progress: SweepProgress,  # to keep; see `Plan.initial_counts`
    *,
    address: str | None,  # of the Ray cluster that was joined; None starts one on this machine
    watch: Watcher,
    stopping: StoppingPolicy | None = None,  # which samples are no longer needed; by default all are needed
) -> None:
    """Run all missing samples of a plan whose documents have been written.

    A UserError if there is no Ray cluster, or no node of it has the resources of a replica.
    """
    sweep, policy = plan.sweep, stopping or StoppingPolicy()
    for variant, counts in progress.variants.items():  # what earlier submits have decided
        cells = plan.cells_of(variant)
        counts.looks = policy.last_looks().get(variant, ())
        counts.not_needed = sum(cell.owed for cell in cells) - still_needed(cells, policy)
    if not progress.owed or progress.exceeds_budget(min(progress.owed, SMALLEST_BLOCK)):
        with suppress(OSError):
            write_status(sweep.store, progress)  # what is not needed may be news
        return
    other_pythons = any(variant.python for variant in sweep.variants.values())
    with (
        ray_cluster(None, ship_code=other_pythons) if address is None else nullcontext(),
        Heartbeat(sweep.store, progress) as heartbeat,
    ):
        nodes, record = resources.Nodes(), _record(plan, progress, heartbeat)

        def give_up(block: Block, reason: str) -> ReportedScores | None:
            samples = failed_block(block, f"EngineDied: {reason}")
            write_rows(sweep.store, block, rows_of(block, samples, plan.columns), record(plan.software))
            return reported_scores(samples, policy.deciding_metrics.get(block.task))

        work = _work(plan, nodes, policy)
        replicas = sweep.config.cluster.replicas
        most = None if replicas == "auto" else replicas
        slots = ReplicaSlots(work, max_replicas=most, nodes=nodes, progress=progress, log=heartbeat.log)
        requested = None if address is None else most
        with resources.autoscaling_request([one.job.resources for one in work], requested):
            Dispatcher(slots, give_up=give_up, watch=watch, stopping=policy, record=record).run()


def _work(plan: Plan, nodes: resources.Nodes, stopping: StoppingPolicy) -> list[VariantWork]:
    """The work of every variant that owes something; a `UserError` if a replica of one fits on no node."""
    sweep, store = plan.sweep, plan.sweep.store
    taken = {
        name: resources.replica_resources(variant.cluster, variant.kind, nodes.now())
        for name, variant in sweep.variants.items()
        if still_needed(plan.cells_of(name), stopping)
    }
    reasons = {name: resources.why_unschedulable(one, nodes.now()) for name, one in taken.items()}
    if unplaced := [f"{name}: {reason}" for name, reason in reasons.items() if reason]:
        raise UserError(f"The Ray cluster cannot fit these replicas: {'; '.join(unplaced)}.")
    references = {key: (ray.put(sweep.built.pop(key)),) for key in list(sweep.built)}  # Ray keeps them now
    work = []
    for name, own in taken.items():
        job = Job(
            variant=sweep.variants[name],
            resources=own,
            sampling=sweep.config.sampling,
            prompt=sweep.config.prompt,
            store_url=str(store.local_folder or store.url),
            owner=owner(store),
            tasks={task: one.spec for task, one in sweep.tasks.items()},
            items={task: references[sweep.renderings[name], task] for task in sweep.tasks},
            columns=plan.columns,
            software=plan.software,
            deciding_metrics=dict(stopping.deciding_metrics),
            scored=(sweep.config.baseline, plan.manifest["fidelity"]["top"]) if sweep.scored_items else None,
        )
        cells = plan.cells_of(name)
        owed = sum((cell.owed_by_temperature for cell in cells), Counter[float]())  # leaves out zeros
        work.append(VariantWork(job, BlockQueue(in_order_of_work(cells), owed)))
    return work


def _record(plan: Plan, progress: SweepProgress, heartbeat: Heartbeat) -> Callable[[SoftwareEntry], str]:
    """Adds what will write samples to the manifest; returns the ID that the samples are to name."""
    store, known = plan.sweep.store, plan.manifest["software"]
    holder = owner(store)

    def write() -> None:
        if owner(store) == holder:  # the manifest of another submit is not ours to replace
            store.write_manifest(plan.manifest)

    def record(entry: SoftwareEntry) -> str:
        name = software_id(entry)
        if name not in known:
            known[name] = entry
            try:
                retry_storage(write, lambda why: heartbeat.log({"event": "manifest failed", "reason": why}))
            except OSError as error:  # samples would name what nobody explains
                progress.stop = f"the manifest cannot be written ({error_text(error)})"
        return name

    return record


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

    What the storage does not take is noted; the samples are there, and the next submit does it again. If
    `holder` has the run no longer (`lease.owner`), it is left as it is.
    """
    store, here = plan.sweep.store, {(cell.variant, cell.task) for cell in plan.cells}
    try:
        if owner(store) != holder:
            return
        for name, metrics in progress.metrics.items():
            list_metrics(plan.manifest, plan.sweep.tasks[name], metrics)
        if any(progress.metrics.values()):
            store.write_manifest(plan.manifest)
        old: list[AggregateRow] = []
        with suppress(UserError):  # damaged
            old = store.read_aggregates()
        if progress.written or not old:
            rows = [row for row in old if (row["variant"], row["task"]) not in here]
            rows += [row for variant, task in sorted(here) for row in _aggregates(plan, variant, task)]
            if rows != old:
                store.write_aggregates(rows)
    except OSError as error:
        progress.notes.append(f"scores of corpora were not written ({error_text(error)}): submit again")


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
