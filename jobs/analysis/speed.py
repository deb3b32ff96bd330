"""How fast a variant is, and at what price, beside its baseline: described, never tested.

Both answer the same blocks. A block takes the seconds since its replica finished the one before, and counts
if the batch was full then, on both sides: so neither the first block counts, for which an engine warms up,
nor the last ones, for which it drains. Nothing is compared between different hardware.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from jobs.analysis.compare import Analysis
from jobs.formats.run_files import RunFiles
from orchestrator.config.schema import CostConfig
from orchestrator.rundir.schema import BlockSpeed
from stats.arrays import Floats, Ints
from stats.change import Change, RateChange

Blocks: TypeAlias = Mapping[tuple[str, str], dict[str, Any]]
"""What is known of blocks (`rundir.schema.BlockSpeed`), and their seconds if they count, by task and name."""
RATES = {
    "samples_per_second": ("samples", "seconds", 1.0),
    "tokens_per_second": ("tokens", "seconds", 1.0),
    "cost": ("money", "samples", 1000.0),
}
"""Measurements of blocks: an amount, by what it is divided, and how much of that it is stated for."""


def measure_speed(analysis: Analysis) -> Analysis:
    """An analysis with speed and cost among the changes of its variants, or why there are none."""
    runs, base, alpha = analysis.scores.runs, analysis.baseline, analysis.settings.alpha
    variants = dict.fromkeys(result.variant for result in analysis.results)
    found = {name: compare_speed(runs, (base, name), alpha) for name in variants}
    both = ((result, *found[result.variant]) for result in analysis.results)
    results = (replace(one, changes=(*one.changes, *own), speed_note=note) for one, own, note in both)
    return replace(analysis, results=tuple(results))


def compare_speed(
    runs: Sequence[RunFiles], names: tuple[str, str], alpha: float
) -> tuple[list[Change], str | None]:
    """What can be said of baseline and variant, and a sentence if that is not all."""
    prices = [[run.prices(name) for run in runs if name in run.models][-1:] for name in names]
    if not all(prices) or not all(found := [_blocks(runs, *one) for one in zip(names, prices, strict=True)]):
        return [], None
    sides = [sorted(_hardware(runs, *side)) for side in zip(names, found, strict=True)]
    both = [key for key in found[0] if key in found[1]]
    full = [key for key in both if all("seconds" in blocks[key] for blocks in found)]
    hourly = any(price.hour(1, 1) for (price,) in prices)
    changes, note = list[Change](), None
    if any("" in side for side in sides):
        note = "what computes behind a server is not known"
    elif sides[0] != sides[1] or len(sides[0]) > 1:
        note = f"it ran on {' and '.join(sides[1])}, {names[0]} on {' and '.join(sides[0])}"
    elif not full:
        note = "no block of samples ended in both while a batch was full"
    for name, (amount, by, each) in RATES.items():
        of_tokens = name == "cost" and not hourly  # whatever they were computed on
        if note is None or of_tokens:
            blocks = [[side[key] for key in (both if of_tokens else full)] for side in found]
            values = [np.array([[one[what] for one in own] for what in (amount, by)]) for own in blocks]
            place = {key: number for number, key in enumerate(both if of_tokens else full)}
            order = np.array([place[key] for key in found[1] if key in place])
            changes += _change(name, values, alpha, each, order)
    if note is None:
        for name, summary in (("load_seconds", np.mean), ("peak_gib", np.max)):
            of_replicas = [{one["replica"]: one[name] for one in blocks.values()} for blocks in found]
            values = [np.array([[summary(list(one.values()))], [1.0]]) for one in of_replicas]
            changes += _change(name, values, alpha)
    return changes, note and f"The speed of {names[1]} is not compared with that of {names[0]}: {note}."


def _change(
    name: str, sides: Sequence[Floats], alpha: float, each: float = 1.0, order: Ints | None = None
) -> Iterator[Change]:
    """Amounts and what they are divided by, as `RateChange` takes them, as a measurement if all are known."""
    if all(side.sum(axis=1).all() for side in sides):
        evidence = RateChange(sides[0], sides[1], order)
        means = [each * float(amount / by) for amount, by in (side.sum(axis=1) for side in sides)]
        yield Change(
            measurement=name,
            relative=True,
            items=sides[0].shape[1],
            clusters=None,
            baseline_mean=means[0],
            variant_mean=means[1],
            change=evidence.estimate,
            change_interval=evidence.interval(alpha),
            evidence=evidence,
        )


def _blocks(runs: Sequence[RunFiles], model: str, prices: Sequence[CostConfig]) -> Blocks:
    """All blocks of a model, replica by replica in the order in which they ended."""
    listed = [
        ((f"{run.location} {task}", path.rpartition("/")[2]), run.speeds[path])
        for run in runs
        for task in run.tasks
        for path in run.samples(model, task)
        if path in run.speeds
    ]
    listed.sort(key=lambda pair: (pair[1]["replica"], pair[1]["ended"]))
    blocks: dict[tuple[str, str], dict[str, Any]] = {}
    before: BlockSpeed | None = None
    for key, speed in listed:
        tokens = speed["prompt_tokens"], speed["output_tokens"]
        blocks[key] = {**speed, "tokens": sum(tokens), "money": prices[0].tokens(*tokens)}
        if before is not None and before["replica"] == speed["replica"] and speed["full"]:
            seconds = speed["ended"] - before["ended"]
            hours = prices[0].hour(speed["gpus"], speed["cpus"]) * seconds / 3600.0
            blocks[key] |= {"seconds": seconds, "money": blocks[key]["money"] + hours}
        before = speed
    return blocks


def _hardware(runs: Sequence[RunFiles], model: str, blocks: Blocks) -> set[str]:
    """What a model ran on, as people say it; "" for what is not known."""
    stated = {entry.get("hardware", {}).get("device") for run in runs for entry in run.software(model)}
    taken = {(one["gpus"], one["cpus"]) for one in blocks.values()}
    return {
        (f"{gpus:g} × {device}" if gpus else f"{cpus:g} CPUs of {device}") if device else ""
        for device in stated
        for gpus, cpus in taken
    }
