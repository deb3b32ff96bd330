"""The verdicts as Markdown for a pull request or the summary of a CI job: verdicts first, details folded.

Names, warnings and tasks come from logs of others. Whatever they hold is shown as it is: no tag, link, table
cell, formula or mention of a person begins in it.
"""

import re
from collections.abc import Sequence

from jobs.analysis.compare import Analysis
from jobs.text import tables
from jobs.text.format import clean
from jobs.text.meaning import CASE_HEADER, case_rows, gap_lines, headline, meanings, shown_warnings, terms

MOST_ROWS = 50  # rows of a table; GitHub takes comments of up to 65,536 characters
MOST_TABLES = 5  # folded tables of tasks
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "@": "@<!-- -->"}
"""Characters that would begin a tag, a quotation, a formula or a mention, which GitHub finds in entities."""

SPECIAL = "\\|`*_[]#~"


def markdown(analysis: Analysis, *, all_tasks: bool = False) -> str:
    """The verdicts, and the decision of a policy if there is one, as a Markdown document."""
    parts = [f"**{escaped(headline(analysis))}**\n"]
    if (decision := analysis.decision) is not None:
        parts += [f"- {escaped(reason.text)}" for reason in decision.reasons]
        parts += ["", _table(CASE_HEADER, case_rows(decision))]
    parts.append(_table(*tables.verdict_table(analysis, wide=True)))
    parts.append(_folded("What the verdicts mean", [terms(analysis), *meanings(analysis)]))
    if warnings := shown_warnings(analysis.warnings):
        parts.append(_folded(f"Warnings ({len(warnings)})", warnings))
    if gaps := gap_lines(analysis.results, tables.MOST_GAPS):
        parts.append(_folded(tables.GAPS, gaps))
    shown = tables.task_tables(analysis, all_tasks=all_tasks)[:MOST_TABLES]
    parts += [_details(title, _table(tables.TASK_HEADER, rows)) for title, rows in shown]
    if hidden := tables.hidden_note(analysis, shown):
        parts.append(escaped(hidden))
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    whole = clean(text)
    safe = "".join(ENTITIES.get(char, f"\\{char}" if char in SPECIAL else char) for char in whole)
    return re.sub(r"(?i)(https?|ftp)(://)|(www)(\.)", r"\1\3<!-- -->\2\4", safe)  # no link of its own


def _folded(title: str, lines: Sequence[str]) -> str:
    shown = [f"- {escaped(line)}" for line in lines[:MOST_ROWS]]
    more = len(lines) - MOST_ROWS
    return _details(title, "\n".join([*shown, *([f"- {more} more"] if more > 0 else [])]) + "\n")


def _details(title: str, content: str) -> str:
    in_html = "".join(ENTITIES.get(char, char) for char in clean(title))  # where Markdown does not apply
    return f"<details><summary>{in_html}</summary>\n\n{content}\n</details>\n"


def _table(header: tables.Cells, rows: Sequence[tables.Cells]) -> str:
    lines = [header, ("---",) * len(header)]
    lines += [tuple(escaped(cell) for cell in row) for row in rows[:MOST_ROWS]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    more = len(rows) - MOST_ROWS
    return f"{table}\n" if more <= 0 else f"{table}\n\n{more} more rows are in the files of the analysis.\n"
