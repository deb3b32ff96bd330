"""A sweep fitted to the machine it runs on.

What it leaves open is chosen; what cannot run is left out or refused. Only a sweep that runs on this machine
can be fitted: of a Ray cluster elsewhere, this machine's hardware says nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.cluster import resources
from orchestrator.config.load import Variant
from orchestrator.errors import UserError
from orchestrator.extras import lacking
from orchestrator.hardware import Hardware, Obstacle, this_machine


class Fitted:
    """What becomes of a sweep on this machine, or elsewhere."""

    def __init__(self, variants: Mapping[str, Variant], baseline: str, *, here: bool = True) -> None:
        self.variants = dict(variants)  # those that run, with what was chosen
        self.chosen: dict[str, dict[str, Any]] = {}  # options that were left open, by variant
        self.skipped: dict[str, str] = {}  # variants left out, and why
        self.notes: list[str] = []  # what was chosen, as sentences for the user
        self.warnings: list[str] = []  # what runs, but slowly
        self.problems: list[str] = []  # what cannot run
        local = [variant for variant in variants.values() if not variant.kind.served]
        for variant in local if here else ():
            needed = None if variant.python or variant.image else variant.kind.extra
            if needed and (why := lacking(needed, "its engine")):
                self.problems.append(f"variants.{variant.name}: {why.removesuffix('.')}")
        machine = this_machine() if here and local else None
        if machine is not None:
            self._leave_out(local, machine)
            self._choose_options(machine)
        self.warnings += same_as_baseline(self.variants, baseline, machine)

    def _leave_out(self, local: list[Variant], machine: Hardware) -> None:
        """Leave out or refuse what the machine cannot run: it is too small, or lacks what an option needs."""
        refused: dict[Obstacle, list[str]] = {}
        for variant in local:
            asked, node = variant.cluster, _as_node(machine)
            here = {"resources": {}, "labels": {}, "nodes_per_replica": asked.nodes_per_replica or 1}
            taken = resources.replica_resources(asked.model_copy(update=here), variant.kind, [node])
            obstacles = list(variant.kind.obstacles(machine, on_cpu=_runs_on_cpu(variant, machine)))
            if why := resources.why_unschedulable(taken, [node]):
                way_out = "request less, or use --address with a cluster that has such a node"
                obstacles.insert(0, (why, way_out))
            if obstacles and variant.skip_if_unsupported:
                self.skipped[variant.name] = "; ".join(reason for reason, _ in obstacles)
                del self.variants[variant.name]
                continue
            for obstacle in obstacles:
                refused.setdefault(obstacle, []).append(variant.name)
        for (reason, way_out), names in refused.items():
            self.problems.append(f"variants.{', '.join(names)}: {reason}; {way_out}")

    def _choose_options(self, machine: Hardware) -> None:
        """Choose what the variants leave open, and say what will be slow."""
        slow: dict[str, list[str]] = {}
        for name, variant in self.variants.items():
            if variant.kind.served:
                continue
            on_cpu = _runs_on_cpu(variant, machine)
            if choices := variant.kind.choices(machine, on_cpu=on_cpu):
                self.chosen[name] = choices
                self.variants[name] = replace(variant, options={**variant.options, **choices})
            if reason := self.variants[name].kind.slow(machine, on_cpu=on_cpu):
                slow.setdefault(reason, []).append(name)
        if self.chosen:
            native = machine.native_bfloat16
            how = (
                "bfloat16, which this CPU supports" if native else "float32: this CPU only emulates bfloat16"
            )
            self.notes.append(f"Engines compute in {how}; set engine.dtype to change this.")
        self.warnings += [f"{reason} ({', '.join(names)})" for reason, names in slow.items()]

    def refuse_other_choices(self, recorded: Mapping[str, Any], again: str) -> None:
        """Refuse to resume a run for which another machine chose otherwise; a UserError says what to set."""
        for name, choices in self.chosen.items():
            for option, ours in choices.items():
                theirs = recorded[name]["engine"].get(option) if name in recorded else ours
                if theirs == ours:
                    continue
                used = f"{option} {theirs}" if theirs else f"the {option} chosen by its engine"
                where = "the machine or cluster where it started"
                same = f"--set engine.{option}={theirs}" if theirs else where
                raise UserError(
                    f"Variant {name} of this run uses {used}, but this machine would choose {ours}: "
                    f"to resume use {same}, or start a new run: {again}"
                )


def same_as_baseline(variants: Mapping[str, Variant], baseline: str, machine: Hardware | None) -> list[str]:
    """Variants that run as the baseline does, so that they can show nothing; served models have noise.

    The machine is None where it is not known.
    """

    def settings(variant: Variant) -> tuple[object, ...]:
        on_cpu = machine is not None and _runs_on_cpu(variant, machine)
        return variant.model, variant.revision, variant.kind.effective(machine, on_cpu=on_cpu)

    if baseline not in variants:
        return []  # already reported
    return [
        f"{name} has the same engine settings as the baseline {baseline}, so comparing them shows "
        "nothing; for a control, change a setting that should not affect answers, such as the batch size"
        for name, variant in variants.items()
        if name != baseline and not variant.kind.served and settings(variant) == settings(variants[baseline])
    ]


def _runs_on_cpu(variant: Variant, machine: Hardware) -> bool:
    taken = resources.replica_resources(variant.cluster, variant.kind, [_as_node(machine)])
    return variant.kind.runs_on_cpu(taken.gpus)


def _as_node(machine: Hardware) -> resources.Node:
    return resources.Node("here", {"CPU": machine.cpus, "GPU": machine.gpus}, {})
