"""lldeg from Python: compare scores, analyze runs, load their samples, run sweeps.

Everything here is also a command of `lldeg`; the functions return values and raise `UserError` where the
command prints a sentence and exits. Importing this package is quick: each function imports what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import ArrayLike

    from jobs.analysis.compare import Analysis, VariantResult
    from jobs.analysis.policy import Decision
    from jobs.export.export_run import Exported
    from jobs.formats.samples import PairBy
    from jobs.history import History
    from jobs.scores.score_set import ScoreSet
    from stats.drop import Certificate
    from stats.multiplicity import Adjust
    from stats.results import Certify, Comparison, Missing
    from stats.tasks.combinations import Combine

__all__ = [
    "AnalysisResult",
    "IncompleteRunError",
    "SubmitResult",
    "UserError",
    "analyze",
    "compare",
    "export",
    "history",
    "load_items",
    "load_samples",
    "submit",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - only for those who ask

        return version("lldeg")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True)
class AnalysisResult:
    """The verdicts on all variants.

    Attributes:
        analysis: everything that was found, with the paired scores behind it.
    """

    analysis: Analysis = field(repr=False)

    @property
    def scores(self) -> ScoreSet:
        """The scores as they were read; of a run that stops early, those that count."""
        return self.analysis.scores

    @property
    def decision(self) -> Decision | None:
        """Of the policy; None without one."""
        return self.analysis.decision

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return self.analysis.baseline

    @property
    def comparisons(self) -> Sequence[VariantResult]:
        """One per variant and temperature: its `comparison` has all numbers, `changes` the measurements."""
        return self.analysis.results

    @property
    def degraded(self) -> tuple[str, ...]:
        """Variants that are degraded at any temperature, each once."""
        names = (result.variant for result in self.comparisons if result.comparison.verdict == "degraded")
        return tuple(dict.fromkeys(names))

    @property
    def changed(self) -> tuple[tuple[str, str], ...]:
        """Variant and measurement of everything that changed at any temperature, each once."""
        found = ((result.variant, change.measurement) for result, change in self.analysis.changed)
        return tuple(dict.fromkeys(found))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know, a sentence each."""
        return tuple(notice.text for notice in self.analysis.warnings)

    @property
    def verdicts(self) -> dict[str, Any]:
        """The content of verdicts.json, as JSON values (docs/results.md)."""
        from jobs.text.outputs import verdicts  # noqa: PLC0415 - the package loads nothing before it is needed

        return verdicts(self.analysis)

    def to_frame(self, *, by_task: bool = False) -> pd.DataFrame:
        """The verdicts as a pandas table, unrounded.

        Args:
            by_task: one row per variant, temperature and task instead of one per variant and temperature.

        Raises:
            UserError: pandas is not installed.
        """
        from orchestrator.extras import require  # noqa: PLC0415

        require("frames", "`to_frame`")
        import pandas as pd  # noqa: PLC0415

        from jobs.text.outputs import summary_rows  # noqa: PLC0415

        return pd.DataFrame(summary_rows(self.analysis, by_task=by_task))

    def exit_status(self, gate: Literal["degraded", "certified", "changed"] = "degraded") -> int:
        """The exit status of `lldeg analyze --gate GATE`: 0, 1 or 3; with a policy, that of its decision."""
        return self.analysis.exit_status(gate)

    def write(self, folder: str) -> None:
        """Write what `lldeg analyze` writes, in the place of what it wrote before.

        Args:
            folder: path or URL; made if it is not there.

        Raises:
            UserError: the folder cannot be written to.
        """
        from jobs.report.page import write_analysis  # noqa: PLC0415

        write_analysis(self.analysis, folder, "degraded")


@dataclass(frozen=True)
class SubmitResult:
    """What a submit left in the run directory.

    Attributes:
        run_dir: path or URL.
        planned: samples that the sweep asks for.
        written: samples written by this submit, errors included.
        errors: of these, samples that could not be answered.
        missing: samples that are still to be answered.
    """

    run_dir: str
    planned: int
    written: int
    errors: int
    missing: int


class IncompleteRunError(UserError):
    """A submit ended with samples missing.

    Attributes:
        result: what is in the run directory.
    """

    def __init__(self, result: SubmitResult) -> None:
        self.result = result
        super().__init__(
            f"{result.run_dir} is incomplete: {result.missing:,} of {result.planned:,} samples are missing; "
            "submit again to resume."
        )


def compare(
    baseline_scores: ArrayLike,
    variant_scores: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    higher_is_better: bool = True,
    alpha: float = 0.05,
    margin: float = 0.01,
    missing: Missing = "worst",
) -> Comparison:
    """Test whether a variant scores lower than its baseline on the same items.

    Args:
        baseline_scores: shape (items,), or (items, reruns); NaN where an answer is missing or failed.
        variant_scores: the same for the variant, items in the same order; reruns may differ in number.
        clusters: one label per item where items depend on each other, shape (items,).
        bounds: least and greatest possible score; None for scores without bounds, whose margin is then in
            their own unit.
        higher_is_better: direction of the scores.
        alpha: level of the test and of the certificate.
        margin: largest acceptable drop, as a share of the range of the scores (0.01 is one point).
        missing: "worst" certifies only what holds with every missing answer as a loss of the variant; "drop"
            leaves missing answers out.

    Returns:
        The comparison: `verdict`, `drop`, `drop_interval`, `p_pooled`, `p_noninferior` and more.

    Raises:
        UserError: the shapes do not fit, scores are out of bounds, or no item has a score of both models.
    """
    from jobs.text.reasons import with_reasons  # noqa: PLC0415
    from stats.arrays import EvidenceError  # noqa: PLC0415
    from stats.comparison import compare as compare_tasks  # noqa: PLC0415
    from stats.results import Settings  # noqa: PLC0415
    from stats.scores import paired_scores  # noqa: PLC0415

    share = Settings.margin if bounds is None else margin
    try:
        settings = Settings(alpha=alpha, margin=share, missing=missing)
        scores = paired_scores(
            "scores",
            baseline_scores,
            variant_scores,
            clusters=clusters,
            bounds=bounds,
            higher_is_better=higher_is_better,
            margin=margin if bounds is None else None,
        )
        return with_reasons(compare_tasks([scores], settings), settings)
    except (EvidenceError, ValueError) as error:
        raise UserError(str(error)) from None


def analyze(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    baseline: str | None = None,
    control: str | None = None,
    temperature: float | None = None,
    metrics: Mapping[str, str] | None = None,
    alpha: float | None = None,
    margin: float | Mapping[str, float] | None = None,
    combine: Combine = "joint",
    adjust: Adjust = "maxt",
    cluster: str | None = None,
    where: Mapping[str, str] | None = None,
    higher_is_better: Sequence[str] = (),
    lower_is_better: Sequence[str] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    missing: Missing = "worst",
    certify: Certify = "each",
    certificate: Certificate = "default",
    min_common: float = 0.5,
    strict: bool = False,
    columns: Mapping[str, str] | None = None,
    pair_by: PairBy | None = None,
    policy: str | PathLike[str] | Mapping[str, Any] | None = None,
    out: str | None = None,
) -> AnalysisResult:
    """Report which variants are worse than the baseline, as `lldeg analyze` does.

    Args:
        paths: run directories, folders of runs, results of other tools, score tables; as paths or URLs.
        baseline: name of the baseline; None for the input's.
        control: name of a variant that should be the same as the baseline; None for the input's.
        temperature: compare at this one only.
        metrics: metric by task, group or pattern such as "*".
        alpha: level; None for the sweep's, else 0.05.
        margin: largest acceptable drop as a share of the metrics' range; or, by task, in the metric's unit.
        combine: test that decides over all tasks.
        adjust: adjustment for the number of comparisons.
        cluster: column to cluster items by, "task" or "none"; None for the input's.
        where: for score tables, the value that a column must have.
        higher_is_better: tasks whose scores are better when higher, where the input does not say.
        lower_is_better: tasks whose scores are better when lower.
        ranges: least and greatest possible score, by task.
        missing: "worst" or "drop", as in `compare`.
        certify: "each" variant at level alpha, or "all" together.
        certificate: "default", or "proven" for every distribution of independent items or clusters.
        min_common: least share of common items to compare.
        strict: refuse to compare answers to different prompts, or from different software or hardware, or
            beside a control that differs.
        columns: columns of JSON Lines and CSV files by role ("item", "score", …; docs/inputs.md).
        pair_by: "id" or "prompt": what tells that the items of two models are the same; None for "id".
        policy: what each task must show, as a YAML file or as its content; `decision` says whether it holds.
        out: folder or URL for verdicts.json, tables, plots and report.html; None writes nothing.

    Returns:
        The verdicts; `.to_frame()` is a pandas table, `.verdicts` the content of verdicts.json.

    Raises:
        UserError: the input cannot be read, nothing can be compared, or the policy does not fit.
    """
    from jobs.analysis.analyze import analyze as analyze_paths  # noqa: PLC0415
    from jobs.analysis.policy import load_policy  # noqa: PLC0415
    from jobs.analysis.request import AnalyzeRequest  # noqa: PLC0415
    from jobs.formats.columns import checked_columns  # noqa: PLC0415
    from jobs.formats.registry import require_existing  # noqa: PLC0415
    from jobs.report.page import analysis_files  # noqa: PLC0415
    from jobs.scores.scales import ScaleOptions  # noqa: PLC0415
    from jobs.text.reasons import worded  # noqa: PLC0415

    share, own = (None, margin) if isinstance(margin, Mapping) else (margin, {})
    request = AnalyzeRequest(
        metrics=metrics or {},
        where=where or {},
        scales=ScaleOptions(tuple(higher_is_better), tuple(lower_is_better), ranges or {}, own),
        columns=None if columns is None else checked_columns(columns, "columns"),
        policy=None if policy is None else load_policy(policy),
        margin=share,
        baseline=baseline,
        control=control,
        temperature=temperature,
        alpha=alpha,
        combine=combine,
        adjust=adjust,
        cluster=cluster,
        pair_by=pair_by,
        missing=missing,
        certify=certify,
        certificate=certificate,
        min_common=min_common,
        strict=strict,
    )
    several = [paths] if isinstance(paths, str) or hasattr(paths, "__fspath__") else paths
    located = [str(path) for path in several]
    require_existing(located)
    if out is not None:
        analysis_files(out).remove()
    result = AnalysisResult(worded(analyze_paths(located, request)))
    if out is not None:
        result.write(out)
    return result


def submit(
    config: str | PathLike[str],
    *,
    run_dir: str | PathLike[str] | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    retry_errors: bool = False,
    finish: bool = False,
) -> SubmitResult:
    """Run a sweep, or resume one, as `lldeg submit` does but without output.

    Args:
        config: the sweep's YAML file.
        run_dir: run directory, a path or a URL; None for runs/<name>.
        address: Ray cluster to use, "auto" or "ray://…"; None for this machine only.
        overrides: changes of the configuration, "KEY=VALUE" each.
        retry_errors: whether to ask again for samples whose row is an error.
        finish: whether to answer what the decisions of a run that stops early have left out. To stop early,
            put `stopping` into the sweep or "stopping.until=degraded" into the overrides.

    Returns:
        What is in the run directory now; the run is complete.

    Raises:
        IncompleteRunError: samples are missing because the sweep was stopped or replicas failed; its
            `result` says how many. Submitting again resumes the run.
        UserError: a mistake in the configuration, or an engine that cannot run a variant.
        KeyboardInterrupt: after Ctrl-C, when what was answered has been written.
    """
    from pathlib import Path  # noqa: PLC0415

    from jobs.submit.request import SubmitRequest  # noqa: PLC0415
    from orchestrator.config.environment import prepare_for_ray  # noqa: PLC0415

    request = SubmitRequest(
        Path(config),
        run_dir=None if run_dir is None else str(run_dir),
        address=address,
        set_=list(overrides),
        retry_errors=retry_errors,
        finish=finish,
    )
    if request.as_job:
        raise UserError(f"{address} is for Ray jobs: use `lldeg submit --address`, or a ray:// address here.")
    prepare_for_ray(address)
    from jobs.submit.run_sweep import refuse_refused, run_sweep  # noqa: PLC0415 - imports Ray

    plan, progress = run_sweep(request)
    refuse_refused(plan, progress)
    if (progress.stop or "").startswith("interrupted"):
        raise KeyboardInterrupt
    counts = progress.variants.values()
    result = SubmitResult(
        plan.sweep.store.url,
        planned=sum(count.planned for count in counts),
        written=sum(count.written for count in counts),
        errors=sum(count.errors for count in counts),
        missing=progress.owed,
    )
    if result.missing:
        raise IncompleteRunError(result)
    return result


def history(
    folder: str | PathLike[str],
    *,
    reference: str | PathLike[str] | None = None,
    alpha: float = 0.05,
    temperature: float | None = None,
    metrics: Mapping[str, str] | None = None,
    cluster: str | None = None,
    out: str | None = None,
) -> History:
    """Follow models over the dates of a folder of runs, as `lldeg history` does.

    Args:
        folder: folder with a run directory for each date, a path or a URL.
        reference: run whose baseline is the reference on every date; None for the baseline of each run, or
            the first date where runs hold a single model.
        alpha: probability of any false alarm, ever.
        temperature: this one only.
        metrics: metric by task, group or pattern such as "*".
        cluster: column to cluster items by, "task" or "none"; None for the runs'.
        out: folder or URL for history.json and history.svg; None writes nothing.

    Returns:
        The series; `.alarms` are those with an alarm, `.entry` the content of history.json.

    Raises:
        UserError: a run cannot be read or has no date, nothing can be compared, or `alpha` is not above 0 and
            at most 0.5.
    """
    from jobs.formats.samples import InputQuery  # noqa: PLC0415
    from jobs.history import follow, history_files  # noqa: PLC0415

    if not 0.0 < alpha <= 0.5:
        raise UserError(f"alpha must be above 0 and at most 0.5; it is {alpha:g}.")
    if out is not None:
        history_files(out).remove()
    found = follow(
        str(folder),
        InputQuery(dict(metrics or {}), cluster),
        reference=None if reference is None else str(reference),
        alpha=alpha,
        temperature=temperature,
    )
    if out is not None:
        found.write(out)
    return found


def export(
    run: str | PathLike[str], *, to: Literal["lm-eval", "every-eval-ever"], out: str | PathLike[str]
) -> Exported:
    """Write the samples of a run as files that another tool reads, as `lldeg export` does.

    Args:
        run: run directory, a path or a URL.
        to: the format.
        out: new or empty folder for the files, a path or a URL.

    Returns:
        What was written.

    Raises:
        UserError: the run cannot be read, there is no such format, or the folder has files or cannot be
            written to.
    """
    from jobs.export import Target  # noqa: PLC0415
    from jobs.export.export_run import export_run  # noqa: PLC0415

    if to not in list(Target):
        raise UserError(f"There is no format {to!r} to export to; the formats are {', '.join(Target)}.")
    return export_run(str(run), Target(to), str(out))


def load_samples(run: str | PathLike[str]) -> pa.Table:
    """All samples of a run, a row per answer (docs/results.md says what the columns are).

    Args:
        run: run directory, a path or a URL.

    Returns:
        The table: the columns of the sample files after `variant` and `task`.

    Raises:
        UserError: it is not a run directory, or a file cannot be read.
    """
    from jobs.formats.run_files import RunFiles, samples_table  # noqa: PLC0415

    return samples_table(RunFiles.open(str(run)))


def load_items(run: str | PathLike[str]) -> pa.Table:
    """All items of a run, with their prompts and targets.

    Args:
        run: run directory, a path or a URL.

    Returns:
        The table; a row per task and item.

    Raises:
        UserError: it is not a run directory, or a file is missing or cannot be read.
    """
    from jobs.formats.run_files import RunFiles, items_table  # noqa: PLC0415

    return items_table(RunFiles.open(str(run)))
