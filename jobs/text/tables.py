"""The verdicts as tables: for a terminal of 80 columns or fewer, warnings first, and in Markdown.

Names, warnings and tasks come from logs of others. Whatever they hold is shown as it is: names are never
markup, and no tag, link, table cell, formula or mention of a person begins in them.

A sweep of five variants at two temperatures on forty tasks has four hundred task rows, nearly all of which
say that nothing was found. The files hold them all; a terminal shows where the damage sits.
"""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.analysis.compare import Analysis
from jobs.analysis.policy import Ruling
from jobs.text import meaning as words
from jobs.text.changes import CHANGE_HEADER, change_rows, change_terms
from jobs.text.format import amount, broken, clean, drop_text, p_text, scores_text, temperature_text
from orchestrator.errors import counted
from stats.results import Comparison
from stats.verdict import Code, Verdict

CHANGES = "What changed beside the scores"
GAPS = "Missing or failed answers"
STYLES = {
    "DEGRADED": "bold red", "CERTIFIED": "bold green", "INCONCLUSIVE": "bold yellow",
    "changed": "bold yellow",
    Ruling.BLOCKED: "bold red", Ruling.PASS: "bold green", Ruling.INSUFFICIENT: "bold yellow",
}  # fmt: skip
NARROW = 76  # columns below which a table would wrap inside its cells
WIDE = 92  # from so many columns on there is room for the share of the samples beside the number of the look
HEADER = ("variant", "T", "verdict", "score %", "drop, points", "worse/better", "p")
LOOK_HEADER = ("look", "samples %")
TASK_HEADER = ("task", "verdict", "score %", "drop, points", "worse/better", "p")
MOST_GAPS = 10  # tasks with missing answers that are listed; verdicts.json has all
MOST_TASKS = 10  # tasks shown of one comparison unless all are asked for
MOST_ROWS = 50  # rows of a Markdown table; GitHub takes comments of up to 65,536 characters
MOST_TABLES = 5  # folded tables of tasks
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "@": "@<!-- -->"}
"""Characters that would begin a tag, a quotation, a formula or a mention, which GitHub finds in entities."""

SPECIAL = "\\|`*_[]#~"
Cells = tuple[str, ...]


def print_analysis(analysis: Analysis, console: Console, *, all_tasks: bool = False) -> None:
    """Show warnings, verdicts, their meaning, the tasks behind them, and the decision of a policy."""
    for warning in words.shown_warnings(analysis.warnings):
        console.print(Text(f"Warning: {clean(warning)}", style="yellow"))
    console.print(Text(words.terms(analysis)))
    _print_rows(console, *verdict_table(analysis, wide=console.width >= WIDE))
    for sentence in words.meanings(analysis):
        console.print(Text(sentence))
    if gaps := words.gap_lines(analysis.results, MOST_GAPS):
        console.print()
        console.print(Text(GAPS, style="bold"))
        for line in gaps:
            console.print(Text(f"  {line}"))
    changes, tables = change_tables(analysis), task_tables(analysis, all_tasks=all_tasks)
    for header, listed in ((CHANGE_HEADER, changes), (TASK_HEADER, tables)):
        for title, rows in listed:
            console.print()
            console.print(Text(title, style="bold"))
            _print_rows(console, header, rows)
    for note in filter(None, (change_terms(analysis), hidden_note(analysis, tables))):
        console.print()
        console.print(Text(note))
    if (decision := analysis.decision) is not None:
        console.print()
        cases = counted(len(decision.cases), "case")
        said = f"{words.STATUS_WORDS[decision.status].upper()} ({cases}, {decision.family} can block)."
        console.print(Text.assemble("Release policy: ", (said, STYLES[decision.status])))
        for line in words.decision_lines(decision):
            console.print(Text(f"  {clean(line)}"))


def task_tables(analysis: Analysis, *, all_tasks: bool) -> list[tuple[str, list[Cells]]]:
    """The tables to show of each comparison, the worst task first: a heading, and rows under `TASK_HEADER`.

    All tasks, or of each degraded comparison those that lost points, ten at most: a task's p-value is not
    adjusted for the number of variants, so it is no finding where the whole is not degraded. The intervals
    of a comparison's tasks hold together, so that the worst of them may be looked at.
    """
    tables = []
    for result in analysis.results:
        comparison = result.comparison
        tasks = sorted(comparison.tasks, key=lambda task: (task.verdict is not Verdict.DEGRADED, -task.drop))
        if not all_tasks:
            is_shown = comparison.verdict is Verdict.DEGRADED
            tasks = [task for task in tasks[:MOST_TASKS] if is_shown and task.drop > 0.0]
        if tasks:
            title = f"{words.place(result.variant, result.temperature)}, worst task first"
            if (count := len(comparison.tasks)) > 1 and result.course is None:
                title += f"; intervals hold for all {count} tasks together"
            tables.append((title, [(clean(task.task or ""), *_cells(task)) for task in tasks]))
    return tables


def change_tables(analysis: Analysis) -> list[tuple[str, list[Cells]]]:
    """What was measured of each comparison, a heading and rows; of many, of those where something changed."""
    changed = [result for result, _ in analysis.changed]
    told = [(result, rows) for result in analysis.results if (rows := change_rows(result))]
    if len(told) > MOST_TABLES:
        told = [(result, rows) for result, rows in told if result in changed][:MOST_TABLES]
    return [(f"{words.place(one.variant, one.temperature)}, beside the scores", rows) for one, rows in told]


def hidden_note(analysis: Analysis, tables: Sequence[tuple[str, list[Cells]]]) -> str:
    """How many tasks are not shown; empty if all are."""
    count = sum(len(result.comparison.tasks) for result in analysis.results)
    count -= sum(len(rows) for _, rows in tables)
    rows = f"{count} more rows of tasks are" if count > 1 else "One more row of a task is"
    return f"{rows} in model_comparison.csv; --tasks all shows them here." if count else ""


def verdict_table(analysis: Analysis, *, wide: bool) -> tuple[Cells, list[Cells]]:
    """Head and rows; after looks with the one that decided; if wide, their share and a deciding task."""
    looks = 0 if analysis.plan is None else 2 if wide else 1
    head, rows = (*HEADER[:3], *LOOK_HEADER[:looks], *HEADER[3:]), []
    for result in analysis.results:
        verdict, *cells = _cells(result.comparison)
        task = result.comparison.deciding_task if wide else None  # whose drop alone makes the verdict
        name = clean(result.variant) + ("" if task is None else f" (on task {clean(task)})")
        temperature = temperature_text(result.temperature)
        taken: Cells = ()  # looks of those planned, and the share of the samples used
        if (course := result.course) is not None:
            taken = f"{len(course.looks)}/{result.looks_planned}", f"{100 * course.share_used:.0f}"
        rows.append((name, temperature, verdict, *taken[:looks], *cells))
    return head, rows


def _cells(comparison: Comparison) -> Cells:
    scores, p = scores_text(comparison), p_text(comparison.p_adjusted)
    flips = f"{comparison.worse}/{comparison.better}"
    if Code.TASK_NOT_TESTED in comparison.reason_codes:
        return ("–", scores, amount(comparison.drop, comparison.margin_unit), flips, p)
    drop = drop_text(comparison, comparison.drop_interval_simultaneous)
    return (comparison.verdict.value.upper(), scores, drop, flips, p)


def _print_rows(console: Console, header: Cells, rows: Sequence[Cells]) -> None:
    """A table; where it would wrap inside its cells, a few lines for each row."""
    if console.width < NARROW:
        for row in rows:
            name, *temperature, verdict = row[: header.index("verdict") + 1]
            title = f"{name} (T {temperature[0]})" if temperature else name
            console.print(Text.assemble(title, " ", (verdict, STYLES.get(verdict, ""))))
            rest = zip(header[len(temperature) + 2 :], row[len(temperature) + 2 :], strict=True)
            said = [f"{label}: {cell}" for label, cell in rest]
            console.print(Text(f"  {'; '.join(said[:-2])}\n  {'; '.join(said[-2:])}"))
        return
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


def markdown(analysis: Analysis, *, all_tasks: bool = False) -> str:
    """The verdicts, and the decision of a policy if there is one, as a Markdown document."""
    parts = [f"**{escaped(words.headline(analysis))}**\n"]
    if (decision := analysis.decision) is not None:
        parts += [f"- {escaped(reason.text)}" for reason in decision.reasons]
        parts += ["", _markdown_table(words.CASE_HEADER, words.case_rows(decision))]
    parts.append(_markdown_table(*verdict_table(analysis, wide=True)))
    parts.append(_folded_list("What the verdicts mean", [words.terms(analysis), *words.meanings(analysis)]))
    if changes := change_tables(analysis):
        told = [f"{escaped(title)}:\n\n{_markdown_table(CHANGE_HEADER, rows)}" for title, rows in changes]
        parts.append(_folded(CHANGES, "\n".join([*told, f"{escaped(change_terms(analysis))}\n"])))
    if warnings := words.shown_warnings(analysis.warnings):
        parts.append(_folded_list(f"Warnings ({len(warnings)})", warnings))
    if gaps := words.gap_lines(analysis.results, MOST_GAPS):
        parts.append(_folded_list(GAPS, gaps))
    shown = task_tables(analysis, all_tasks=all_tasks)[:MOST_TABLES]
    parts += [_folded(title, _markdown_table(TASK_HEADER, rows)) for title, rows in shown]
    if hidden := hidden_note(analysis, shown):
        parts.append(escaped(hidden))
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    whole = clean(text)
    safe = "".join(ENTITIES.get(char, f"\\{char}" if char in SPECIAL else char) for char in whole)
    return re.sub(r"(?i)(https?|ftp)(://)|(www)(\.)", r"\1\3<!-- -->\2\4", safe)  # no link of its own


def _folded_list(title: str, lines: Sequence[str]) -> str:
    shown = [f"- {escaped(line)}" for line in lines[:MOST_ROWS]]
    more = len(lines) - MOST_ROWS
    return _folded(title, "\n".join([*shown, *([f"- {more} more"] if more > 0 else [])]) + "\n")


def _folded(title: str, content: str) -> str:
    in_html = "".join(ENTITIES.get(char, char) for char in clean(title))  # where Markdown does not apply
    return f"<details><summary>{in_html}</summary>\n\n{content}\n</details>\n"


def _markdown_table(header: Cells, rows: Sequence[Cells]) -> str:
    lines = [header, ("---",) * len(header)]
    lines += [tuple(escaped(cell) for cell in row) for row in rows[:MOST_ROWS]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    more = len(rows) - MOST_ROWS
    return f"{table}\n" if more <= 0 else f"{table}\n\n{more} more rows are in the files of the analysis.\n"
