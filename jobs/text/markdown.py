"""The verdicts as Markdown for a pull request or the summary of a CI job: verdicts first, details folded.

Names, warnings and tasks come from logs of others. Whatever they hold is shown as it is: no tag, link, table
cell, formula or mention of a person begins in it.
"""

import re
from collections.abc import Iterator, Sequence

from jobs.analysis.compare import Analysis
from jobs.analysis.policy.decision import Decision
from jobs.analysis.worst_tasks import Tasks, task_groups
from jobs.text.decision import CASE_HEADER, case_rows, judged_first, release_lines
from jobs.text.format import clean
from jobs.text.headline import headline
from jobs.text.sentences import gap_lines, shown_warnings
from jobs.text.verdict_tables import (
    GAPS,
    MOST_GAPS,
    TASK_HEADER,
    Cells,
    hidden_note,
    sentences,
    task_rows,
    terms,
    title_of,
    verdict_table,
)

MOST_ROWS = 50
"""Rows of a table; GitHub takes comments of up to 65,536 characters."""

MOST_TABLES = 5
"""Folded tables of tasks."""

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "@": "@<!-- -->"}
"""Characters that would begin a tag, a quotation, a formula or a mention, which GitHub finds in entities."""

SPECIAL = "\\|`*_[]#~"


def markdown(analysis: Analysis, tasks: Tasks = Tasks.WORST, decision: Decision | None = None) -> str:
    """The verdicts, and the decision of a policy if there is one, as a Markdown document."""
    return "\n".join(_parts(analysis, tasks, decision)) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    whole = clean(text)
    safe = "".join(ENTITIES.get(char, f"\\{char}" if char in SPECIAL else char) for char in whole)
    return re.sub(r"(?i)(https?|ftp)(://)|(www)(\.)", r"\1\3<!-- -->\2\4", safe)  # no link of its own


def _parts(analysis: Analysis, tasks: Tasks, decision: Decision | None) -> Iterator[str]:
    yield f"**{escaped(headline(analysis, decision))}**\n"
    if decision is not None:
        for line in release_lines(decision):
            yield f"- {escaped(line)}"
        yield ""
        yield _table(CASE_HEADER, case_rows(judged_first(decision)))
    yield _table(*verdict_table(analysis, wide=True))
    yield _folded("What the verdicts mean", [terms(analysis), *sentences(analysis)])
    if warnings := shown_warnings(analysis.warnings):
        yield _folded(f"Warnings ({len(warnings)})", warnings)
    if gaps := gap_lines(analysis.results, MOST_GAPS):
        yield _folded(GAPS, gaps)
    groups = task_groups(analysis, tasks)
    for group in groups[:MOST_TABLES]:
        yield _details(title_of(group), _table(TASK_HEADER, task_rows(group)))
    if hidden := hidden_note(analysis, groups[:MOST_TABLES]):
        yield escaped(hidden)


def _folded(title: str, lines: Sequence[str]) -> str:
    shown = [f"- {escaped(line)}" for line in lines[:MOST_ROWS]]
    more = len(lines) - MOST_ROWS
    return _details(title, "\n".join([*shown, *([f"- {more} more"] if more > 0 else [])]) + "\n")


def _details(title: str, content: str) -> str:
    return f"<details><summary>{_in_html(title)}</summary>\n\n{content}\n</details>\n"


def _in_html(text: str) -> str:
    """Text between tags, where Markdown does not apply."""
    return "".join(ENTITIES.get(char, char) for char in clean(text))


def _table(header: Cells, rows: Sequence[Cells]) -> str:
    lines = [header, ("---",) * len(header)]
    lines += [tuple(escaped(cell) for cell in row) for row in rows[:MOST_ROWS]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    more = len(rows) - MOST_ROWS
    return f"{table}\n" if more <= 0 else f"{table}\n\n{more} more rows are in the files of the analysis.\n"
