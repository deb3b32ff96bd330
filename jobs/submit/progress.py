"""The progress of a sweep: shown by the submit that runs it, or told by its run directory alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobs.formats.run_counts import Footers, total
from jobs.formats.run_files import RunFiles
from jobs.text.format import problem_text
from jobs.text.terminal import fitting
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import Standing, SweepProgress, VariantProgress, read_status

if TYPE_CHECKING:
    from orchestrator.sweep.plan import Plan  # slow to import, and `lldeg status` need not wait

SECONDS_BETWEEN_LINES = 10.0


def announce_plan(plan: Plan, console: Console) -> None:
    """Show what depends on this machine, what is tested instead of metrics over a corpus, and warnings."""
    tasks: dict[str, list[str]] = {}
    for name, task in plan.sweep.tasks.items():
        if note := task.scores.corpus_note:
            tasks.setdefault(note, []).append(name)
    over_corpus = [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}: {note}."
        for note, names in tasks.items()
    ]
    for note in (*plan.sweep.notes, *over_corpus):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"Warning: {warning}.", style="yellow", markup=False)


@contextmanager
def show_progress(progress: SweepProgress, console: Console) -> Iterator[Callable[[SweepProgress], None]]:
    """Show the progress while a sweep runs: a live table on a terminal, else line by line.

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
        left = "" if (seconds := _time_left(progress)) is None else f", about {seconds} left in total"
        for name, counts in progress.variants.items():
            if counts.replicas:
                line = f"{name}: {_variant_line(counts)}{left}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        if progress.problem:
            console.print(Text(problem_text(progress.problem), style="yellow"), soft_wrap=True)

    return print_line


def _variant_line(counts: VariantProgress) -> str:
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


def _time_left(progress: SweepProgress) -> str | None:
    left = progress.seconds_left()
    return None if left is None else str(timedelta(seconds=round(left)))


def progress_table(progress: SweepProgress, width: int) -> RenderableType:
    """Per variant: done and planned, rates, errors where there are some, state; last looks below."""
    left, variants = _time_left(progress), progress.variants
    title = _tally_of(variants.values()) + ("" if left is None else f", about {left} left")
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
    problem = [Text(problem_text(progress.problem), style="yellow")] if progress.problem else []
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


def outcome_text(plan: Plan, progress: SweepProgress) -> str:
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


def run_status(url: str) -> dict[str, Any]:
    """The progress of a run, as JSON values.

    Counts come from the samples on disk; rates, replicas and notes come from the last heartbeat of the submit
    that is running, or of the last one that ran.

    Raises:
        UserError: the URL is not a run directory.
    """
    run = RunFiles.open(url)
    counts = Footers().count(run)
    told, running = read_status(run.store), is_running(run.store)
    whole = total(counts.values())
    variants = {}
    for name, count in counts.items():
        last = told.variants.get(name, VariantProgress())
        variants[name] = last.model_dump(exclude={"looks", "prompt_tokens", "output_tokens"}) | {
            "planned": count.planned,
            "done": count.done,
            "missing": count.needed - count.done,
            "not_needed": count.not_needed,
            "errors": count.errors,
            "replicas": last.replicas if running else 0,
            "looks": [look.model_dump(mode="json") for look in last.looks],
        }
    missing = whole.needed - whole.done
    return {
        "run": url,
        "state": "running" if running else "incomplete" if missing else "complete",
        "planned": whole.planned,
        "done": whole.done,
        "missing": missing,
        "errors": whole.errors,
        "damaged": list(whole.damaged),
        "seconds_left": told.seconds_left if running else None,
        **told.model_dump(include={"last_heartbeat", "host", "pid"}),
        "variants": variants,
        "replicas": [replica.model_dump() for replica in told.replicas if running],
        "problem": told.problem if running else None,
        "notes": told.notes,
    }
