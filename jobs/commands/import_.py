"""`lldeg import`: other people's results become a run directory."""

from typing import Annotated

import typer

from jobs.analysis.options import Where
from jobs.inputs.key_values import parse_assignments
from jobs.inputs.lm_eval.to_run import import_lm_eval
from jobs.inputs.score_csv.read import listed_rows, table_rows
from jobs.inputs.score_csv.to_run import import_scores
from jobs.inputs.score_set import Reading
from jobs.inputs.sources import Input, Kind, resolve
from jobs.inputs.write_run import ImportedTask, write_run
from orchestrator.errors import UserError


def import_(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="lm-eval output folders, score tables, or their list."),
    ],
    *,
    out: Annotated[str, typer.Option(metavar="RUN", help="The run directory to make.")],
    where: Where = None,
) -> None:
    """Turn lm-eval output or score tables into a run directory.

    The first model is the baseline of the run.

    Example:
        lldeg import results/bf16 results/int4 --out runs/imported
    """
    found = resolve(sources)
    tasks = _tasks(found, Reading({}, where=parse_assignments("--where", where or [])))
    models = list(
        dict.fromkeys([*found.models, *found.tables, *(model for task in tasks for model in task.samples)])
    )
    write_run(out, models, tasks)
    samples = sum(len(rows) for task in tasks for rows in task.samples.values())
    typer.echo(f"{samples:,} samples of {len(models)} models on {len(tasks)} tasks written to {out}")


def _tasks(found: Input, reading: Reading) -> list[ImportedTask]:
    if found.kind is Kind.RUN:
        raise UserError(f"{found.paths[0]} is a run already: analyze it as it is.")
    if found.kind is Kind.LM_EVAL:
        return import_lm_eval(found.models)
    return import_scores(
        table_rows(found.paths, reading) if found.kind is Kind.SCORES else listed_rows(found.tables, reading)
    )
