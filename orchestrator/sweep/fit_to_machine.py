"""A sweep fitted to the machine it runs on.

What it leaves open is chosen; what cannot run is left out or refused. Only a sweep that runs on this machine
can be fitted: of a Ray cluster elsewhere, this machine's hardware says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.resources import Node, replica_resources, why_unschedulable
from orchestrator.engines import kind_of
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
        chosen: options that were left open and chosen here, by variant.
        skipped: variants left out, and why.
        notes: what was chosen, as sentences for the user.
        warnings: what runs, but slowly.
        problems: what cannot run.
    """

    config: SweepConfig
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fit_to_this_machine(config: SweepConfig) -> Fitted:
    """Fit a sweep to this machine, if any of its engines computes here."""
    fitted = Fitted(config)
    local = [name for name in config.variants if not kind_of(config.engine_of(name)).served]
    machine = this_machine() if local else None
    if machine is None:
        return fit_elsewhere(config)
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
    _choose_options(fitted, [name for name in local if name in kept], machine)
    fitted.warnings += same_as_baseline(fitted.config, machine)
    return fitted


def fit_elsewhere(config: SweepConfig) -> Fitted:
    """A sweep that runs on machines that are not known."""
    return Fitted(config, warnings=same_as_baseline(config, None))


def same_as_baseline(config: SweepConfig, machine: Hardware | None) -> list[str]:
    """Variants that run as the baseline does, so that they can show nothing; served models have noise.

    Args:
        config: the sweep.
        machine: where it runs; None if that is not known.
    """
    if config.baseline not in config.variants:
        return []  # already reported
    baseline = _settings(config, config.baseline, machine)
    return [
        f"{name} has the same engine settings as the baseline {config.baseline}, so comparing them shows "
        "nothing; for a control, change a setting that should not affect answers, such as the batch size"
        for name in config.variants
        if name != config.baseline
        and not kind_of(config.engine_of(name)).served
        and _settings(config, name, machine) == baseline
    ]


def _settings(config: SweepConfig, variant: str, machine: Hardware | None) -> tuple[object, ...]:
    """All that decides the answers of a variant."""
    options = config.engine_of(variant)
    on_cpu = machine is not None and _runs_on_cpu(config, variant, machine)
    effective = kind_of(options).effective(options, machine, on_cpu=on_cpu)
    return config.model_of(variant), config.revision_of(variant), effective


def _unsupported(config: SweepConfig, variant: str, machine: Hardware) -> Iterator[Obstacle]:
    options = config.engine_of(variant)
    return kind_of(options).obstacles(options, machine, on_cpu=_runs_on_cpu(config, variant, machine))


def _too_large(config: SweepConfig, variant: str, machine: Hardware) -> Iterator[Obstacle]:
    asked = config.cluster_of(variant)
    here = {"resources": {}, "labels": {}, "nodes_per_replica": asked.nodes_per_replica or 1}
    cluster = asked.model_copy(update=here)
    node = _as_node(machine)
    if why := why_unschedulable(replica_resources(cluster, config.engine_of(variant), [node]), [node]):
        yield Obstacle(why, "request less, or use --address with a cluster that has such a node")


def _runs_on_cpu(config: SweepConfig, variant: str, machine: Hardware) -> bool:
    options = config.engine_of(variant)
    taken = replica_resources(config.cluster_of(variant), options, [_as_node(machine)])
    return kind_of(options).runs_on_cpu(taken.gpus)


def _as_node(machine: Hardware) -> Node:
    return Node("here", {"CPU": machine.cpus, "GPU": machine.gpus}, {})


def _choose_options(fitted: Fitted, variants: Sequence[str], machine: Hardware) -> None:
    """Choose what the variants leave open, and say what will be slow."""
    slow: dict[str, list[str]] = {}
    entries = dict(fitted.config.variants)
    for name in variants:
        options = fitted.config.engine_of(name)
        kind, on_cpu = kind_of(options), _runs_on_cpu(fitted.config, name, machine)
        if choices := kind.choices(options, machine, on_cpu=on_cpu):
            fitted.chosen[name] = choices
            engine = {**entries[name].engine, **choices}
            entries[name] = entries[name].model_copy(update={"engine": engine})
        if reason := kind.slow({**options, **choices}, machine, on_cpu=on_cpu):
            slow.setdefault(reason, []).append(name)
    fitted.config = fitted.config.model_copy(update={"variants": entries})
    fitted.notes += dict.fromkeys(
        kind_of(fitted.config.engine_of(name)).explain_choices(machine) for name in fitted.chosen
    )
    fitted.warnings += [f"{reason} ({', '.join(names)})" for reason, names in slow.items()]


def refuse_other_choices(fitted: Fitted, recorded: Mapping[str, Any], again: str) -> None:
    """Refuse to resume a run for which another machine chose otherwise.

    Args:
        fitted: the sweep to resume.
        recorded: the variants of the run's manifest.
        again: a command that would run the sweep in a new directory.

    Raises:
        UserError: says what to set to resume.
    """
    for name, choices in fitted.chosen.items():
        if name not in recorded:
            continue
        for option, ours in choices.items():
            theirs = recorded[name]["engine"].get(option)
            if theirs == ours:
                continue
            used = f"{option} {theirs}" if theirs else f"the {option} chosen by its engine"
            same = f"--set engine.{option}={theirs}" if theirs else "the machine or cluster where it started"
            raise UserError(
                f"Variant {name} of this run uses {used}, but this machine would choose {ours}: to resume "
                f"use {same}, or start a new run: {again}"
            )
