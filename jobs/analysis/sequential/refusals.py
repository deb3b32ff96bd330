"""What cannot be asked of a run that stops early: anything else than its plan.

Level, margin, tests and metrics were fixed before the first answer, and which samples there are follows from
them. Another choice would be made on scores that have been seen, so it is refused; repeating the plan's is
fine.
"""

from collections.abc import Mapping
from typing import Any

from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles
from jobs.scores.scale_options import AS_READ
from jobs.scores.score_set import Reading, ScoreSet
from orchestrator.errors import UserError
from orchestrator.rundir.schema import StoppingEntry
from stats.results import Settings
from stats.sequential.plan import SequentialPlan

Choices = Mapping[str, Any]


def stops_early(book: ScoreSet) -> bool:
    """Whether scores come from a run whose variants are stopped when they are decided."""
    return any("stopping" in run.manifest for run in book.runs)


def _the_run(book: ScoreSet) -> tuple[RunFiles, StoppingEntry]:
    """The run that stops early, and its plan in the manifest.

    Raises:
        UserError: if other runs are to be pooled with it.
    """
    if len(book.runs) > 1:
        name = next(run.location for run in book.runs if "stopping" in run.manifest)
        raise UserError(
            f"{name} stops variants early by a plan of its own, so it cannot be pooled with other runs: "
            "analyze it alone."
        )
    return book.runs[0], book.runs[0].manifest["stopping"]


def plan_settings(
    book: ScoreSet, reading: Reading, baseline: str | None, choices: Choices
) -> Settings | None:
    """The settings that the plan of a run has; None where no run stops early.

    Args:
        book: the scores, with the metrics that were asked for.
        reading: how they were read.
        baseline: that of the user, None for the plan's.
        choices: fields of `Settings`; None, or the default of a test, for the plan's.

    Raises:
        UserError: if another choice is asked for; it names all of them and what the plan has.
    """
    if not stops_early(book):
        return None
    run, entry = _the_run(book)
    planned = [*_numbers(entry, choices), *_tests(choices), *_metrics(book, entry)]
    planned += [*_clusters(book, run, reading.cluster)]
    if reading.scales != AS_READ:
        planned.append("the scales of the run (not --range, --margin TASK=M or another direction)")
    if baseline not in {None, run.baseline}:
        planned.append(f"the baseline {run.baseline} (not --baseline {baseline})")
    if planned:
        raise UserError(
            f"{run.location} stops variants early by a plan that was fixed before its first answer, with "
            f"{', '.join(planned)}: leave these options out."
        )
    several = len(entry["comparisons"]) > 1
    return Settings(alpha=entry["alpha"], margin=entry["margin"], adjust="holm" if several else "none")


def _numbers(entry: StoppingEntry, choices: Choices) -> list[str]:
    wanted = {"alpha": ("level", entry["alpha"]), "margin": ("margin", entry["margin"])}
    return [
        f"the {what} {value:g} (not --{name} {choices[name]:g})"
        for name, (what, value) in wanted.items()
        if choices.get(name) not in {None, value}
    ]


def _tests(choices: Choices) -> list[str]:
    """The defaults of the fixed analysis stand for the plan's own; `maxt` is what Holm replaces here."""
    wanted = {
        "combine": ("the statistic", SequentialPlan.combine, set()),
        "adjust": ("adjustment by", SequentialPlan.adjust, {Settings.adjust}),
        "missing": ("missing answers at their", Settings.missing, set()),
        "certify": ("certificates for", Settings.certify, set()),
    }
    return [
        f"{what} {value} (not --{name} {choices[name]})"
        for name, (what, value, same) in wanted.items()
        if choices.get(name) not in {None, value, *same}
    ]


def _metrics(book: ScoreSet, entry: StoppingEntry) -> list[str]:
    planned = entry["metrics"]
    return [
        f"the metric {planned[task]} of {task} (not {table.info.metric})"
        for table in book.tasks
        if (task := table.info.name) in planned and planned[task] != table.info.metric
    ]


def _clusters(book: ScoreSet, run: RunFiles, asked: str | None) -> list[str]:
    """Those of the run; without any and without items that tasks share, that is `none`."""
    columns = {task.get("cluster") for task in run.tasks.values()} - {None}
    linked = any(table.links is not None for table in book.tasks)
    if asked is None or columns == {asked} or (asked == "none" and not columns and not linked):
        return []
    own = f"clusters by {some(sorted(map(str, columns)))}" if columns else "the clusters of the run"
    return [f"{own} (not --cluster {asked})"]
