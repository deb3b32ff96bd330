"""A sweep fitted to the machine it runs on.

What it leaves open is chosen; what cannot run is left out or refused. Only a sweep that runs on this machine
can be fitted: of a Ray cluster elsewhere, this machine's hardware says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.cluster.resources import Node, replica_resources, why_unschedulable
from orchestrator.config.variants import Variant
from orchestrator.errors import UserError
from orchestrator.hardware import Hardware, Obstacle, this_machine


@dataclass
class Fitted:
    """What became of a sweep.

    Attributes:
        variants: those that run, with what was chosen.
        chosen: options that were left open and chosen here, by variant.
        skipped: variants left out, and why.
        notes: what was chosen, as sentences for the user.
        warnings: what runs, but slowly.
        problems: what cannot run.
    """

    variants: dict[str, Variant]
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fit_to_this_machine(variants: Mapping[str, Variant], baseline: str) -> Fitted:
    """Fit a sweep to this machine, if any of its engines computes here."""
    fitted = Fitted(dict(variants))
    local = [variant for variant in variants.values() if not variant.kind.served]
    machine = this_machine() if local else None
    if machine is None:
        return fit_elsewhere(variants, baseline)
    refused: dict[Obstacle, list[str]] = {}
    for variant in local:
        obstacles = [*_obstacles(variant, machine)]
        if obstacles and variant.skip_if_unsupported:
            fitted.skipped[variant.name] = "; ".join(obstacle.reason for obstacle in obstacles)
            del fitted.variants[variant.name]
            continue
        for obstacle in obstacles:
            refused.setdefault(obstacle, []).append(variant.name)
    fitted.problems += [
        f"variants.{', '.join(names)}: {obstacle.reason}; {obstacle.way_out}"
        for obstacle, names in refused.items()
    ]
    _choose_options(fitted, machine)
    fitted.warnings += same_as_baseline(fitted.variants, baseline, machine)
    return fitted


def fit_elsewhere(variants: Mapping[str, Variant], baseline: str) -> Fitted:
    """A sweep that runs on machines that are not known."""
    return Fitted(dict(variants), warnings=same_as_baseline(variants, baseline, None))


def same_as_baseline(variants: Mapping[str, Variant], baseline: str, machine: Hardware | None) -> list[str]:
    """Variants that run as the baseline does, so that they can show nothing; served models have noise.

    Args:
        variants: of the sweep.
        baseline: name of one of them.
        machine: where they run; None if that is not known.
    """

    def settings(variant: Variant) -> tuple[object, ...]:
        on_cpu = machine is not None and _runs_on_cpu(variant, machine)
        effective = variant.kind.effective(machine, on_cpu=on_cpu)
        return variant.model, variant.revision, effective

    if baseline not in variants:
        return []  # already reported
    return [
        f"{name} has the same engine settings as the baseline {baseline}, so comparing them shows "
        "nothing; for a control, change a setting that should not affect answers, such as the batch size"
        for name, variant in variants.items()
        if name != baseline and not variant.kind.served and settings(variant) == settings(variants[baseline])
    ]


def _obstacles(variant: Variant, machine: Hardware) -> Iterator[Obstacle]:
    """Why a machine cannot run a variant: it is too small, or does not support an option."""
    asked, node = variant.cluster, _as_node(machine)
    here = {"resources": {}, "labels": {}, "nodes_per_replica": asked.nodes_per_replica or 1}
    taken = replica_resources(asked.model_copy(update=here), variant.kind, [node])
    if why := why_unschedulable(taken, [node]):
        yield Obstacle(why, "request less, or use --address with a cluster that has such a node")
    yield from variant.kind.obstacles(machine, on_cpu=_runs_on_cpu(variant, machine))


def _runs_on_cpu(variant: Variant, machine: Hardware) -> bool:
    taken = replica_resources(variant.cluster, variant.kind, [_as_node(machine)])
    return variant.kind.runs_on_cpu(taken.gpus)


def _as_node(machine: Hardware) -> Node:
    return Node("here", {"CPU": machine.cpus, "GPU": machine.gpus}, {})


def _choose_options(fitted: Fitted, machine: Hardware) -> None:
    """Choose what the variants leave open, and say what will be slow."""
    slow: dict[str, list[str]] = {}
    variants = fitted.variants
    for name, variant in variants.items():
        if variant.kind.served:
            continue
        on_cpu = _runs_on_cpu(variant, machine)
        if choices := variant.kind.choices(machine, on_cpu=on_cpu):
            fitted.chosen[name] = choices
            variants[name] = replace(variant, options={**variant.options, **choices})
        if reason := variants[name].kind.slow(machine, on_cpu=on_cpu):
            slow.setdefault(reason, []).append(name)
    if fitted.chosen:
        native = machine.native_bfloat16
        how = "bfloat16, which this CPU supports" if native else "float32: this CPU only emulates bfloat16"
        fitted.notes.append(f"Engines compute in {how}; set engine.dtype to change this.")
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
    for name, option, ours in (
        (name, option, ours)
        for name, choices in fitted.chosen.items()
        if name in recorded
        for option, ours in choices.items()
    ):
        theirs = recorded[name]["engine"].get(option)
        if theirs == ours:
            continue
        used = f"{option} {theirs}" if theirs else f"the {option} chosen by its engine"
        same = f"--set engine.{option}={theirs}" if theirs else "the machine or cluster where it started"
        raise UserError(
            f"Variant {name} of this run uses {used}, but this machine would choose {ours}: to resume "
            f"use {same}, or start a new run: {again}"
        )
