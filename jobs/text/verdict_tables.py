"""The verdicts as tables for a terminal of 80 columns or fewer, warnings first.

Names are shown as text, never as markup. `jobs.text.markdown` says the same in a document.
"""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.worst_tasks import TaskGroup, Tasks, hidden_tasks, task_groups
from jobs.text.format import amount, broken, clean, p_text, score_text, temperature_text
from jobs.text.headline import place
from jobs.text.looks import LOOK_HEADER, estimates_note, limit_text, look_cells, look_terms
from jobs.text.sentences import gap_lines, margin_text, meaning, several_certificates, shown_warnings
from stats.results import Comparison
from stats.verdict import Code

GAPS = "Missing or failed answers"
STYLES = {"DEGRADED": "bold red", "CERTIFIED": "bold green", "INCONCLUSIVE": "bold yellow"}
NARROW = 76
"""Below so many columns a table would wrap inside its cells; each row becomes a few lines instead."""

WIDE = 92
"""From so many columns on there is room for the share of the samples beside the number of the look."""

HEADER = ("variant", "T", "verdict", "score %", "drop, points", "worse/better", "p")
TASK_HEADER = ("task", "verdict", "score %", "drop, points", "worse/better", "p")
MOST_GAPS = 10
"""Tasks with missing answers that are listed; verdicts.json has all."""
Cells = tuple[str, ...]


def print_analysis(analysis: Analysis, console: Console, tasks: Tasks = Tasks.WORST) -> None:
    """Show warnings, verdicts, their meaning, and the tasks behind them."""
    for warning in shown_warnings(analysis.warnings):
        console.print(Text(f"Warning: {clean(warning)}", style="yellow"))
    console.print(Text(terms(analysis)))
    _print_rows(console, *verdict_table(analysis, wide=console.width >= WIDE))
    for sentence in sentences(analysis):
        console.print(Text(sentence))
    if gaps := gap_lines(analysis.results, MOST_GAPS):
        console.print()
        console.print(Text(GAPS, style="bold"))
        for line in gaps:
            console.print(Text(f"  {line}"))
    groups = task_groups(analysis, tasks)
    for group in groups:
        console.print()
        console.print(Text(title_of(group), style="bold"))
        _print_rows(console, TASK_HEADER, task_rows(group))
    if hidden := hidden_note(analysis, groups):
        console.print()
        console.print(Text(hidden))


def terms(analysis: Analysis) -> str:
    """Baseline, level, adjustment and margins: what the numbers of a table mean."""
    settings, count = analysis.settings, len(analysis.results)
    p = f"adjusted by {settings.adjust} over {count} comparisons"
    if settings.adjust == "none":
        p = "unadjusted (one comparison)" if count == 1 else "unadjusted"
    level = f"level {settings.alpha:g}, p {p}, {100 * (1 - 2 * settings.alpha):g} % intervals"
    if analysis.plan is not None:
        level = look_terms(analysis.plan, settings)
    margins = "; ".join(dict.fromkeys(margin_text(result) for result in analysis.results))
    return f"Baseline {clean(analysis.baseline)}; {level}; margin {margins}."


def sentences(analysis: Analysis) -> list[str]:
    """What each verdict means, and what several certificates promise together."""
    notes = (several_certificates(analysis), estimates_note(analysis))
    return [*(meaning(result, analysis) for result in analysis.results), *filter(None, notes)]


def title_of(group: TaskGroup) -> str:
    """The heading of a table of tasks."""
    return f"{place(group.result.variant, group.result.temperature)}, worst task first"


def hidden_note(analysis: Analysis, groups: Sequence[TaskGroup]) -> str:
    """How many tasks are not shown; empty if all are."""
    count = hidden_tasks(analysis, groups)
    rows = f"{count} more rows of tasks are" if count > 1 else "One more row of a task is"
    return f"{rows} in model_comparison.csv; --tasks all shows them here." if count else ""


def verdict_table(analysis: Analysis, *, wide: bool) -> tuple[Cells, list[Cells]]:
    """Head and rows; after looks with the one that decided and, if there is room, the share of samples."""
    looks = 0 if analysis.plan is None else 2 if wide else 1
    head, rows = (*HEADER[:3], *LOOK_HEADER[:looks], *HEADER[3:]), []
    for result in analysis.results:
        verdict, *cells = _cells(result.comparison)
        name, temperature = _name(result), temperature_text(result.temperature)
        rows.append((name, temperature, verdict, *look_cells(result)[:looks], *cells))
    return head, rows


def _name(result: VariantResult) -> str:
    """The variant, with the task whose drop alone makes the verdict."""
    task = result.comparison.deciding_task
    return clean(result.variant) if task is None else f"{clean(result.variant)} (on task {clean(task)})"


def task_rows(group: TaskGroup) -> list[Cells]:
    """A row per task, under `TASK_HEADER`."""
    return [(clean(task.task or ""), *_cells(task)) for task in group.tasks]


def _cells(comparison: Comparison) -> Cells:
    unit = comparison.margin_unit
    scores = " → ".join(score_text(s, unit) for s in (comparison.baseline_score, comparison.variant_score))
    flips = f"{comparison.worse}/{comparison.better}"
    if Code.TASK_NOT_TESTED in comparison.reason_codes:
        return ("–", scores, amount(comparison.drop, unit), flips, p_text(comparison.p_adjusted))
    low, high = (limit_text(end, comparison) for end in comparison.drop_interval_decision)
    drop = f"{amount(comparison.drop, unit)} [{low}, {high}]"
    return (comparison.verdict.value.upper(), scores, drop, flips, p_text(comparison.p_adjusted))


def _print_rows(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    show: Callable[[Console, Cells, Sequence[Cells]], None] = _stacked if console.width < NARROW else _table
    show(console, header, rows)


def _table(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    heads = [name.replace("/", "/\n") for name in header]
    widths = [max(map(len, (*head.split("\n"), *cells))) for head, *cells in zip(heads, *rows, strict=True)]
    for name, head in zip(header, heads, strict=True):
        left = name in {header[0], "verdict"}
        table.add_column(head, justify="left" if left else "right", no_wrap=name != header[0])
    first = console.width - sum(widths[1:]) - len(widths)
    for name, *cells in rows:
        styled = (Text(cell, style=STYLES.get(cell, "")) for cell in cells)
        table.add_row(Text(broken(name, first)), *styled)
    console.print(table)


def _stacked(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    for row in rows:
        name, *temperature, verdict = row[: header.index("verdict") + 1]
        title = f"{name} (T {temperature[0]})" if temperature else name
        console.print(Text.assemble(title, " ", (verdict, STYLES.get(verdict, ""))))
        rest = zip(header[len(temperature) + 2 :], row[len(temperature) + 2 :], strict=True)
        said = [f"{label}: {cell}" for label, cell in rest]
        console.print(Text(f"  {'; '.join(said[:-2])}\n  {'; '.join(said[-2:])}"))
