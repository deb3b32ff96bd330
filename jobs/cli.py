"""The `lldeg` command: finds the subcommand and turns errors into one sentence and an exit status.

A command is imported when it is run, so that `lldeg --help`, `lldeg status` and `lldeg stop` do not wait for
libraries that only a sweep or an analysis needs.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from jobs.exit_status import INTERRUPTED, end, end_interrupted, end_on_signals, end_unread
from jobs.text.terminal import printable_output
from orchestrator.config.environment import set_library_environment
from orchestrator.errors import UserError

USAGE_ERROR = 2
EMPTY = re.compile(r"(--[\w-]+=)?\s*")
UsageMistake = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""Click's UsageError, whether this version of Typer depends on Click or carries a copy of it."""

COMMANDS = {
    "submit": "Run a sweep, or resume one.",
    "status": "Show the progress of a sweep.",
    "logs": "Show the events and logs of a sweep.",
    "stop": "Stop a running sweep; submitting it again resumes it.",
    "analyze": "Report which variants are worse than the baseline.",
    "history": "Track a model over time and alert when it degrades.",
    "import": "Convert results of other tools into a run directory.",
    "export": "Write a run in the format of another tool.",
    "view": "Show runs in a browser.",
    "flips": "Count the answers that flip, and show why.",
    "subset": "List the items on which the baseline itself flips.",
    "power": "Plan a comparison: detectable drops, items and samples needed.",
    "figures": "Draw the figures that explain the method.",
    "configs": "List the sweeps that come with lldeg, or copy one.",
}
"""What each command does; it is a function of its own name in a module of that name in `jobs.commands`."""


class LazyGroup(TyperGroup):
    """Lists commands by their summaries, and imports one only when it is run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: TyperCommand(name, help=line) for name, line in COMMANDS.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command that the arguments name, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, rest


def load_command(name: str) -> Any:
    """Import a command; the result is Click's object for it."""
    attribute = f"{name}_" if iskeyword(name) else name
    command = getattr(import_module(f"jobs.commands.{attribute}"), attribute)
    if isinstance(command, typer.Typer):
        return typer.main.get_group(command)
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(command)
    return typer.main.get_command(single)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - for --version only

        typer.echo(f"lldeg {version('lldeg')}")
        raise typer.Exit


app = typer.Typer(
    name="lldeg",
    cls=LazyGroup,
    help="Tests whether an optimized language model has become worse than its baseline.",
    epilog="A typical session: lldeg submit configs/quickstart.yaml, then lldeg analyze runs/quickstart. "
    "Add --debug to any command to see the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: Rich would triple the time that `lldeg --help` takes
)


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; never returns."""
    end_on_signals()
    with printable_output():
        _run()


def _run() -> None:
    set_library_environment()
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if any(EMPTY.fullmatch(argument) for argument in arguments):
        _fail("An argument is empty; for the current folder, write '.'.", debug=debug)
    try:
        status = app(arguments, standalone_mode=False)
        if status == INTERRUPTED:  # what Typer makes of KeyboardInterrupt
            end_interrupted()
        end(status)
    except (KeyboardInterrupt, typer.Abort):
        end_interrupted()
    except UsageMistake as error:
        error.message = error.message.replace("Value error, ", "")  # the checking library's words
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        end_unread()
    except SystemExit as exit_:  # with which Typer and Rich answer a pipe that is closed
        if isinstance(exit_.__context__, BrokenPipeError):
            end_unread()
        raise
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a bug, too, ends in one sentence
        _fail(_sentence(error), debug=debug)


def _sentence(error: Exception) -> str:
    match error:
        case UserError():
            return str(error)
        case UnicodeError():
            return f"Not valid UTF-8: {getattr(error, 'object', '')!r:.200}. Rename the file, or convert it."
        case OSError():
            return f"A file, folder or server cannot be used: {' '.join(str(error).split())}."
        case MemoryError():
            return "This machine does not have enough memory."
        case _:
            return f"lldeg failed with {type(error).__name__}: {error}. Add --debug to see the traceback."


def _fail(sentence: str, *, debug: bool) -> None:
    if debug:
        import traceback  # noqa: PLC0415 - for --debug only

        traceback.print_exc()
    typer.echo(f"Error: {sentence}", err=True)
    sys.exit(USAGE_ERROR)
