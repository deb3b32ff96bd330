"""`lldeg analyze`: verdicts on the answers of a run, or on anyone else's scores.

The command reads, compares, writes and shows, and its exit status is the verdict a pipeline can act on.
"""

import typer

from jobs.analysis.analyze_inputs import default_folder
from jobs.analysis.compare import LEAST_COMMON
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
    PolicyOption,
    Range,
    Strict,
    Tasks,
    TasksOption,
    Where,
)
from jobs.analysis.policy.apply import analyze_for_release
from jobs.analysis.policy.load import load_policy
from jobs.formats.columns import parse_columns
from jobs.formats.key_values import parse_assignments, read_metrics
from jobs.formats.registry import require_existing
from jobs.report.write import analysis_files, write_analysis
from jobs.scores.scale_options import scale_options
from jobs.scores.score_set import Reading
from jobs.text.decision import headline
from jobs.text.junit import junit
from jobs.text.markdown import markdown
from jobs.text.outputs import json_text, verdicts
from jobs.text.reasons import worded
from jobs.text.tables import print_analysis
from jobs.text.terminal import terminal
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
    policy: PolicyOption = None,
    strict: Strict = False,
    tasks: TasksOption = Tasks.WORST,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Report which variants are worse than the baseline.

    Exit status: 0 if nothing is degraded (with --gate certified: if everything is certified), 1 if something
    is degraded, 2 for wrong usage or input, 3 if the run is incomplete or, with --gate certified, if
    something is not certified, missing or failed. With --policy: 0 if the release passes, 1 if damage blocks
    it, 3 if not enough was measured or shown; decision.json gives every reason.

    Score tables are CSV files with the columns prompt_id and score, and optionally model, task, temperature,
    rerun, metric, higher_is_better and range; --cluster and --where can use any other column. Pass a folder
    of them as FOLDER/*.csv, or list them in a JSON file {model: {task: file}}; a JSON file {model: folder}
    lists lm-eval folders.

    For example:

        lldeg analyze runs/quickstart

        lldeg analyze BASE_DIR VARIANT_DIR --margin 0.005 --gate certified

        lldeg analyze scores.csv --baseline fp16 --cluster passage --out verdicts

        lldeg analyze base.jsonl int4.jsonl --columns item=id,score=metrics.acc,prompt=input,response=output

        lldeg analyze runs/quickstart --policy policy.yaml --format markdown
    """
    if policy is not None and gate == "certified":
        raise UserError("--policy says what must be certified: leave out --gate.")
    release = None if policy is None else load_policy(policy)
    share, scales = scale_options(higher, lower, range_, margin)
    chosen = read_metrics(metrics) | parse_assignments("--metric", metric or [])
    rows, named = parse_assignments("--where", where or []), parse_columns(columns)
    reading = Reading(chosen, cluster, rows, scales, named, pair_by)
    require_existing(paths)
    folder = out or default_folder(paths)
    analysis_files(folder).remove()  # what fails from here on must not leave the verdicts of another day
    scores, analysis, decision = analyze_for_release(
        paths,
        reading,
        release,
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
    write_analysis(analysis, scores, folder, decision, gate)
    match format_:
        case Format.TABLE:
            print_analysis(analysis, terminal(), decision, all_tasks=tasks is Tasks.ALL)
        case Format.JSON:
            typer.echo(json_text(verdicts(analysis, decision)), nl=False)
        case Format.JUNIT:
            typer.echo(junit(worded(analysis), gate, decision), nl=False)
        case Format.LINE:
            typer.echo(headline(analysis, decision))
        case Format.MARKDOWN:
            typer.echo(markdown(analysis, decision, all_tasks=tasks is Tasks.ALL), nl=False)
    typer.echo(f"Written to {folder}", err=format_ is not Format.TABLE)
    if decision is not None:
        raise typer.Exit(decision.exit_status)
    if said := explain_status(analysis, gate):
        typer.echo(said, err=True)
    raise typer.Exit(exit_status(analysis, gate))
