"""`lldeg power`: what a comparison can show, before anyone pays for it.

Planning needs three numbers: the items, the flip rate (from `lldeg flips` on an earlier run, or from a
similar change), and how much of the flip rate is noise that reruns average out. The answer comes in items,
samples and, where a throughput is known, GPU-hours, for several numbers of reruns side by side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from jobs.text.format import detectable_text, points_text
from jobs.text.terminal import plain_table, terminal
from orchestrator.errors import UserError
from orchestrator.rundir.schema import MOST_LOOKS
from stats.planning import Design, expected_course, task_power
from stats.sequential.boundaries import Stopping, Until
from stats.sequential.plan import SequentialPlan
from stats.tasks.combinations import Combine

RERUNS = (1, 2, 3, 5, 10)


def power(
    *,
    items: Annotated[int, typer.Option(metavar="N", help="Number of items over all tasks.")],
    flip_rate: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Share of items on which one run of the baseline and one of the variant disagree.",
        ),
    ],
    drop: Annotated[
        float | None,
        typer.Option(metavar="D", help="True drop to plan for, as a share: 0.01 is one point."),
    ] = None,
    reruns: Annotated[int, typer.Option(metavar="K", help="Reruns per item, for each model.")] = 1,
    tasks: Annotated[int, typer.Option(metavar="T", help="Number of tasks, of equal size.")] = 1,
    noise_rate: Annotated[
        float | None,
        typer.Option(
            metavar="P0", help="Share of items on which two runs of the baseline disagree; default: P."
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(metavar="A", help="False alarm rate.")] = 0.05,
    chance: Annotated[
        float, typer.Option("--power", metavar="B", help="Probability of detection to plan for.")
    ] = 0.8,
    throughput: Annotated[
        float | None, typer.Option(metavar="R", help="Samples per second on one GPU; adds GPU-hours.")
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=2,
            max=MOST_LOOKS,
            help="Stop early at one of K looks; adds the expected samples.",
        ),
    ] = None,
    until: Annotated[
        Until, typer.Option(help="With --looks: stop for damage only, or also for a certificate.")
    ] = Stopping.until,
    margin: Annotated[
        float, typer.Option(metavar="M", help="With --until decided: largest acceptable drop, as a share.")
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
    if not 1 <= tasks <= items:
        raise UserError(f"--tasks must be between 1 and the number of items, but is {tasks}.")
    console = terminal()
    try:
        design = Design(items, flip_rate, reruns, noise_rate, alpha, chance)
        for line in (*_summary(design, drop), *_over_tasks(design, drop, tasks)):
            console.print(line, highlight=False, soft_wrap=True)
        if looks is not None:
            for line in _stopping_early(design, drop, Stopping(looks, until), margin):
                console.print(line, highlight=False, soft_wrap=True)
        console.print(_rerun_table(design, drop, throughput))
    except ValueError as error:
        raise UserError(str(error)) from error


def _summary(design: Design, drop: float | None) -> Iterator[str]:
    runs = f"{design.reruns} runs" if design.reruns > 1 else "one run"
    yield (
        f"{design.items:,} items, {runs} of each model, flip rate {design.flip_rate:.2%}, one-sided level "
        f"{design.alpha:g}."
    )
    yield f"Smallest drop detected with power {design.power:g}: {detectable_text(design.detectable_drop())}."
    if drop is not None:
        yield f"Power to detect a drop of {100 * drop:g} points: {design.power_at(drop):.3f}."
        formula = int(np.ceil(design.items_by_formula(drop)))
        yield (
            f"Items needed to detect it with power {design.power:g}: {design.items_for(drop):,} "
            f"({formula:,} by the large-sample formula)."
        )


def _stopping_early(design: Design, drop: float | None, stopping: Stopping, margin: float) -> Iterator[str]:
    """Power, and the share of the samples that is used, with and without a drop."""
    if not 0.0 < margin < 1.0:
        raise UserError(f"--margin must be between 0 and 1, but is {margin:g}.")
    yield f"Stopping early at one of {stopping.looks} looks, until {stopping.until}:"
    for assumed in (0.0, *([] if drop is None else [drop])):
        degraded, certified, used = expected_course(design, assumed, stopping, margin)
        what = f"a drop of {points_text(assumed)}" if assumed else "no drop"
        passed = f", certified {certified:.3f}" if stopping.until == "decided" else ""
        share = f"{100 * used:.0f} % of the variant's samples expected"
        yield f"  {what}: degraded {degraded:.3f}{passed}; {share}."


def _over_tasks(design: Design, drop: float | None, tasks: int) -> Iterator[str]:
    """How the tests over tasks share the power, for damage on all tasks and on one."""
    if tasks == 1:
        return
    alone = replace(design, items=design.items // tasks, alpha=1 - (1 - design.alpha) ** (1 / tasks))
    yield (
        f"In a single one of {tasks} tasks of {alone.items:,} items, at a level corrected for the number of "
        f"tasks: {detectable_text(alone.detectable_drop())}."
    )
    if drop is None:
        return
    if design.reruns > 1:
        yield "Power over tasks is simulated only for one run of each model: omit --reruns to see it."
        return
    flips = round(design.items * design.flip_rate / tasks)
    yield f"Power over {tasks} tasks, each with the expected {flips:,} flips:"
    share = (1 + drop / design.flip_rate) / 2
    yield _task_line("drop spread over all tasks", task_power(flips, np.full(tasks, share), design.alpha))
    if drop * tasks <= design.flip_rate:
        shares = np.full(tasks, 0.5)
        shares[0] = (1 + tasks * drop / design.flip_rate) / 2
        yield _task_line("entire drop in one task", task_power(flips, shares, design.alpha))


def _task_line(where: str, found: Mapping[Combine, float]) -> str:
    return (
        f"  {where}: joint {found['joint']:.3f}, pooled {found['pooled']:.3f}, max-drop "
        f"{found['max-drop']:.3f}, Fisher {found['fisher']:.3f}."
    )


def _rerun_table(design: Design, drop: float | None, throughput: float | None) -> Table:
    headings = ["reruns", "smallest drop", "samples"]
    headings += [] if throughput is None else ["GPU-hours"]
    headings += [] if drop is None else [f"items for {100 * drop:g} points", "samples"]
    headings += [] if drop is None or throughput is None else ["GPU-hours"]
    counts = sorted({*RERUNS, design.reruns})
    return plain_table(headings, [_rerun_row(replace(design, reruns=n), drop, throughput) for n in counts])


def _rerun_row(design: Design, drop: float | None, throughput: float | None) -> list[str]:
    smallest, cost = design.detectable_drop(), _cost(design.items, design.reruns, throughput)
    row = [str(design.reruns), detectable_text(smallest), *cost]
    if drop is None:
        return row
    if drop > design.largest_drop:  # so many reruns leave less variance than such a drop has by itself
        return [*row, "", "", *([] if throughput is None else [""])]
    needed = design.items_for(drop)
    return [*row, f"{needed:,}", *_cost(needed, design.reruns, throughput)]


def _cost(items: int, reruns: int, throughput: float | None) -> list[str]:
    """Samples of baseline and variant together, and the hours they take."""
    samples = 2 * items * reruns
    return [f"{samples:,}", *([] if throughput is None else [f"{samples / throughput / 3600:.2g}"])]
