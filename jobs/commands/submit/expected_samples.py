"""Which share of its samples a variant is expected to use in a sweep that stops early."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.analysis.sequential.run_plan import stopping_of
from jobs.commands.power import points_text
from stats.sequential.planning import expected_course

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.rundir.schema import StoppingEntry
    from stats.planning import Design

DROP = 0.02
"""The drop that is assumed, unless so few answers flip that there can only be a smaller one."""


def expected_share(entry: StoppingEntry, design: Design, drop: float) -> float:
    """Share of a variant's samples that are expected to be used before it is decided, or at the end.

    Args:
        entry: the plan of the run.
        design: items, flip rate and reruns of all tasks together.
        drop: the true drop.

    Raises:
        ValueError: if the flip rate does not allow the drop.
    """
    whole = replace(design, alpha=entry["alpha"])
    comparisons = len(entry["comparisons"])
    return expected_course(whole, drop, stopping_of(entry), entry["margin"], comparisons).share


def expected_shares(entry: StoppingEntry, designs: Mapping[float, Design]) -> tuple[float, float]:
    """Shares of a sweep's samples that are expected to be used: if there is a drop, and if there is none."""
    with_drop, without = (
        [expected_share(entry, design, drop) for design in designs.values()]
        for drop in (_assumed(designs), 0.0)
    )
    return sum(with_drop) / len(with_drop), sum(without) / len(without)


def _assumed(designs: Mapping[float, Design]) -> float:
    return min(DROP, *(design.largest_drop for design in designs.values()))


def expectation(entry: StoppingEntry, designs: Mapping[float, Design]) -> str:
    """What stopping early is expected to save, as a sentence.

    Args:
        entry: the plan of the run.
        designs: by temperature, all tasks together.
    """
    drop = _assumed(designs)
    with_drop, without = (_shares(entry, designs, assumed) for assumed in (drop, 0.0))
    return (
        f"Stopping early, until {entry['until']}: expected to use {with_drop} of a variant's samples if the "
        f"drop is {points_text(round(drop, 4))}; {without} without a drop."
    )


def _shares(entry: StoppingEntry, designs: Mapping[float, Design], drop: float) -> str:
    several = len(designs) > 1
    return ", ".join(
        f"{100 * expected_share(entry, design, drop):.0f} %{f' (T {temperature:g})' if several else ''}"
        for temperature, design in designs.items()
    )
