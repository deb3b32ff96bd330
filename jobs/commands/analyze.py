"""`lldeg analyze`: verdicts on the answers of a run, or on anyone else's scores.

The command reads, compares, writes and shows, and its exit status is the verdict a pipeline can act on.
"""

import typer
from rich.console import Console

from jobs.analysis.analyze_inputs import analyze_inputs, default_folder
from jobs.analysis.compare import LEAST_COMMON, Analysis
from jobs.analysis.gate import exit_status, explain_status
from jobs.analysis.options import (
    AdjustOption,
    Alpha,
    AtTemperature,
    Baseline,
    CertifyOption,
    Cluster,
    Columns,
    CombineOption,
    Format,
    FormatOption,
    GateOption,
    Higher,
    Lower,
    Margin,
    Metric,
    Metrics,
    MinCommon,
    MissingOption,
    Out,
    PairByOption,
    Paths,
    Range,
    Strict,
    TasksOption,
    Where,
)
from jobs.analysis.outputs import verdicts_json, write_outputs
from jobs.analysis.worst_tasks import Tasks
from jobs.inputs.columns.mapping import parse_columns
from jobs.inputs.key_values import parse_assignments, read_metrics
from jobs.inputs.scales.options import scale_options
from jobs.inputs.score_set import Reading, ScoreSet
from jobs.report import write_report
from jobs.text.verdict_tables import markdown, print_analysis
from orchestrator.errors import UserError
from stats.results import Settings


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
    combine: CombineOption = Settings.combine,
    adjust: AdjustOption = Settings.adjust,
    cluster: Cluster = None,
    where: Where = None,
    columns: Columns = None,
    pair_by: PairByOption = None,
    higher: Higher = None,
    lower: Lower = None,
    range_: Range = None,
    missing: MissingOption = Settings.missing,
    certify: CertifyOption = Settings.certify,
    min_common: MinCommon = LEAST_COMMON,
    gate: GateOption = "degraded",
    strict: Strict = False,
    tasks: TasksOption = Tasks.WORST,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Report which variants are worse than the baseline.

    Exit status: 0 if nothing is degraded (with --gate certified: if everything is certified), 1 if something
    is degraded, 2 for wrong usage or input, 3 if the run is incomplete or, with --gate certified, if
    something is not certified, missing or failed.

    Score tables are CSV files with the columns prompt_id and score, and optionally model, task, temperature,
    rerun, metric, higher_is_better and range; --cluster and --where can use any other column. Pass a folder
    of them as FOLDER/*.csv, or list them in a JSON file {model: {task: file}}; a JSON file {model: folder}
    lists lm-eval folders.

    For example:

        lldeg analyze runs/quickstart

        lldeg analyze BASE_DIR VARIANT_DIR --margin 0.005 --gate certified

        lldeg analyze scores.csv --baseline fp16 --cluster passage --out verdicts

        lldeg analyze base.jsonl int4.jsonl --columns item=id,score=metrics.acc,prompt=input,response=output
    """
    share, scales = scale_options(higher, lower, range_, margin)
    chosen = read_metrics(metrics) | parse_assignments("--metric", metric or [])
    scores, analysis = analyze_inputs(
        paths,
        Reading(
            chosen,
            cluster,
            parse_assignments("--where", where or []),
            scales,
            parse_columns(columns),
            pair_by,
        ),
        baseline=baseline,
        temperature=temperature,
        strict=strict,
        least_common=min_common,
        alpha=alpha,
        margin=share,
        combine=combine,
        adjust=adjust,
        missing=missing,
        certify=certify,
    )
    folder = out or default_folder(paths)
    write(analysis, scores, folder)
    show(analysis, format_, tasks)
    typer.echo(f"Written to {folder}", err=format_ is not Format.TABLE)
    if said := explain_status(analysis, gate):
        typer.echo(said, err=True)
    raise typer.Exit(exit_status(analysis, gate))


def write(analysis: Analysis, scores: ScoreSet, folder: str) -> None:
    """Write all files, the report for people among them.

    Raises:
        UserError: if the folder cannot be written to.
    """
    try:
        write_outputs(analysis, scores, folder)
        write_report(analysis, scores.runs, folder)
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error}. Choose another folder with --out.") from error


def show(analysis: Analysis, format_: Format, tasks: Tasks) -> None:
    """Show the verdicts on standard output."""
    if format_ is Format.TABLE:
        print_analysis(analysis, Console(), tasks)
    else:
        text = verdicts_json(analysis) if format_ is Format.JSON else markdown(analysis, tasks)
        typer.echo(text, nl=False)
