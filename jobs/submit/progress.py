"""The progress of a sweep: shown by the submit that runs it, or told by its run directory alone."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import isfinite
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobs.formats.run_files import Count, Footers, RunFiles
from jobs.text.format import money, problem_text
from jobs.text.terminal import fitting
from orchestrator.errors import counted
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import Standing, SweepProgress, VariantProgress, read_status

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def show_progress(progress: SweepProgress, console: Console) -> Iterator[Callable[[SweepProgress], None]]:
    """Show the progress while a sweep runs: a live table on a terminal, else line by line.

    Yields:
        a function to call with the progress whenever something happened.
    """
    if console.is_terminal:
        with Live(progress_table(progress, console.width), console=console, refresh_per_second=4) as live:
            yield lambda now: live.update(progress_table(now, console.width))
        return
    printed, shown = time.monotonic(), ""

    def print_lines(progress: SweepProgress) -> None:
        nonlocal printed, shown
        state = " ".join(f"{name}:{c.replicas}:{c.loads}" for name, c in progress.variants.items())
        state += f" {progress.problem is None}"
        now = time.monotonic()
        if state == shown and now - printed < SECONDS_BETWEEN_LINES:
            return
        printed, shown = now, state
        left = time_left(progress.seconds_left())
        for name, counts in progress.variants.items():
            if not counts.replicas:
                continue
            line = f"loading, {_tally_of([counts])}"
            if counts.loads:
                errors = f", {counts.errors:,} errors" if counts.errors else ""
                rates = f"{counts.samples_per_second:.1f} samples/s, {counts.tokens_per_second:.0f} tokens/s"
                looks = "".join(f"; look at {standing_text(standing)}" for standing in counts.looks)
                line = f"{_tally_of([counts])}, {rates}{errors}{looks}"
            said = f"{name}: {line}{left and f'{left} in total'}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
        if progress.problem:
            console.print(Text(problem_text(progress.problem), style="yellow"), soft_wrap=True)

    yield print_lines


def tally(done: int, planned: int, not_needed: int) -> str:
    """The counts of a run or a variant, in the words that progress, status and the last line share."""
    return f"{done:,} of {planned:,} samples" + (f", {not_needed:,} not needed" if not_needed else "")


def _tally_of(variants: Iterable[VariantProgress]) -> str:
    counts = [(variant.done, variant.planned, variant.not_needed) for variant in variants]
    return tally(*map(sum, zip(*counts, strict=True)))


def time_left(seconds: float | None) -> str:
    """The end of a sentence that says how long a sweep still takes; empty if that is unknown."""
    return "" if seconds is None else f", about {timedelta(seconds=round(seconds))} left"


def progress_table(progress: SweepProgress, width: int) -> RenderableType:
    """Per variant: done and planned, rates, errors where there are some, state; last looks below."""
    variants = progress.variants
    title = _tally_of(variants.values()) + time_left(progress.seconds_left())
    failing = any(counts.errors for counts in variants.values())
    stops = any(counts.not_needed for counts in variants.values())
    rows = []
    for name, counts in variants.items():
        row = {"variant": name, "done": f"{counts.done:,}", "planned": f"{counts.planned:,}"}
        if stops:
            row["not needed"] = f"{counts.not_needed:,}"
        row["samples/s"] = f"{counts.samples_per_second:.1f}" if counts.written else ""
        row["tokens/s"] = f"{counts.tokens_per_second:.0f}" if counts.written else ""
        if failing:
            row["errors"] = f"{counts.errors:,}"
        rows.append(row | {"state": _state(counts)})
    table = fitting(list(rows[0]), [list(row.values()) for row in rows], width)
    looks = [(name, standing_text(look)) for name, counts in variants.items() for look in counts.looks]
    below = [Text(f"{name}, last look: {look}") for name, look in looks]
    problem = [Text(problem_text(progress.problem), style="yellow")] if progress.problem else []
    return Group(Text(title), table, *below, *problem)


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
    certified, boundary = standing.certified_statistic, standing.certified_boundary
    if isfinite(boundary) and isfinite(certified):
        text += f"; margin z {certified:.2f}, certified at {boundary:.2f}"
    return text


def _state(counts: VariantProgress) -> str:
    if counts.refusal:
        return "refused"
    if not counts.owed:
        return "decided" if counts.not_needed else "complete"
    if not counts.replicas:
        return "waiting"
    return f"{counts.replicas} running" if counts.first_work is not None else "loading"


def outcome_text(url: str, progress: SweepProgress) -> str:
    """The last lines that a submit prints."""
    variants = progress.variants.values()
    planned = sum(counts.planned for counts in variants)
    lines = [f"Note: {note}" for note in progress.notes]
    if progress.owed:
        missing = f"{progress.owed:,} of {planned:,} samples are missing"
        lines.append(f"{url} is incomplete: {missing}; submit again to resume.")
    else:
        what = f"{progress.written:,} new" if progress.written else "none new"
        stopped = any(counts.not_needed for counts in variants)
        samples = _tally_of(variants) if stopped else f"{planned:,} samples"
        lines.append(f"{url} is complete: {samples}, {what}. Next: lldeg analyze {url}")
    if progress.spent:
        lines.append(f"It has cost {money(progress.spent)}.")
    if again := sum(counts.asked_again for counts in variants):
        lines.append(
            f"{counted(again, 'sample')} had to be requested twice: a server refused, or a replica failed."
        )
    if errors := sum(counts.errors + counts.found_errors for counts in variants):
        lines.append(f"{counted(errors, 'sample')} failed; see the column error.")
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
    whole, variants = _counted(Count.total(counts.values())), {}
    for name, count in counts.items():
        last = told.variants.get(name, VariantProgress())
        variants[name] = last.model_dump(exclude={"looks", "prompt_tokens", "output_tokens"})
        variants[name] |= _counted(count) | {
            "not_needed": count.not_needed,
            "replicas": last.replicas if running else 0,
            "looks": [look.model_dump(mode="json") for look in last.looks],
        }
    return {
        "run": url,
        "state": "running" if running else "incomplete" if whole["missing"] else "complete",
        **whole,
        "damaged": [path for count in counts.values() for path in count.damaged],
        "seconds_left": told.seconds_left if running else None,
        **told.model_dump(include={"last_heartbeat", "host", "pid"}),
        "variants": variants,
        "replicas": [replica.model_dump() for replica in told.replicas if running],
        "problem": told.problem if running else None,
        "notes": told.notes,
    }


def _counted(count: Count) -> dict[str, int]:
    missing = count.needed - count.done
    return {"planned": count.planned, "done": count.done, "missing": missing, "errors": count.errors}
