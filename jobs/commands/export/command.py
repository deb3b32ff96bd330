"""`lldeg export`: a run in the format of another tool."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from posixpath import dirname, join
from typing import Annotated, Any

import typer

from orchestrator.errors import UserError
from orchestrator.rundir.locations import open_location


class Target(StrEnum):
    """The formats."""

    EVERY_EVAL_EVER = "every-eval-ever"
    LM_EVAL = "lm-eval"


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory: a path or a URL.")],
    *,
    to: Annotated[Target, typer.Option("--to", help="Format.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder for the files; it must be new or empty.")],
) -> None:
    """Write the samples of a run as files that other tools read.

    lm-eval: for every variant and temperature a folder as of `lm_eval --log_samples`, with an evaluation for
    each seed. every-eval-ever: data/lldeg/RUN/VARIANT/, an aggregate and a sample file for each temperature
    and seed, by the metric that `lldeg analyze` tests. Samples that are errors are left out.

    For example:

        lldeg export runs/quickstart --to lm-eval --out exported

        lldeg export runs/quickstart --to every-eval-ever --out exported
    """
    from jobs.commands.export.every_eval_ever import every_eval_ever_files  # noqa: PLC0415 - for --help
    from jobs.commands.export.lm_eval import lm_eval_files  # noqa: PLC0415
    from jobs.inputs.run_directory.files import RunFiles  # noqa: PLC0415
    from jobs.inputs.score_set import Reading  # noqa: PLC0415
    from jobs.inputs.sources import read_scores  # noqa: PLC0415

    opened, now = RunFiles.open(run), datetime.now(UTC).replace(tzinfo=None)
    if to is Target.LM_EVAL:
        files = lm_eval_files(opened, now)
    else:
        files = every_eval_ever_files(opened, read_scores([run], Reading({})), now)
    written = samples = 0
    try:
        _refuse_full(out)
        for path, content in files:
            _write(out, path, content)
            written += 1
            samples += len(content) if path.endswith(".jsonl") else 0
    except OSError as error:
        raise UserError(f"Cannot write to {out}: {error}. Choose another folder with --out.") from error
    if not written:
        raise UserError(f"{run} has no samples to export.")
    typer.echo(f"{written:,} files with {samples:,} rows written to {out}")


def _refuse_full(out: str) -> None:
    """Refuse a folder with files: readers would take what is there for part of the run."""
    from pyarrow.fs import FileSelector  # noqa: PLC0415 - for --help

    filesystem, folder = open_location(out)
    if filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        raise UserError(f"{out} is not empty: choose a new folder with --out.")


def _write(out: str, path: str, content: Any) -> None:
    filesystem, folder = open_location(out)
    target = join(folder, path)
    filesystem.create_dir(dirname(target), recursive=True)
    with filesystem.open_output_stream(target) as file:
        if path.endswith(".jsonl"):
            for row in content:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        else:
            file.write(json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n")
