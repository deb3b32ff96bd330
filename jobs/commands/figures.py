"""`lldeg figures`: draws the studies behind the method, which benchmarks/figures.py computes."""

from runpy import run_path
from typing import Annotated

import typer

from jobs.commands.configs import shipped_path
from orchestrator.extras import require
from orchestrator.rundir.whole_files import Folder, writing_to


def figures(
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Output folder; created if necessary.")],
) -> None:
    """Draw the figures that explain the method, each as PDF and PNG.

    The figures are introduction, paired_power, p_values and tasks_and_power; they are the same every time.

    For example:

        lldeg figures --out figures
    """
    require("figures", "lldeg figures")
    from jobs.text.figure_style import figure_files  # noqa: PLC0415 - matplotlib is slow to import

    folder = Folder(out)
    with writing_to(out):
        folder.filesystem.create_dir(folder.path)  # before a minute of drawing
    for draw in run_path(str(shipped_path("benchmarks/figures.py")))["FIGURES"]:
        for name, content in figure_files(draw(), draw.__name__).items():
            with writing_to(out):
                folder.write(name, content)
            typer.echo(f"{out.rstrip('/')}/{name}")
