"""How verdicts, numbers and names read: on a terminal, in Markdown, in the report."""
