"""report.html: the whole page as one file, next to the other outputs of an analysis."""

from collections.abc import Sequence
from posixpath import join

from jobs.analysis.compare import Analysis
from jobs.analysis.policy.decision import Decision
from jobs.inputs.run_directory.files import RunFiles
from jobs.report.content import content_of
from jobs.report.flips import flips_of
from jobs.report.page import render
from jobs.report.payload import embedded
from jobs.report.texts import Texts
from orchestrator.rundir.locations import open_location

REPORT = "report.html"


def write_report(
    analysis: Analysis, runs: Sequence[RunFiles], out: str, decision: Decision | None = None
) -> None:
    """Write report.html.

    Args:
        analysis: what was found.
        runs: where it was found, with prompts and answers to be shown; none where the input was scores only.
        out: path or URL of the folder, which exists.
        decision: of a policy, if there is one.
    """
    text = report(analysis, runs, decision)
    filesystem, folder = open_location(out)
    with filesystem.open_output_stream(join(folder, REPORT)) as file:
        file.write(text.encode())


def report(analysis: Analysis, runs: Sequence[RunFiles], decision: Decision | None = None) -> str:
    """The page as text."""
    content = content_of(analysis, [run.manifest for run in runs], decision)
    answers = max(sum(result.comparison.reruns) for result in analysis.results)
    flips = embedded(flips_of(analysis), Texts(runs), answers)
    return render("report.html.jinja", {"content": content, "flips": flips, "live": False})
