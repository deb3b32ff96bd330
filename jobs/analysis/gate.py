"""The exit status of an analysis: what a pipeline acts on."""

from typing import Literal, TypeAlias

from jobs.analysis.compare import Analysis
from jobs.formats.notices import Notice, NoticeCode
from stats.verdict import Verdict

GateName: TypeAlias = Literal["degraded", "certified"]

DEGRADED, UNDECIDED = 1, 3
UNSOUND = {NoticeCode.LOOKS_REDRAWN, NoticeCode.LOOKS_DIFFER, NoticeCode.LOOKS_MISSING}
"""Warnings that the looks of a run may not be those of its plan, so that their levels may not hold."""


def exit_status(analysis: Analysis, gate: GateName) -> int:
    """That of the policy, or else a proven degradation first, then anything that prevents an all-clear.

    Args:
        analysis: what was found.
        gate: "degraded" lets everything pass that is not degraded, "certified" only what is certified.
    """
    if analysis.decision is not None:
        return analysis.decision.exit_status
    verdicts = {result.comparison.verdict for result in analysis.results}
    if Verdict.DEGRADED in verdicts:
        return DEGRADED
    if analysis.incomplete or unsound(analysis):
        return UNDECIDED
    if gate == "certified" and (verdicts != {Verdict.CERTIFIED} or lacks_answers(analysis)):
        return UNDECIDED
    return 0


def explain_status(analysis: Analysis, gate: GateName) -> str | None:
    """Why verdicts without damage do not make an exit status of 0; None if they do, or say it themselves."""
    verdicts = {result.comparison.verdict for result in analysis.results}
    if analysis.decision is None and Verdict.DEGRADED not in verdicts and (notice := unsound(analysis)):
        return f"Exit status 3, whatever the verdicts: {notice.text}"
    are_certified = analysis.decision is None and verdicts == {Verdict.CERTIFIED}
    if gate != "certified" or not are_certified or exit_status(analysis, gate) == 0:
        return None
    if any(notice.code == NoticeCode.NOT_COMPARED for notice in analysis.warnings):
        return "Exit status 3: not every variant could be compared (see the warnings)."
    said = "Exit status 3 although every variant is certified:"
    if analysis.incomplete:
        return f"{said} the run is incomplete. Submit it again to finish it."
    said = f"{said} answers are missing or failed (see the warnings)"
    if analysis.plan is not None:
        return f"{said}, and a run that stops early does not ask for them again."
    return f"{said}. Submit the sweep again, or use only the available answers with --missing drop."


def unsound(analysis: Analysis) -> Notice | None:
    """What forbids to rely on the looks of a run, if anything does."""
    return next((notice for notice in analysis.warnings if notice.code in UNSOUND), None)


def lacks_answers(analysis: Analysis) -> bool:
    """Whether answers are missing or failed, unless the user has said to go by what is there."""
    return analysis.gaps and analysis.settings.missing == "worst"
