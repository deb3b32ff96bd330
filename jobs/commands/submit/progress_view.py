"""What `lldeg submit` shows: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.text.format import problem_text
from jobs.text.terminal import fitting
from orchestrator.workers.stopping import still_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console, RenderableType

    from orchestrator.rundir.progress import Standing, SweepProgress, VariantProgress
    from orchestrator.sweep.plan import Plan
    from orchestrator.sweep.prepare import Sweep
    from orchestrator.workers.stopping import StoppingPolicy

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def follow(progress: SweepProgress, console: Console) -> Iterator[Callable[[SweepProgress], None]]:
    """Show the progress while a sweep runs.

    Yields:
        a function to call with the progress whenever something happened.
    """
    if not console.is_terminal:
        yield _line_printer(console)
        return
    with Live(progress_table(progress, console.width), console=console, refresh_per_second=4) as live:
        yield lambda now: live.update(progress_table(now, console.width))


def _line_printer(console: Console) -> Callable[[SweepProgress], None]:
    printed, shown = time.monotonic(), ""

    def print_line(progress: SweepProgress) -> None:
        nonlocal printed, shown
        state = " ".join(f"{name}:{c.replicas}:{c.loads}" for name, c in progress.variants.items())
        state += f" {progress.problem is None}"
        now = time.monotonic()
        if state == shown and now - printed < SECONDS_BETWEEN_LINES:
            return
        printed, shown = now, state
        for name, counts in progress.variants.items():
            if counts.replicas:
                line = f"{name}: {_line(counts)}{_eta(progress)}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        if progress.problem:
            console.print(_problem(progress.problem), soft_wrap=True)

    return print_line


def _problem(reason: str) -> Text:
    return Text(problem_text(reason), style="yellow")


def _line(counts: VariantProgress) -> str:
    if not counts.loads:
        return f"loading, {_tally_of([counts])}"
    errors = f", {counts.errors:,} errors" if counts.errors else ""
    rates = f"{counts.samples_per_second:.1f} samples/s, {counts.tokens_per_second:.0f} tokens/s"
    looks = "".join(f"; look at {standing_text(standing)}" for standing in counts.looks)
    return f"{_tally_of([counts])}, {rates}{errors}{looks}"


def tally(done: int, planned: int, not_needed: int) -> str:
    """The counts of a run or a variant, in the words that progress, status and the last line share."""
    return f"{done:,} of {planned:,} samples" + (f", {not_needed:,} not needed" if not_needed else "")


def _tally_of(variants: Iterable[VariantProgress]) -> str:
    counts = [(variant.done, variant.planned, variant.not_needed) for variant in variants]
    return tally(*map(sum, zip(*counts, strict=True)))


def _eta(progress: SweepProgress) -> str:
    left = progress.seconds_left()
    return "" if left is None else f", about {_duration(left)} left in total"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def progress_table(progress: SweepProgress, width: int) -> RenderableType:
    """Per variant: done and planned, rates, errors where there are some, state; last looks below."""
    left, variants = progress.seconds_left(), progress.variants
    title = f"{_tally_of(variants.values())}" + ("" if left is None else f", about {_duration(left)} left")
    failing = any(counts.errors for counts in variants.values())
    stops = any(counts.not_needed for counts in variants.values())
    header = ["variant", "done", "planned", *(["not needed"] if stops else []), "samples/s", "tokens/s"]
    header += [*(["errors"] if failing else []), "state"]
    rows = []
    for name, counts in variants.items():
        dropped = [f"{counts.not_needed:,}"] if stops else []
        errors = [f"{counts.errors:,}"] if failing else []
        rates = [f"{counts.samples_per_second:.1f}", f"{counts.tokens_per_second:.0f}"]
        figures = [f"{counts.done:,}", f"{counts.planned:,}", *dropped]
        rows.append([name, *figures, *(rates if counts.written else ("", "")), *errors, _state(counts)])
    looks = [(name, standing_text(look)) for name, counts in variants.items() for look in counts.looks]
    below = [Text(f"{name}, last look: {look}") for name, look in looks]
    problem = [_problem(progress.problem)] if progress.problem else []
    return Group(Text(title), fitting(header, rows, width), *below, *problem)


def standing_text(standing: Standing) -> str:
    """A look in a few words: which one, and how far the statistics are from their boundaries."""
    where = f"T {standing.temperature:g}: {standing.look}/{standing.looks}"
    if standing.verdict is not None:
        return f"{where} {standing.verdict}"
    text = f"{where} no sign of damage"
    if isfinite(standing.statistic):
        text = f"{where} z {standing.statistic:.2f}"
        if isfinite(standing.boundary):
            text += f", degraded at {standing.boundary:.2f}"
    if isfinite(standing.certified_boundary) and isfinite(standing.certified_statistic):
        text += (
            f"; margin z {standing.certified_statistic:.2f}, certified at {standing.certified_boundary:.2f}"
        )
    return text


def _state(counts: VariantProgress) -> str:
    if counts.refusal:
        return "refused"
    if not counts.owed:
        return "decided" if counts.not_needed else "complete"
    if not counts.replicas:
        return "waiting"
    return f"{counts.replicas} running" if counts.first_work is not None else "loading"


def sweep_notes(sweep: Sweep) -> list[str]:
    """A sentence for each decision that depends on this machine, and for each variant with its own Python."""
    return [*sweep.notes, *corpus_notes(sweep)]


def corpus_notes(sweep: Sweep) -> Iterator[str]:
    """Which metrics of the tasks exist only over a corpus, and what is tested instead; equal ones are one."""
    tasks: dict[str, list[str]] = {}
    for name, task in sweep.tasks.items():
        if note := task.scores.corpus_note:
            tasks.setdefault(note, []).append(name)
    for note, names in tasks.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
        yield f"{shown}: {note}."


def dry_run_table(plan: Plan, stopping: StoppingPolicy) -> Table:
    """The plan: per variant and task, the samples planned, done and missing; those not needed are not."""
    missing = [still_needed([cell], stopping) for cell in plan.cells]
    loads = dict.fromkeys(cell.variant for cell, count in zip(plan.cells, missing, strict=True) if count)
    total = sum(cell.planned for cell in plan.cells)
    owed = sum(cell.owed for cell in plan.cells)
    not_needed = f", {owed - sum(missing):,} not needed" if owed > sum(missing) else ""
    engines = "no engine to load" if not loads else f"engines to load: {', '.join(loads)}"
    counts = f"{total:,} samples, {total - owed:,} done, {sum(missing):,} missing{not_needed}"
    table = Table(title=f"{plan.sweep.store.url}: {counts}; {engines}", title_justify="left")
    for heading in ("variant", "task"):
        table.add_column(heading, overflow="fold")
    for heading in ("items", "reruns", "planned", "done", "missing"):
        table.add_column(heading, justify="right")
    for cell, count in zip(plan.cells, missing, strict=True):
        numbers = (len(cell.items), len(cell.reruns), cell.planned, cell.planned - cell.owed, count)
        table.add_row(Text(cell.variant), Text(cell.task), *(f"{number:,}" for number in numbers))
    return table


def outcome(plan: Plan, progress: SweepProgress) -> str:
    """The last lines that a submit prints."""
    url = plan.sweep.store.url
    planned = sum(counts.planned for counts in progress.variants.values())
    errors = sum(counts.errors + counts.found_errors for counts in progress.variants.values())
    lines = [f"Note: {note}" for note in progress.notes]
    if progress.owed:
        lines.append(
            f"{url} is incomplete: {progress.owed:,} of {planned:,} samples are missing; "
            "submit again to resume."
        )
    else:
        what = f"{progress.written:,} new" if progress.written else "none new"
        stopped = any(counts.not_needed for counts in progress.variants.values())
        samples = _tally_of(progress.variants.values()) if stopped else f"{planned:,} samples"
        lines.append(f"{url} is complete: {samples}, {what}. Next: lldeg analyze {url}")
    if again := sum(counts.asked_again for counts in progress.variants.values()):
        lines.append(f"{again:,} samples were asked for twice: a server refused them, or a replica failed.")
    if errors:
        lines.append(f"{errors:,} samples failed; see the column error of their rows.")
    return "\n".join(lines)
