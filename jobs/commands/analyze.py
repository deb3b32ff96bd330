"""`lldeg analyze`: verdicts on the answers of a run, or on anyone else's scores.

The command reads, compares, writes and shows, and its exit status is the verdict a pipeline can act on.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from jobs.analysis.analyze import analyze as analyze_paths
from jobs.analysis.compare import GateName
from jobs.analysis.policy import load_policy
from jobs.analysis.request import AnalyzeRequest
from jobs.commands.options import Columns, Higher, Lower, Margin, Metric, Out, Range, Where, options_of
from jobs.formats.columns import parse_columns
from jobs.formats.metrics import parse_assignments, read_metrics
from jobs.formats.registry import require_existing
from jobs.formats.run_files import runs_in
from jobs.report.page import analysis_files, write_analysis
from jobs.scores.scales import scale_options
from jobs.text.junit import junit
from jobs.text.meaning import headline
from jobs.text.outputs import decision_entry, json_text, verdicts
from jobs.text.reasons import worded
from jobs.text.tables import markdown, print_analysis
from jobs.text.terminal import terminal
from orchestrator.errors import UserError

Format = Literal["table", "markdown", "json", "junit", "line"]
_PATHS = (
    "A run, a folder of runs, lm-eval output folders or results files, logs of other tools, score tables, "
    "or a JSON file that lists them by model."
)


@options_of(AnalyzeRequest)
def analyze(
    paths: Annotated[list[str], Argument(metavar="PATH...", help=_PATHS)],
    *,
    out: Out = None,
    metric: Metric = None,
    metrics: Annotated[
        Path | None, Option(metavar="FILE", help="Like --metric, in a JSON file {task: metric}.")
    ] = None,
    margin: Margin = None,
    where: Where = None,
    columns: Columns = None,
    higher: Higher = None,
    lower: Lower = None,
    range_: Range = None,
    policy: Annotated[
        Path | None,
        Option(
            metavar="FILE", help="YAML file that says what each task must show; it decides the exit status."
        ),
    ] = None,
    gate: Annotated[
        GateName,
        Option(help="Exit 0 if nothing is degraded, if all are certified, or if nothing changed, either."),
    ] = "degraded",
    tasks: Annotated[
        Literal["worst", "all"], Option(help="Show only the worst tasks of degraded variants, or all tasks.")
    ] = "worst",
    format_: Annotated[Format, Option("--format", help="Output format of the verdicts.")] = "table",
    **options: Any,
) -> None:
    """Report which variants are worse than the baseline.

    Exit status: 0 if nothing is degraded (with --gate certified: if everything is certified), 1 if something
    is degraded (with --gate changed: or a measurement such as the length of answers changed), 2 for usage or
    input errors, 3 if the run is incomplete or, with --gate certified, if something is not certified, missing
    or failed, or with --gate changed, if nothing beside the scores was tested. With --policy: 0 if the
    release passes, 1 if damage blocks it, 3 if not enough was measured or shown; decision.json gives every
    reason.

    Score tables are CSV files with the columns prompt_id and score, and optionally model, task, temperature,
    rerun, metric, higher_is_better and range; --cluster and --where can use any other column. Pass a folder
    of them as FOLDER/*.csv, or list them in a JSON file {model: {task: file}}; a JSON file {model: folder}
    lists lm-eval folders.

    For example:

        lldeg analyze runs/quickstart

        lldeg analyze BASE_DIR VARIANT_DIR --margin 0.005 --gate certified

        lldeg analyze examples/scores.csv --baseline bf16

        lldeg analyze scores.csv --baseline fp16 --cluster passage --out verdicts

        lldeg analyze base.jsonl int4.jsonl --columns item=id,score=metrics.acc,prompt=input,response=output

        lldeg analyze runs/quickstart --policy policy.yaml --format markdown
    """
    share, scales = scale_options(higher, lower, range_, margin)
    request = AnalyzeRequest(
        metrics=read_metrics(metrics) | parse_assignments("--metric", metric or []),
        where=parse_assignments("--where", where or []),
        scales=scales,
        columns=parse_columns(columns),
        policy=None if policy is None else load_policy(policy),
        margin=share,
        **options,
    )
    require_existing(paths)
    is_own = len(paths) == 1 and runs_in(paths[0])  # never next to inputs of other tools
    folder = out or (f"{paths[0].rstrip('/')}/analysis" if is_own else "analysis")
    analysis_files(folder).remove()  # what fails from here on must not leave the verdicts of another day
    analysis = analyze_paths(paths, request)
    if analysis.decision is not None and gate != "degraded":
        raise UserError(f"The policy says what must be {gate}: leave out --gate.")
    write_analysis(analysis, folder, gate)
    match format_:
        case "table":
            print_analysis(analysis, terminal(), all_tasks=tasks == "all")
        case "json":
            decided = {} if analysis.decision is None else {"decision": decision_entry(analysis.decision)}
            typer.echo(json_text(verdicts(analysis) | decided), nl=False)
        case "junit":
            typer.echo(junit(worded(analysis), gate), nl=False)
        case "line":
            typer.echo(headline(analysis))
        case "markdown":
            typer.echo(markdown(analysis, all_tasks=tasks == "all"), nl=False)
    typer.echo(f"Written to {folder}", err=format_ != "table")
    if said := analysis.explain_status(gate):
        typer.echo(said, err=True)
    raise typer.Exit(analysis.exit_status(gate))
