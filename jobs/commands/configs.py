"""`lldeg configs`: the sweeps that come with lldeg, to be copied and edited.

They are in the source tree and, in an installed wheel, inside this package. A copy includes the task files
that the sweep names, so that it runs in its new place.
"""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.table import Table
from rich.text import Text

from jobs.text.terminal import terminal
from orchestrator.errors import UserError, suggestion
from orchestrator.rundir.whole_files import Folder, new_folder

FIRST = ["quickstart", "llama3", "two-versions", "provider"]
configs = typer.Typer(
    help="List the sweeps that come with lldeg, or copy one. "
    "For example: lldeg configs copy llama3 my-sweeps",
    no_args_is_help=False,
)


@configs.callback(invoke_without_command=True)
def _list_by_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_()


@configs.command("list")
def list_() -> None:
    """List the sweeps and the question each one answers.

    For example:

        lldeg configs list
    """
    table = Table("name", "question", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for path in shipped():
        table.add_row(Text(path.stem), Text(purpose(path)))
    terminal().print(table)


@configs.command("copy")
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name shown by `lldeg configs list`.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Target folder; created if necessary.")],
) -> None:
    """Copy a sweep, and the task files it names, into a folder.

    For example:

        lldeg configs copy quickstart my-sweeps
    """
    sources, wanted = {path.stem: path for path in shipped()}, name.removesuffix(".yaml")
    if wanted not in sources:
        hint = suggestion(wanted, list(sources)) or f"; available: {', '.join(sources)}"
        raise UserError(f"There is no sweep {name!r}{hint}.")
    source, target = sources[wanted], folder / f"{wanted}.yaml"
    named = yaml.safe_load(source.read_text(encoding="utf-8")).get("include_path") or []
    try:
        if target.exists():
            raise UserError(f"{target} already exists: copy to another folder, or remove it first.")
        for extra in [named] if isinstance(named, str) else named:
            if not (folder / extra).exists():
                with new_folder(folder / extra) as unfinished:
                    shutil.copytree(source.parent / extra, unfinished, dirs_exist_ok=True)
        Folder(folder).write(target.name, source.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot copy to {folder}: {error}.") from error
    typer.echo(f"{target} is ready to edit. Next: lldeg submit {target}")


def shipped_path(name: str) -> Path:
    """A file that comes with lldeg: inside the installed package, or next to it in a source tree."""
    package = Path(str(files("jobs")))
    return next(path for path in (package / name, package.parent / name) if path.exists())


def shipped() -> list[Path]:
    """The sweeps that come with lldeg: those that most people come for first, the others by name."""
    paths = shipped_path("configs").glob("*.yaml")
    return sorted(paths, key=lambda path: (FIRST.index(path.stem) if path.stem in FIRST else 99, path.stem))


def purpose(path: Path) -> str:
    """What a sweep is for: the comment it begins with, as one paragraph."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ").strip() for line in lines[:end])
