"""The files of an analysis, which are there together or not at all: verdicts, tables, report.html."""

from jobs.analysis.compare import Analysis, GateName
from jobs.report.page import report
from jobs.text.junit import junit
from jobs.text.markdown import markdown
from jobs.text.outputs import decision_entry, json_text, output_files
from jobs.text.reasons import worded
from orchestrator.rundir.whole_files import FileSet

FILES = (
    "report.html", "summary.csv", "model_comparison.csv", "model_differences.csv",
    "summary_without_stderr.csv", "summary_with_stderr.csv", "aggregates.csv", "summary.md", "junit.xml",
    "decision.json", "verdicts.json",
)  # fmt: skip
"""In the order in which they appear: where there are verdicts, the others belong to them."""


def analysis_files(out: str) -> FileSet:
    """The files of an analysis in a folder, a path or a URL."""
    return FileSet(out, "analyze", FILES)


def write_analysis(analysis: Analysis, out: str, gate: GateName) -> None:
    """Put the files of an analysis in the place of those of an earlier one; if that fails, neither are there.

    Args:
        analysis: what was found.
        out: path or URL of the folder, which is made if it is not there.
        gate: what passes without a policy.

    Raises:
        UserError: the folder cannot be written to.
    """
    texts = {"report.html": report(analysis)} | output_files(analysis)
    texts["summary.md"] = markdown(analysis)
    texts["junit.xml"] = junit(worded(analysis), gate)
    if analysis.decision is not None:
        texts["decision.json"] = json_text(decision_entry(analysis.decision))
    analysis_files(out).replace({name: texts[name].encode() for name in sorted(texts, key=FILES.index)})
