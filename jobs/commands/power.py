"""`lldeg power`: what a comparison can show, before anyone pays for it.

Planning needs three numbers: the items, the flip rate (from `lldeg flips` on an earlier run, or from a
similar change), and how much of the flip rate is noise that reruns average out. The answer comes in items,
samples and, where a throughput is known, GPU-hours, for several numbers of reruns side by side.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Annotated

import numpy as np
from rich.table import Table
from typer import Option

from jobs.text.format import detectable_text, points_text
from jobs.text.terminal import plain_table, terminal
from orchestrator.errors import UserError
from orchestrator.rundir.schema import MOST_LOOKS
from stats.planning import Design
from stats.sequential.boundaries import Stopping, Until
from stats.sequential.paths import expected_course
from stats.sequential.plan import SequentialPlan
from stats.tasks.combinations import Combine, default_first
from stats.tasks.power import power_over_tasks

RERUNS = (1, 2, 3, 5, 10)


def power(
    *,
    items: Annotated[int, Option(metavar="N", help="Number of items over all tasks.")],
    flip_rate: Annotated[
        float,
        Option(
            metavar="P",
            help="Share of items on which one run of the baseline and one of the variant disagree.",
        ),
    ],
    drop: Annotated[
        float | None, Option(metavar="D", help="True drop to plan for, as a share: 0.01 is one point.")
    ] = None,
    reruns: Annotated[int, Option(metavar="K", help="Reruns per item, for each model.")] = 1,
    tasks: Annotated[int, Option(metavar="T", help="Number of tasks, of equal size.")] = 1,
    combine: Annotated[Combine, Option(help="Test over the tasks, as in `lldeg analyze`.")] = Design.combine,
    noise_rate: Annotated[
        float | None,
        Option(metavar="P0", help="Share of items on which two runs of the baseline disagree; default: P."),
    ] = None,
    alpha: Annotated[float, Option(metavar="A", help="False alarm rate.")] = 0.05,
    chance: Annotated[
        float, Option("--power", metavar="B", help="Probability of detection to plan for.")
    ] = 0.8,
    throughput: Annotated[
        float | None, Option(metavar="R", help="Samples per second on one GPU; adds GPU-hours.")
    ] = None,
    looks: Annotated[
        int | None,
        Option(
            metavar="K",
            min=2,
            max=MOST_LOOKS,
            help="Stop early at one of K looks; adds the expected samples.",
        ),
    ] = None,
    until: Annotated[
        Until, Option(help="With --looks: stop for damage only, or also for a certificate.")
    ] = Stopping.until,
    margin: Annotated[
        float, Option(metavar="M", help="With --until decided: largest acceptable drop, as a share.")
    ] = SequentialPlan.margin,
) -> None:
    """Plan a comparison: the drops it can detect, and the items and samples that a drop needs.

    For example:

        lldeg power --items 5000 --flip-rate 0.09

        lldeg power --items 5000 --flip-rate 0.09 --noise-rate 0.06 --drop 0.005 --tasks 6 --throughput 40

        lldeg power --items 5000 --flip-rate 0.09 --drop 0.01 --looks 10 --until decided
    """
    if throughput is not None and not 0 < throughput < inf:
        raise UserError("--throughput, in samples per second, must be positive.")
    if items < 1:
        raise UserError(f"--items must be at least 1, but is {items}.")
    if not 1 <= tasks <= items:
        raise UserError(f"--tasks must be between 1 and the number of items, but is {tasks}.")
    console = terminal()
    try:
        equal = (1.0 / tasks,) * tasks
        design = Design(items, flip_rate, reruns, noise_rate, alpha, chance, equal, combine)
        stopping = None if looks is None else Stopping(looks, until)
        for line in _lines(design, drop, stopping, margin):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(_rerun_table(design, drop, throughput))
    except ValueError as error:
        raise UserError(str(error)) from error


def _lines(design: Design, drop: float | None, stopping: Stopping | None, margin: float) -> Iterator[str]:
    """What the design detects, over all items, in single tasks, and with looks."""
    runs = f"{design.reruns} runs" if design.reruns > 1 else "one run"
    yield (
        f"{design.items:,} items, {runs} of each model, flip rate {design.flip_rate:.2%}, one-sided level "
        f"{design.alpha:g}."
    )
    test = f" by the {design.combine} test over {len(design.tasks)} tasks" if len(design.tasks) > 1 else ""
    smallest = detectable_text(design.detectable_drop())
    yield f"Smallest drop detected with power {design.power:g}{test}: {smallest}."
    if drop is not None:
        yield f"Power to detect a drop of {points_text(drop)}: {design.power_at(drop):.3f}."
        formula = int(np.ceil(design.items_by_formula(drop)))
        yield (
            f"Items needed to detect it with power {design.power:g}: {design.items_for(drop):,} "
            f"({formula:,} by the large-sample formula)."
        )
    if len(design.tasks) > 1:
        yield from _over_tasks(design, drop)
    if stopping is None:
        return
    if not 0.0 < margin < 1.0:
        raise UserError(f"--margin must be between 0 and 1, but is {margin:g}.")
    yield f"Stopping early at one of {stopping.looks} looks, until {stopping.until}:"
    for assumed in (0.0, *([] if drop is None else [drop])):
        power, certificate, used = expected_course(design, assumed, stopping, margin)
        what = f"a drop of {points_text(assumed)}" if assumed else "no drop"
        certified = f", certified {certificate:.3f}" if stopping.until == "decided" else ""
        share = f"{100 * used:.0f} % of the variant's samples expected"
        yield f"  {what}: degraded {power:.3f}{certified}; {share}."


def _over_tasks(design: Design, drop: float | None) -> Iterator[str]:
    """How the tests over tasks share the power, for damage on all tasks and on one."""
    tasks = len(design.tasks)
    level = 1 - (1 - design.alpha) ** (1 / tasks)
    alone = replace(design, items=design.items // tasks, alpha=level, tasks=(1.0,))
    yield (
        f"In a single one of {tasks} tasks of {alone.items:,} items, at a level corrected for the number of "
        f"tasks: {detectable_text(alone.detectable_drop())}."
    )
    if drop is None:
        return
    yield f"Power over {tasks} tasks:"
    cases = {"drop spread over all tasks": np.full(tasks, drop)}
    if drop * tasks <= design.largest_drop:
        cases["entire drop in one task"] = np.where(np.arange(tasks) == 0, drop * tasks, 0.0)
    for where, drops in cases.items():
        powers = [
            f"{test.title} {power_over_tasks(design.shapes(drop), drops, design.alpha, test.name):.3f}"
            for test in default_first("joint")
            if test.keeps_level or test.name == design.combine
        ]
        yield f"  {where}: {', '.join(powers)}."


def _rerun_table(design: Design, drop: float | None, throughput: float | None) -> Table:
    """Drops and costs for several numbers of reruns; costs are of baseline and variant together."""
    hours = [] if throughput is None else ["GPU-hours"]
    headings = ["reruns", "smallest drop", "samples", *hours]
    headings += [] if drop is None else [f"items for {points_text(drop)}", "samples", *hours]
    rows = []

    def cost(items: int, reruns: int) -> list[str]:
        samples = 2 * items * reruns
        return [f"{samples:,}", *([] if throughput is None else [f"{samples / throughput / 3600:.2g}"])]

    for reruns in sorted({*RERUNS, design.reruns}):
        own = replace(design, reruns=reruns)
        row = [str(reruns), detectable_text(own.detectable_drop()), *cost(own.items, reruns)]
        if drop is not None and drop > own.largest_drop:
            row += ["", "", *([] if throughput is None else [""])]  # so many reruns leave too little variance
        elif drop is not None:
            needed = own.items_for(drop)
            row += [f"{needed:,}", *cost(needed, reruns)]
        rows.append(row)
    return plain_table(headings, rows)
