"""What cannot be asked of a run that stops early: anything else than its plan.

Level, margin, tests and metrics were fixed before the first answer, and which samples there are follows from
them. Another choice would be made on scores that have been seen, so it is refused; repeating the plan's is
fine.
"""

from collections.abc import Iterator, Sequence

from jobs.analysis.request import AnalyzeRequest
from jobs.analysis.sequential.monitor import follow
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.scores.scale_options import AS_READ
from jobs.scores.score_set import ScoreSet
from orchestrator.errors import UserError
from stats.results import Settings
from stats.sequential.plan import SequentialPlan


def stops_early(scores: ScoreSet) -> bool:
    """Whether scores come from a run whose variants are stopped when they are decided."""
    return any("stopping" in run.manifest for run in scores.runs)


def plan_settings(scores: ScoreSet, request: AnalyzeRequest) -> Settings:
    """The settings that the plan of a run has.

    Args:
        scores: those of a run that stops early, with the metrics that were asked for.
        request: None, or the default of a test, stands for the plan's own choice.

    Raises:
        UserError: if another choice is asked for; it names all of them and what the plan has. Or if other
            runs are to be pooled with it.
    """
    if len(scores.runs) > 1:
        name = next(run.location for run in scores.runs if "stopping" in run.manifest)
        raise UserError(
            f"{name} stops variants early by a plan of its own, so it cannot be pooled with other runs: "
            "analyze it alone."
        )
    run = scores.runs[0]
    if planned := list(_other_choices(scores, run, request)):
        raise UserError(
            f"{run.location} stops variants early by a plan that was fixed before its first answer, with "
            f"{', '.join(planned)}: leave these options out."
        )
    entry = run.manifest["stopping"]
    several = len(entry["comparisons"]) > 1
    return Settings(alpha=entry["alpha"], margin=entry["margin"], adjust="holm" if several else "none")


def _other_choices(scores: ScoreSet, run: RunFiles, request: AnalyzeRequest) -> Iterator[str]:
    """What the plan has where something else is asked for."""
    entry = run.manifest["stopping"]
    numbers = {"alpha": ("level", entry["alpha"]), "margin": ("margin", entry["margin"])}
    for name, (what, number) in numbers.items():
        asked = request.stated(name)
        if asked is not None and asked != number:
            yield f"the {what} {number:g} (not --{name} {asked:g})"
    tests = {
        "combine": ("the statistic", SequentialPlan.combine),
        "adjust": ("adjustment by", SequentialPlan.adjust),
        "missing": ("missing answers at their", Settings.missing),
        "certify": ("certificates for", Settings.certify),
    }
    for name, (what, planned) in tests.items():
        chosen = getattr(request, name)
        if chosen not in {planned, getattr(Settings, name)}:  # `maxt` is what Holm replaces here
            yield f"{what} {planned} (not --{name} {chosen})"
    for table in scores.tasks:
        metric = entry["metrics"].get(table.info.name, table.info.metric)
        if metric != table.info.metric:
            yield f"the metric {metric} of {table.info.name} (not {table.info.metric})"
    columns = {task.get("cluster") for task in run.tasks.values()} - {None}
    has_none = not columns and not any(table.links is not None for table in scores.tasks)
    if (
        request.cluster is not None
        and columns != {request.cluster}
        and not (request.cluster == "none" and has_none)
    ):
        own = f"clusters by {some(sorted(map(str, columns)))}" if columns else "the clusters of the run"
        yield f"{own} (not --cluster {request.cluster})"
    if request.scales != AS_READ:
        yield "the scales of the run (not --range, --margin TASK=M or another direction)"
    if request.baseline not in {None, run.baseline}:
        yield f"the baseline {run.baseline} (not --baseline {request.baseline})"


def stopped_notes(runs: Sequence[RunFiles]) -> list[str]:
    """What to know about answers of runs that stop early when they are used for something else.

    Returns:
        One sentence per run whose decisions left samples out: which comparisons were stopped, and where.

    Raises:
        UserError: if a run contradicts its plan.
    """
    notes = []
    for run in runs:
        if "stopping" not in run.manifest:
            continue
        monitor = follow(run)
        stopped = [
            f"{variant} at temperature {temperature:g} ({100 * course.share_used:.0f} %)"
            for (variant, temperature), course in monitor.courses(tested=False).items()
            if course.stopped
        ]
        if stopped and not monitor.finished:
            notes.append(
                f"{run.location} stopped variants early, with a share of their samples: {some(stopped)}. "
                "Rates are over the items that were answered; damage that stopped a variant is, on average, "
                "smaller than it looks."
            )
    return notes
