"""The plan of a run that stops its variants early: fixed by the first submit, the same for every later one.

A test at several looks keeps its level only if everything that decides it was fixed before the first answer.
So what may grow in other runs (items, seeds, temperatures, variants) may not grow in such a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.config.schema import SpendingConfig, StoppingConfig
from orchestrator.errors import UserError
from orchestrator.rundir.identity import differences
from stats.sequential.plan import asking_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.rundir.identity import Item
    from orchestrator.rundir.schema import Manifest, StoppingEntry
    from orchestrator.sweep.prepare import Sweep
    from orchestrator.sweep.tasks import SweepTask, TaskItems

ORDER_SEED = 0


def stopping_entry(
    old: Manifest | None, new: Manifest, sweep: Sweep, command: str, *, finish: bool
) -> StoppingEntry | None:
    """How a run stops its variants early.

    Args:
        old: the manifest found in the run directory; None for a new run.
        new: the manifest of this submit.
        sweep: what is asked for. A run that stops early goes on doing so if that is no longer asked for.
        command: a command that would run the changed sweep in a new directory.
        finish: whether to answer the samples that decisions have left out.

    Returns:
        None if every planned sample is needed.

    Raises:
        UserError: the plan differs from that of an earlier submit, or there is nothing to finish.
    """
    known = old.get("stopping") if old else None
    if old is None or known is None:
        if finish:
            raise UserError("--finish is for runs that stop early, and this one answers every sample anyway.")
        if old is not None and sweep.config.stopping:
            raise UserError(
                "Stopping early cannot be added to a run that was started without it, because its answers "
                f"may have been seen. Start a new run: {command}"
            )
        return _entry(new, sweep, sweep.config.stopping) if sweep.config.stopping else None
    entry = _entry(new, sweep, sweep.config.stopping or _asked_before(known))
    changes = [*differences({**known, "finished": None}, {**entry, "finished": None}, ["stopping"])]
    changes += differences(_sizes(old), _sizes(new), ["tasks"])
    if changes:
        raise UserError(
            "The run stops its variants early by a plan that must not change; changed: "
            f"{'; '.join(changes)}. Undo the changes, or start a new run: {command}"
        )
    return {**known, "finished": True} if finish else known


def _entry(manifest: Manifest, sweep: Sweep, stopping: StoppingConfig) -> StoppingEntry:
    metrics = {name: entry["metric"] for name, entry in manifest["tasks"].items() if entry["metric"]}
    if not metrics:
        raise UserError("stopping: none of the tasks has a metric with a number per sample to decide by.")
    temperatures = dict.fromkeys(t for name in metrics for t, _ in manifest["tasks"][name]["reruns"])
    variants = [name for name in sweep.variants if name != sweep.config.baseline]
    if not variants:
        raise UserError("stopping: there is no variant to compare with the baseline, so nothing to decide.")
    analysis = sweep.config.analysis
    return {
        "looks": stopping.looks,
        "until": stopping.until,
        "spending": {"degraded": stopping.spending.degraded, "certified": stopping.spending.certified},
        "alpha": analysis.alpha,
        "margin": analysis.margin,
        "comparisons": [(variant, float(t or 0.0)) for variant in variants for t in temperatures],
        "metrics": metrics,
        "seed": ORDER_SEED,
    }


def _asked_before(entry: StoppingEntry) -> StoppingConfig:
    spending = SpendingConfig(**entry["spending"])
    return StoppingConfig(looks=entry["looks"], until=entry["until"], spending=spending)


def _sizes(manifest: Manifest) -> Mapping[str, Any]:
    """Items and reruns of every task."""
    return {
        name: {"items": entry["items"], "reruns": entry["reruns"]}
        for name, entry in manifest["tasks"].items()
    }


def in_order(task: SweepTask, built: TaskItems, entry: StoppingEntry | None) -> tuple[Item, ...]:
    """The items of a task in the order in which they are asked.

    Args:
        task: the task.
        built: its items, with the prompts of one rendering.
        entry: how the run stops early; None keeps the order of the task.
    """
    items = tuple(built.items())
    if entry is None:
        return items
    clusters = [task.cluster_of(requests[0].doc) for requests in built.requests.values()]
    order = asking_order((item.doc_hash for item in items), clusters, entry["seed"])
    return tuple(items[place] for place in order)
