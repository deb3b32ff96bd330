"""What to know about answers of a run that stops early when they are used for something else."""

from collections.abc import Sequence

from jobs.analysis.sequential.followed import follow
from jobs.formats.notices import some
from jobs.formats.run_files import RunFiles


def stopped_notes(runs: Sequence[RunFiles]) -> list[str]:
    """One sentence per run whose decisions left samples out: which comparisons were stopped, and where.

    Raises:
        UserError: if a run contradicts its plan.
    """
    return [said for run in runs if "stopping" in run.manifest and (said := _stopped(run))]


def _stopped(run: RunFiles) -> str:
    followed = follow(run)
    stopped = [
        f"{variant} at temperature {temperature:g} ({100 * course.share_used:.0f} %)"
        for (variant, temperature), course in followed.courses.items()
        if course.stopped
    ]
    if followed.finished or not stopped:
        return ""
    return (
        f"{run.location} stopped variants early, with a share of their samples: {some(stopped)}. Rates are "
        "over the items that were answered; damage that stopped a variant is, on average, smaller than it "
        "looks."
    )
