"""The one place through which everything printed goes: no text from outside can steer a terminal.

Names of foreign files and words of servers reach the standard streams in a hundred sentences. What is written
to these streams is cleaned here, and so is the text that Rich lays out; only Rich's own codes for colours and
moving lines, which it writes around that text, pass.
"""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from jobs.text.format import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table


class _Printable:
    """A standard stream for text alone; Rich's consoles find the stream itself under a name of theirs."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would pass by
            raise AttributeError(name)
        return getattr(self.rich_proxied_file, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Clean what is printed; what the terminal's encoding lacks is replaced instead of ending the program."""
    with redirect_stdout(_cleaning(sys.stdout)), redirect_stderr(_cleaning(sys.stderr)):
        yield


def _cleaning(stream: Any) -> Any:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return None if stream is None else _Printable(stream)


def fitting(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """A table of names and numbers; where it does not fit, some lines for each row."""
    from rich.text import Text  # noqa: PLC0415 - as below

    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if sum(widths) + len(widths) > width:
        told = [(name, zip(header[1:], cells, strict=True)) for name, *cells in rows]
        lines = (f"{n}\n  " + "; ".join(f"{key}: {cell}" for key, cell in c if cell) for n, c in told)
        return Text("\n".join(lines))
    return plain_table(header, rows, no_wrap=True)


def plain_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None, no_wrap: bool = False
) -> Table:
    """A table without lines: names on the left, numbers on the right; what is too wide is folded."""
    from rich.table import Table  # noqa: PLC0415 - as below
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=no_wrap)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def terminal(*, silent: bool = False) -> Console:
    """A console for tables and colours on standard output, or one that shows nothing."""
    from rich.console import Console  # noqa: PLC0415 - `lldeg --help` need not wait for it

    class Terminal(Console):
        def render(self, *given: Any, **options: Any) -> Any:
            for part in super().render(*given, **options):
                yield part if part.control else part._replace(text=printable(part.text))

    file = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    live = False if silent else None
    return Terminal(file=file, quiet=silent, force_terminal=live, force_jupyter=live)
