"""`lldeg subset`: the items that are worth running again because the baseline itself flips on them.

Items that a model always gets right or always wrong say nothing about a variant that is nearly the same, and
dropping them loses no power. What the file chose must be tested on runs that did not choose it; the file
carries their names, and `lldeg submit` and `lldeg analyze` refuse them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pyarrow.fs import LocalFileSystem
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.analysis.sequential.refusals import stopped_notes
from jobs.commands.flips import default_folder
from jobs.commands.options import Columns
from jobs.formats.columns import parse_columns
from jobs.formats.notices import some
from jobs.formats.write_run import as_runs
from jobs.reruns.choose import Kept, TaskChoice, choose, kept
from jobs.scores.read import read_reruns
from jobs.scores.rerun_set import RerunQuery, RerunSet
from jobs.scores.score_set import Reading
from jobs.text.format import clean, temperature_text
from jobs.text.terminal import terminal
from orchestrator.errors import UserError
from orchestrator.rundir.whole_files import write_whole, writing_to
from orchestrator.sweep.item_subset import ChosenBy, Subset

FILE = "subset.json"


def subset(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Runs, or results of other tools, with several seeds."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder for subset.json; default: RUN/analysis."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Baseline; default: the sweep's.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T", help="Temperature of the choosing runs; default: the lowest with several seeds."
        ),
    ] = None,
    columns: Columns = None,
) -> None:
    """List the items on which the baseline's answers flip between its runs.

    To run only these, name the file as `items` of a sweep, with seeds other than those that chose them.

    For example:

        lldeg subset runs/cpu-temperature --temperature 0.7

        lldeg subset runs/mmlu-temperature --temperature 0.3 --out subsets
    """
    with as_runs(paths, Reading({}, columns=parse_columns(columns))) as runs:
        reruns = read_reruns(runs, RerunQuery({}))
    name = baseline or reruns.baseline
    if name is None or name not in {cell.variant for cell in reruns.cells}:
        known = some(list(dict.fromkeys(cell.variant for cell in reruns.cells)), 20)
        raise UserError(f"Name the baseline with --baseline; the variants are {known}.")
    choices = choose(reruns.cells, name, temperature)
    path = (out or default_folder(paths)) / FILE
    with writing_to(path.parent):
        write_whole(LocalFileSystem(), str(path), to_subset(reruns, choices).text().encode())
    for note in stopped_notes(reruns.runs):
        typer.echo(f"Warning: {clean(note)}")
    _show(reruns, choices, path, terminal())


def to_subset(reruns: RerunSet, choices: Sequence[TaskChoice]) -> Subset:
    """The file's content: chosen items by task, and which runs chose them."""
    items = {choice.task: tuple(choice.items) for choice in choices if choice.flips.any()}
    cells = [choice.cell for choice in choices]
    runs = sorted({(cell.temperature, seed) for cell in cells for seed in cell.seeds}, key=str)
    entry = next(run.models[cells[0].variant] for run in reruns.runs if cells[0].variant in run.models)
    return Subset(items, ChosenBy(entry["model"], entry.get("revision"), tuple(runs)))


def _show(reruns: RerunSet, choices: Sequence[TaskChoice], path: Path, console: Console) -> None:
    cell = choices[0].cell
    where = temperature_text(cell.temperature)
    console.print(
        Text(f"Items on which {clean(cell.variant)} flips between its runs at temperature {where}:")
    )
    console.print(_task_table(choices))
    if found := kept(reruns.cells, choices):
        console.print(_kept_table(found))
    steady = [choice.task for choice in choices if not choice.flips.any()]
    if steady:
        console.print(Text(f"No item flips in {some(steady)}: omit these tasks from the sweep."))
    asked = {c.info.name for c in reruns.cells if c.variant == cell.variant}
    if single := sorted(asked - {choice.task for choice in choices}):
        console.print(Text(f"Run only once, so no items were chosen and all are kept: {some(single)}."))
    fresh = _fresh_seeds(choices)
    console.print(
        Text(f"Written to {path}. To use it in a sweep, set items: {path.resolve()}, seeds: {fresh}.")
    )


def _task_table(choices: Sequence[TaskChoice]) -> Table:
    table = Table("task", "runs", "items", "kept", "saved %", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [(c.task, str(len(c.cell.runs)), c.flips.size, int(c.flips.sum())) for c in choices]
    rows.append(("all", "", sum(row[2] for row in rows), sum(row[3] for row in rows)))
    for task, runs, items, flipping in rows:
        saved = f"{100 * (1 - flipping / items):.1f}"
        table.add_row(Text(clean(task)), runs, f"{items:,}", f"{flipping:,}", saved)
    return table


def _kept_table(found: Sequence[Kept]) -> Table:
    headings = ("variant", "T", "items %", "flips", "kept %", "signal/noise", "at equal cost")
    table = Table(*headings, box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in found:
        before, after = entry.signal_to_noise
        table.add_row(
            Text(clean(entry.variant)),
            temperature_text(entry.temperature),
            f"{100 * entry.share:.1f}",
            f"{(entry.worse[0] + entry.better[0]) / entry.pairs:.0f}",
            "–" if entry.flips_kept is None else f"{100 * entry.flips_kept:.1f}",
            f"{before:.2f} → {after:.2f}",
            "–" if entry.gain is None else f"×{entry.gain:.2f}",
        )
    return table


def _fresh_seeds(choices: Sequence[TaskChoice]) -> list[int]:
    used = [seed for choice in choices for seed in choice.cell.seeds if seed is not None]
    first = max(used, default=-1) + 1
    return list(range(first, first + max(len(choice.cell.runs) for choice in choices)))
