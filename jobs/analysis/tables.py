"""The verdicts as tables: for a terminal (80 columns, or fewer), as Markdown, or as JSON.

All three say the same, warnings first. On a terminal names are shown as text, never as markup.
"""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.wording import (
    clean,
    interval_text,
    margin_text,
    meaning,
    p_text,
    percent,
    points,
    temperature_text,
)
from stats.results import Comparison
from stats.verdict import Verdict

STYLES = {Verdict.DEGRADED: "bold red", Verdict.CERTIFIED: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
NARROW = 76
"""Below so many columns a table would wrap inside its cells; each row becomes a few lines instead."""

HEADER = ("variant", "T", "verdict", "score %", "drop, points", "worse/better", "p")
TASK_HEADER = ("task", "T", "verdict", "score %", "drop, points", "worse/better", "p")
Cells = tuple[str, ...]


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Show warnings, verdicts, their meaning, and the tasks behind them."""
    for warning in analysis.warnings:
        console.print(Text(f"Warning: {clean(warning)}", style="yellow"))
    console.print(Text(_terms(analysis)))
    _print_rows(console, HEADER, _verdict_rows(analysis))
    for result in analysis.results:
        console.print(Text(meaning(result, analysis)))
    for title, rows in _task_tables(analysis):
        console.print()
        console.print(Text(title, style="bold"))
        _print_rows(console, TASK_HEADER, rows)


def _terms(analysis: Analysis) -> str:
    settings, count = analysis.settings, len(analysis.results)
    p = f"adjusted by {settings.adjust} over {count} comparisons"
    if settings.adjust == "none":
        p = "not adjusted, for there is one comparison" if count == 1 else "not adjusted"
    level = f"level {settings.alpha:g}, p {p}"
    return f"Baseline {clean(analysis.baseline)}; {level}; margin {margin_text(settings)}."


def markdown(analysis: Analysis) -> str:
    """The same as a Markdown document."""
    parts = [f"> **Warning:** {_escaped(warning)}\n" for warning in analysis.warnings]
    parts.append(f"{_escaped(_terms(analysis))}\n")
    parts.append(_markdown_table(HEADER, _verdict_rows(analysis)))
    parts += [f"- {_escaped(meaning(result, analysis))}" for result in analysis.results]
    for title, rows in _task_tables(analysis):
        parts += [f"\n### {_escaped(title)}\n", _markdown_table(TASK_HEADER, rows)]
    return "\n".join(parts) + "\n"


def _cells(name: str, temperature: str, comparison: Comparison) -> Cells:
    scores = f"{percent(comparison.baseline_score)} → {percent(comparison.variant_score)}"
    drop = f"{points(comparison.drop)} {interval_text(comparison)}"
    flips = f"{comparison.worse}/{comparison.better}"
    verdict = comparison.verdict.value.upper()
    return (clean(name), temperature, verdict, scores, drop, flips, p_text(comparison.p_adjusted))


def _verdict_rows(analysis: Analysis) -> list[Cells]:
    return [_cells(r.variant, temperature_text(r.temperature), r.comparison) for r in analysis.results]


def _task_tables(analysis: Analysis) -> list[tuple[str, list[Cells]]]:
    """One table per variant, its temperatures and tasks being the rows."""
    by_variant: dict[str, list[VariantResult]] = {}
    for result in analysis.results:
        by_variant.setdefault(result.variant, []).append(result)
    return [
        (
            f"{clean(variant)}, task by task",
            [
                _cells(task.task or "", temperature_text(result.temperature), task)
                for result in results
                for task in result.comparison.tasks
            ],
        )
        for variant, results in by_variant.items()
    ]


def _print_rows(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    show: Callable[[Console, Cells, Sequence[Cells]], None] = _stacked if console.width < NARROW else _table
    show(console, header, rows)


def _table(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for i, name in enumerate(header):
        table.add_column(
            name.replace("/", "/\n"),
            justify="left" if i in {0, 2} else "right",
            overflow="fold",
            no_wrap=i > 0,
        )
    for row in rows:
        table.add_row(*(Text(cell, style=_style(cell, i)) for i, cell in enumerate(row)))
    console.print(table)


def _stacked(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    for row in rows:
        name, temperature, verdict, *rest = row
        console.print(Text.assemble(f"{name} (T {temperature}) ", (verdict, _style(verdict, 2))))
        for label, cell in zip(header[3:], rest, strict=True):
            console.print(Text(f"  {label}: {cell}"))


def _style(cell: str, column: int) -> str:
    return STYLES[Verdict(cell.lower())] if column == 2 else ""


def _markdown_table(header: Cells, rows: Sequence[Cells]) -> str:
    lines = [header, ("---",) * len(header), *(tuple(_escaped(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: no table cell, tag, link or emphasis begins in it."""
    safe = clean(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "\\|`*_[]#" else char for char in safe)
