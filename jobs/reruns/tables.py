"""The tables of `lldeg flips` on a terminal; ± is half of a 95 % interval."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.reruns.summary import CellSummary, FlipReport
from jobs.reruns.variance_components import Sources
from jobs.reruns.versus_baseline import Against
from jobs.text.format import clean, temperature_text
from stats.flips import Churn, Estimate

Cells = tuple[str, ...]


def print_flips(report: FlipReport, console: Console, *, by_task: bool) -> None:
    """Show the summary.

    Args:
        report: what to show.
        console: where.
        by_task: whether to show each task too, not only all together.
    """
    for warning in report.warnings:
        console.print(Text(f"Warning: {clean(warning)}", style="yellow"))
    shown = [c for c in report.cells if by_task or c.task is None]
    _print(
        console,
        "A model against itself",
        (
            "variant",
            "T",
            "runs",
            "items",
            "correct %",
            "always",
            "never",
            "flip",
            "flips %",
            "text %",
        ),
        [_cell(c) for c in shown],
    )
    _print(
        console,
        "Against the baseline, seed by seed",
        ("variant", "T", "pairs", "b", "c", "net, points", "flips %", "text %"),
        [_against(a) for a in report.against if by_task or a.task is None],
    )
    _print(
        console,
        "Where the variance comes from",
        ("variant", "T", "seeds", "item", "temperature", "seed"),
        [_source(s) for s in report.sources if by_task or s.task is None],
    )
    _print_floor(report.cells, console)


def _print(console: Console, title: str, header: Cells, rows: Sequence[Cells]) -> None:
    if not rows:
        return
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print()


def _print_floor(cells: Sequence[CellSummary], console: Console) -> None:
    """What the noise of the first model, the baseline as a rule, means for a comparison."""
    for cell in cells:
        if cell.variant == cells[0].variant and cell.task is None and cell.hidden_drop is not None:
            where = f"{clean(cell.variant)} at temperature {temperature_text(cell.temperature)}"
            drop = f"{100 * cell.hidden_drop:.2f} points"
            console.print(
                Text(
                    f"Noise floor: {where} flips this often against itself; on these {cell.items:,} "
                    f"items, one run of each model detects drops of at least {drop}, with 80 % power at "
                    "level 0.05."
                )
            )


def _name(variant: str, task: str | None) -> str:
    return clean(variant if task is None else f"{variant}, {task}")


def _cell(cell: CellSummary) -> Cells:
    counts = cell.stability
    repeated = cell.runs > 1
    return (
        _name(cell.variant, cell.task),
        temperature_text(cell.temperature),
        str(cell.runs),
        f"{cell.items:,}",
        _percent(cell.accuracy),
        f"{counts.always_right:,}" if repeated else "",
        f"{counts.always_wrong:,}" if repeated else "",
        f"{counts.flipping:,}" if repeated else "",
        _percent(cell.flip_rate) if cell.flip_rate else "",
        _changed(cell.churn),
    )


def _against(entry: Against) -> Cells:
    return (
        _name(entry.variant, entry.task),
        temperature_text(entry.temperature),
        str(entry.pairs),
        f"{entry.flips.worse:,}",
        f"{entry.flips.better:,}",
        f"{100 * entry.flips.net:+.2f}",
        _percent(entry.flip_rate),
        _changed(entry.churn),
    )


def _source(entry: Sources) -> Cells:
    parts = (entry.variance.item, entry.variance.temperature, entry.variance.seed)
    several = len(entry.temperatures) > 1
    texts = [f"{part.value:.3f} ±{(part.high - part.low) / 2:.3f}" for part in parts]
    return (
        _name(entry.variant, entry.task),
        ", ".join(temperature_text(t) for t in entry.temperatures),
        str(entry.seeds),
        texts[0],
        texts[1] if several else "",
        texts[2],
    )


def _changed(churn: Churn | None) -> str:
    return "" if churn is None else f"{100 * churn.changed_same_score / churn.items:.1f}"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ±{50 * (estimate.high - estimate.low):.1f}"
