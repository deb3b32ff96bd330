"""A sweep fitted to the machine it runs on.

What it leaves open is chosen; what cannot run is left out or refused. Only a sweep that runs on this machine
can be fitted: of a Ray cluster elsewhere, this machine's hardware says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.resources import Node, replica_resources, why_unschedulable
from orchestrator.engines import is_served
from orchestrator.engines.on_cpu import is_slow, number_format, obstacles
from orchestrator.errors import UserError
from orchestrator.hardware import Obstacle, this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orchestrator.config.schema import SweepConfig
    from orchestrator.hardware import Hardware


@dataclass
class Fitted:
    """What became of a sweep.

    Attributes:
        config: the sweep, without the variants that are left out, and with what was chosen.
        chosen: variants whose number format was chosen here.
        skipped: variants left out, and why.
        notes: what was chosen, for the user to know.
        warnings: what runs, but slowly.
        problems: what cannot run.
    """

    config: SweepConfig
    chosen: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fit_to_this_machine(config: SweepConfig) -> Fitted:
    """Fit a sweep to this machine, if any of its engines computes here."""
    fitted = Fitted(config)
    local = [name for name in config.variants if not is_served(config.engine_of(name))]
    machine = this_machine() if local else None
    if machine is None:
        return fitted
    refused: dict[Obstacle, list[str]] = {}
    for name in local:
        found = [*_too_large(config, name, machine), *_unsupported(config, name, machine)]
        if found and config.variants[name].skip_if_unsupported:
            fitted.skipped[name] = "; ".join(obstacle.reason for obstacle in found)
            continue
        for obstacle in found:
            refused.setdefault(obstacle, []).append(name)
    fitted.problems += [
        f"variants.{', '.join(names)}: {obstacle.reason}; {obstacle.way_out}"
        for obstacle, names in refused.items()
    ]
    kept = {name: entry for name, entry in config.variants.items() if name not in fitted.skipped}
    fitted.config = config.model_copy(update={"variants": kept})
    _choose_formats(fitted, [name for name in local if name in kept], machine)
    return fitted


def _unsupported(config: SweepConfig, variant: str, machine: Hardware) -> Iterator[Obstacle]:
    options = config.engine_of(variant)
    if str(options.get("device", "")).startswith("cuda") and not machine.gpus:
        yield Obstacle(f"device: {options['device']} needs a GPU, and this machine has none", "remove it")
    if _runs_on_cpu(config, variant, machine):
        yield from obstacles(options, machine)


def _too_large(config: SweepConfig, variant: str, machine: Hardware) -> Iterator[Obstacle]:
    cluster = config.cluster_of(variant).model_copy(update={"resources": {}, "labels": {}})
    node = _as_node(machine)
    if why := why_unschedulable(replica_resources(cluster, config.engine_of(variant), [node]), [node]):
        yield Obstacle(why, "ask for less, or give --address a cluster with such a node")


def _runs_on_cpu(config: SweepConfig, variant: str, machine: Hardware) -> bool:
    node = _as_node(machine)
    return replica_resources(config.cluster_of(variant), config.engine_of(variant), [node]).gpus == 0


def _as_node(machine: Hardware) -> Node:
    return Node("here", {"CPU": machine.cpus, "GPU": machine.gpus}, {})


def _choose_formats(fitted: Fitted, variants: Sequence[str], machine: Hardware) -> None:
    """Choose the number format of engines on the CPU where it is left open."""
    config = fitted.config
    on_cpu = [name for name in variants if _runs_on_cpu(config, name, machine)]
    chosen = {name: number_format(config.engine_of(name), machine) for name in on_cpu}
    entries = {
        name: entry.model_copy(update={"engine": {**entry.engine, "dtype": chosen[name]}})
        if chosen.get(name)
        else entry
        for name, entry in config.variants.items()
    }
    fitted.config = config.model_copy(update={"variants": entries})
    fitted.chosen = [name for name in on_cpu if chosen[name]]
    if fitted.chosen:
        fitted.notes.append(_reason(machine))
    if slow := [name for name in on_cpu if is_slow(fitted.config.engine_of(name), machine)]:
        fitted.warnings.append(
            f"this CPU emulates bfloat16 and float16, which is several times slower than float32; "
            f"the dtype of {', '.join(slow)} is one of them"
        )


def _reason(machine: Hardware) -> str:
    if machine.native_bfloat16:
        return "Engines compute in bfloat16, which this CPU has; engine.dtype chooses otherwise."
    return "Engines compute in float32: this CPU only emulates bfloat16; engine.dtype chooses otherwise."


def refuse_other_format(fitted: Fitted, recorded: Mapping[str, Any], again: str) -> None:
    """Refuse to go on with a run whose engines computed in a format that this machine would not choose.

    Args:
        fitted: the sweep that is to go on.
        recorded: the variants of the run's manifest.
        again: a command that would run the sweep in a directory of its own.

    Raises:
        UserError: says what to set to go on.
    """
    for name in fitted.chosen:
        ours = fitted.config.engine_of(name)["dtype"]
        theirs = recorded[name]["engine"].get("dtype") if name in recorded else ours
        if theirs == ours:
            continue
        began = (
            f"variant {name} of this run computes in {theirs or 'the number format that its engine chose'}"
        )
        go_on = f"--set engine.dtype={theirs}" if theirs else "the machine or cluster where it began"
        raise UserError(
            f"{began[0].upper()}{began[1:]}, and where dtype is left open this machine chooses {ours}: "
            f"to go on with it use {go_on}, or start a run of its own: {again}"
        )
