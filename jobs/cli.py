"""The `lldeg` command: collects the subcommands and turns errors into one sentence and an exit status."""

from __future__ import annotations

import os
import sys
from typing import cast

import typer

from jobs.commands.analyze import analyze
from jobs.commands.configs import configs
from jobs.commands.flips import flips
from jobs.commands.import_ import import_
from jobs.commands.logs import logs
from jobs.commands.power import power
from jobs.commands.status import status
from jobs.commands.stop import stop
from jobs.commands.submit.command import submit
from jobs.commands.subset import subset
from jobs.commands.view import view
from jobs.figures.command import figures
from orchestrator.errors import UserError
from orchestrator.library_environment import be_quiet

USAGE_ERROR = 2
UsageMistake = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""Click's UsageError, whether this version of Typer depends on Click or carries a copy of it."""

app = typer.Typer(
    name="lldeg",
    help="Finds out whether an optimized language model has become worse than its baseline.",
    epilog="A typical session: lldeg submit configs/quickstart.yaml, then lldeg analyze runs/quickstart. "
    "With --debug anywhere on the line an error shows its traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(submit)
app.command()(status)
app.command()(logs)
app.command()(stop)
app.command()(analyze)
app.command("import")(import_)
app.command()(view)
app.command()(flips)
app.command()(subset)
app.command()(power)
app.command()(figures)
app.add_typer(configs, name="configs")


def main() -> None:
    """Run the command line; never returns."""
    be_quiet()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except UserError as error:
        _fail(str(error), debug=debug)
    except typer.Abort:
        _fail("Stopped.", debug=debug)
    except UsageMistake as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output, `head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a bug, too, ends in one sentence
        _fail(f"lldeg failed, {type(error).__name__}: {error}. Add --debug to see where.", debug=debug)


def _fail(sentence: str, *, debug: bool) -> None:
    if debug:
        import traceback  # noqa: PLC0415 - for --debug only

        traceback.print_exc()
    typer.echo(f"Error: {sentence}", err=True)
    sys.exit(USAGE_ERROR)
