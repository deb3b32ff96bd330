"""`lldeg analyze`: verdicts on the answers of a run, or on anyone else's scores.

The command reads, compares, writes and shows, and its exit status is the verdict a pipeline can act on.
"""

from collections.abc import Sequence

import typer
from rich.console import Console

from jobs.analysis.compare import LEAST_COMMON, Analysis, Request, analyze_scores
from jobs.analysis.options import (
    Adjust,
    Adjustment,
    Alpha,
    AtTemperature,
    Baseline,
    Cluster,
    Combination,
    Combine,
    Format,
    FormatOption,
    Gate,
    GateOption,
    Margin,
    Metric,
    Metrics,
    MinCommon,
    Out,
    Paths,
    Strict,
    TasksOption,
    Where,
)
from jobs.analysis.outputs import verdicts_json, write_outputs
from jobs.analysis.worst_tasks import Tasks
from jobs.inputs.key_values import parse_assignments, read_metrics
from jobs.inputs.score_set import Reading, ScoreBook
from jobs.inputs.sources import Kind, detect, read_scores
from jobs.report import write_report
from jobs.text.verdict_tables import markdown, print_analysis
from orchestrator.errors import UserError
from stats.results import Settings
from stats.verdict import Verdict

DEGRADED, UNDECIDED = 1, 3


def analyze(
    paths: Paths,
    *,
    out: Out = None,
    baseline: Baseline = None,
    temperature: AtTemperature = None,
    metric: Metric = None,
    metrics: Metrics = None,
    alpha: Alpha = None,
    margin: Margin = None,
    combine: Combine = Combination.JOINT,
    adjust: Adjust = Adjustment.MAXT,
    cluster: Cluster = None,
    where: Where = None,
    min_common: MinCommon = LEAST_COMMON,
    gate: GateOption = Gate.DEGRADED,
    strict: Strict = False,
    tasks: TasksOption = Tasks.WORST,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Say which variants are worse than their baseline.

    Exit status: 0 nothing is degraded (with --gate certified: all is certified), 1 something is degraded,
    2 wrong usage or input, 3 not certified under --gate certified, or the run is incomplete.

    Examples:
        lldeg analyze runs/quickstart

        lldeg analyze BASE_DIR VARIANT_DIR --margin 0.005 --gate certified

        lldeg analyze scores.csv --baseline fp16 --cluster passage --out verdicts
    """
    chosen = read_metrics(metrics) | parse_assignments("--metric", metric or [])
    reading = Reading(chosen, cluster, parse_assignments("--where", where or []))
    book = read_scores(paths, reading)
    settings = choose_settings(book, alpha, margin, combine, adjust)
    request = Request(settings, baseline, temperature, cluster, strict, min_common)
    analysis = analyze_scores(book, request)
    folder = out or default_folder(paths)
    write(analysis, book, folder)
    show(analysis, format_, tasks)
    typer.echo(f"Written to {folder}", err=format_ is not Format.TABLE)
    raise typer.Exit(exit_status(analysis, gate))


def choose_settings(
    book: ScoreBook, alpha: float | None, margin: float | None, combine: Combination, adjust: Adjustment
) -> Settings:
    """The settings of the tests: what the user says, else what the input says, else the defaults.

    Raises:
        UserError: if the level or the margin is out of range.
    """
    level = alpha if alpha is not None else book.alpha
    acceptable = margin if margin is not None else book.margin
    defaults = Settings()
    try:
        return Settings(
            alpha=defaults.alpha if level is None else level,
            margin=defaults.margin if acceptable is None else acceptable,
            combine=combine.value,
            adjust=adjust.value,
        )
    except ValueError as error:
        raise UserError(str(error)) from error


def default_folder(paths: Sequence[str]) -> str:
    """Where the files go: into the run or folder of runs, but never beside inputs that are not ours."""
    if len(paths) == 1 and detect(paths[0]) in {Kind.RUN, Kind.RUNS}:
        return f"{paths[0].rstrip('/')}/analysis"
    return "analysis"


def write(analysis: Analysis, book: ScoreBook, folder: str) -> None:
    """Write all files, the report for people among them.

    Raises:
        UserError: if the folder cannot be written to.
    """
    try:
        write_outputs(analysis, book, folder)
        write_report(analysis, book.runs, folder)
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error}. Name another folder with --out.") from error


def show(analysis: Analysis, format_: Format, tasks: Tasks) -> None:
    """Show the verdicts on standard output."""
    if format_ is Format.TABLE:
        print_analysis(analysis, Console(), tasks)
    else:
        text = verdicts_json(analysis) if format_ is Format.JSON else markdown(analysis, tasks)
        typer.echo(text, nl=False)


def exit_status(analysis: Analysis, gate: Gate) -> int:
    """The exit status: a proven degradation first, then whatever keeps the rest from being an all-clear."""
    found = {result.comparison.verdict for result in analysis.results}
    if Verdict.DEGRADED in found:
        return DEGRADED
    if analysis.incomplete or (gate is Gate.CERTIFIED and found != {Verdict.CERTIFIED}):
        return UNDECIDED
    return 0
