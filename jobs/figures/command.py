"""`lldeg figures`: computes and draws the studies behind the method."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import UserError


def figures(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder; created if necessary.")],
) -> None:
    """Draw the figures that explain the method, each as PDF and PNG.

    The figures are introduction, paired_power, p_values and tasks_and_power; they are the same every time.

    For example:

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
