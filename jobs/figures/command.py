"""`lldeg figures`: computes and draws the studies behind the method."""

from typing import Annotated

import typer

from orchestrator.rundir.locations import open_location
from orchestrator.rundir.whole_files import write_whole, writing_to


def figures(
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Output folder; created if necessary.")],
) -> None:
    """Draw the figures that explain the method, each as PDF and PNG.

    The figures are introduction, paired_power, p_values and tasks_and_power; they are the same every time.

    For example:

        lldeg figures --out figures
    """
    from jobs.figures.introduction import introduction  # noqa: PLC0415 - matplotlib is slow to import, and --help need not wait
    from jobs.figures.p_values import p_values  # noqa: PLC0415
    from jobs.figures.paired_power import paired_power  # noqa: PLC0415
    from jobs.figures.style import figure_files  # noqa: PLC0415
    from jobs.figures.task_power import tasks_and_power  # noqa: PLC0415

    filesystem, folder = open_location(out)
    with writing_to(out):
        filesystem.create_dir(folder)  # before a minute of drawing
        for draw in (introduction, paired_power, p_values, tasks_and_power):
            for name, content in figure_files(draw(), draw.__name__).items():
                write_whole(filesystem, f"{folder}/{name}", content)
                typer.echo(f"{out.rstrip('/')}/{name}")
