"""What is printed: nothing from outside steers a terminal, and no terminal ends the program."""

import ast
import io
import sys
from contextlib import redirect_stdout

import pytest
from rich.live import Live
from rich.text import Text
from standin.runs import MadeTask, make_run
from test_house import modules, tree

from jobs.text.terminal import printable_output, terminal

ESCAPE = "\x1b[2J\x9b1A\u202e\ud800"


class Screen(io.StringIO):
    """A terminal that keeps what it gets."""

    def isatty(self):
        """It is one."""
        return True


def shown_by(action, monkeypatch):
    """What a terminal with colours gets while an action runs."""
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = Screen()
    with redirect_stdout(screen), printable_output():
        action()
    return screen.getvalue()


@pytest.mark.parametrize("argument", [f"runs/{ESCAPE}", f"--{ESCAPE}"], ids=["a path", "an option"])
def test_an_error_cannot_steer_the_terminal(lldeg, argument):
    """What was asked for is repeated without its escapes."""
    result = lldeg("analyze", argument)
    assert (result.status, result.err.count("1A\ufffd\ufffd")) == (2, 1)
    assert not {"\x1b", "\x9b", "\u202e"} & set(result.err)


def test_colours_pass_and_foreign_escapes_do_not(monkeypatch):
    """Rich's own codes stand around the text, not in it."""
    shown = shown_by(lambda: terminal().print(Text(ESCAPE, style="red")), monkeypatch)
    assert shown == "\x1b[31m\ufffd[2J\ufffd1A\ufffd\ufffd\x1b[0m\n"


def test_what_others_print_under_a_live_table_is_cleaned(monkeypatch):
    """Rich takes over the standard streams while a table is live."""

    def live():
        with Live(Text("table"), console=terminal()):
            sys.stdout.write(f"{ESCAPE}\n")

    shown = shown_by(live, monkeypatch)
    assert ("1A\ufffd" in shown, "\x1b[2J" in shown, "\u202e" in shown) == (True, False, False)


@pytest.mark.parametrize(("name", "status"), [("status", 0), ("analyze", 1), ("flips", 0)])
def test_a_terminal_without_unicode_gets_replacements(lldeg, monkeypatch, tmp_path, name, status):
    """The exit status is that of the command, not of a character."""
    scores = {("base", 0.0): [[1.0] * 9], ("→", 0.0): [[0.0] * 9]}
    run = make_run(tmp_path / "run", {"t": MadeTask(scores)})
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    assert lldeg(name, run).status == status
    plain.flush()
    assert b"?" in plain.buffer.getvalue()


@pytest.mark.slow
def test_there_is_no_other_way_to_the_terminal():
    """No console but the one that cleans, in what a user starts."""
    makers = {
        name
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if name.startswith("jobs")
        and isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "Console"
    }
    assert makers == set()
