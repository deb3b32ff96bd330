"""`lldeg subset`: the items that are worth running again because the baseline itself flips on them.

Items that a model always gets right or always wrong say nothing about a variant that is nearly the same, and
dropping them loses no power. What the file chose must be tested on runs that did not choose it; the file
carries their names, and `lldeg submit` and `lldeg analyze` refuse them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from jobs.analysis.sequential.run_monitor import stopped_notes
from jobs.commands.flips import default_folder
from jobs.commands.options import Columns
from jobs.formats.columns import parse_columns
from jobs.formats.notices import some
from jobs.formats.samples import InputQuery
from jobs.formats.write_run import as_runs
from jobs.reruns.summary import Choice, choose_items, flips_kept
from jobs.scores.read import read_reruns
from jobs.scores.rerun_set import RerunSet
from jobs.text.format import clean, temperature_text
from jobs.text.terminal import plain_table, terminal
from orchestrator.errors import UserError
from orchestrator.rundir.whole_files import Folder, writing_to
from orchestrator.sweep.item_subset import ChosenBy, Subset

FILE = "subset.json"


def subset(
    paths: Annotated[
        list[str], Argument(metavar="PATH...", help="Runs, or results of other tools, with several seeds.")
    ],
    *,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Output folder for subset.json; default: RUN/analysis.")
    ] = None,
    baseline: Annotated[str | None, Option(metavar="NAME", help="Baseline; default: the sweep's.")] = None,
    temperature: Annotated[
        float | None,
        Option(metavar="T", help="Temperature of the choosing runs; default: the lowest with several seeds."),
    ] = None,
    columns: Columns = None,
) -> None:
    """List the items on which the baseline's answers flip between its runs.

    To run only these, set `items` of a sweep to the file, and use seeds other than those that chose them.

    For example:

        lldeg subset runs/cpu-temperature --temperature 0.7

        lldeg subset runs/mmlu-temperature --temperature 0.3 --out subsets
    """
    with as_runs(paths, InputQuery(columns=parse_columns(columns))) as runs:
        reruns = read_reruns(runs)
    name = baseline or reruns.baseline
    if name is None or name not in {cell.variant for cell in reruns.cells}:
        known = some(list(dict.fromkeys(cell.variant for cell in reruns.cells)), 20)
        raise UserError(f"Name the baseline with --baseline; the variants are {known}.")
    choices = choose_items(reruns.cells, name, temperature)
    path = (out or default_folder(paths)) / FILE
    with writing_to(path.parent):
        Folder(path.parent).write(FILE, to_subset(reruns, choices).text().encode())
    for note in stopped_notes(reruns.runs):
        typer.echo(f"Warning: {clean(note)}")
    _show(reruns, choices, path, terminal())


def to_subset(reruns: RerunSet, choices: Sequence[Choice]) -> Subset:
    """The file's content: chosen items by task, and which runs chose them."""
    chosen = {cell.info.name: cell.items[cell.complete][flips].tolist() for cell, flips in choices}
    items = {task: tuple(map(int, own)) for task, own in chosen.items() if own}
    cells = [cell for cell, _ in choices]
    runs = sorted({(cell.temperature, seed) for cell in cells for seed in cell.seeds}, key=str)
    entry = next(run.models[cells[0].variant] for run in reruns.runs if cells[0].variant in run.models)
    origin = ChosenBy(model=entry["model"], revision=entry.get("revision"), runs=tuple(runs))
    return Subset(items=items, chosen_by=origin)


def _show(reruns: RerunSet, choices: Sequence[Choice], path: Path, console: Console) -> None:
    baseline, temperature = choices[0][0].variant, temperature_text(choices[0][0].temperature)
    where = f"{clean(baseline)} flips between its runs at temperature {temperature}"
    console.print(Text(f"Items on which {where}:"))
    counts = [(c.info.name, str(len(c.runs)), flips.size, int(flips.sum())) for c, flips in choices]
    counts.append(("all", "", sum(row[2] for row in counts), sum(row[3] for row in counts)))
    saved = [
        (clean(task), runs, f"{items:,}", f"{flipping:,}", f"{100 * (1 - flipping / items):.1f}")
        for task, runs, items, flipping in counts
    ]
    console.print(plain_table(("task", "runs", "items", "kept", "saved %"), saved))
    if entries := flips_kept(reruns.cells, choices):
        header = ("variant", "T", "items %", "flips", "kept %", "signal/noise", "at equal cost")
        console.print(plain_table(header, map(_kept_row, entries)))
    if steady := [cell.info.name for cell, flips in choices if not flips.any()]:
        console.print(Text(f"No item flips in {some(steady)}: omit these tasks from the sweep."))
    asked = {c.info.name for c in reruns.cells if c.variant == baseline}
    if single := sorted(asked - {cell.info.name for cell, _ in choices}):
        console.print(Text(f"Run only once, so no items were chosen and all are kept: {some(single)}."))
    used = [seed for cell, _ in choices for seed in cell.seeds if seed is not None]
    first = max(used, default=-1) + 1
    fresh = list(range(first, first + max(len(cell.runs) for cell, _ in choices)))
    console.print(
        Text(f"Written to {path}. To use it in a sweep, set items: {path.resolve()}, seeds: {fresh}.")
    )


def _kept_row(entry: dict[str, Any]) -> tuple[str, ...]:
    kept, gain, (before, after) = entry["share_kept"], entry["gain"], entry["signal_to_noise"]
    return (
        clean(entry["variant"]),
        temperature_text(entry["temperature"]),
        f"{100 * entry['share']:.1f}",
        f"{(entry['worse'][0] + entry['better'][0]) / entry['pairs']:.0f}",
        "–" if kept is None else f"{100 * kept:.1f}",
        f"{before:.2f} → {after:.2f}",
        "–" if gain is None else f"×{gain:.2f}",
    )
