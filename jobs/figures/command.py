"""`lldeg figures`: the studies behind the method, computed and drawn anew."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import UserError


def figures(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; made if it is not there.")],
) -> None:
    """Draw the figures that explain the method, each as PDF and PNG.

    They come out the same every time: introduction, paired_power, p_values, tasks_and_power.

    Example:
        lldeg figures --out figures
    """
    from jobs.figures.introduction import introduction  # noqa: PLC0415 - matplotlib is slow to import, and --help need not wait
    from jobs.figures.p_values import p_values  # noqa: PLC0415
    from jobs.figures.paired_power import paired_power  # noqa: PLC0415
    from jobs.figures.style import save  # noqa: PLC0415
    from jobs.figures.task_power import tasks_and_power  # noqa: PLC0415

    for draw in (introduction, paired_power, p_values, tasks_and_power):
        try:
            paths = save(draw(), out, draw.__name__)
        except OSError as error:
            raise UserError(f"Cannot write to {out}: {error}.") from error
        for path in paths:
            typer.echo(str(path))
