"""The one way from paths to verdicts: for the command, for Python, and for the page that shows a run."""

from collections.abc import Sequence
from dataclasses import replace

from jobs.analysis.changes import measure_changes
from jobs.analysis.compare import Analysis, analyze_scores
from jobs.analysis.control import check_controls
from jobs.analysis.judge import decide_release, laxer_rules
from jobs.analysis.request import AnalyzeRequest
from jobs.analysis.sequential.run_monitor import stops_early
from jobs.analysis.sequential.verdicts import analyze_by_looks
from jobs.scores.read import read_scores


def analyze(paths: Sequence[str], request: AnalyzeRequest) -> Analysis:
    """Read scores, compare every variant with the baseline, and let the policy decide if there is one.

    Raises UserError if the input cannot be read, nothing can be compared, or the policy does not fit.
    """
    scores = read_scores(paths, request.query, request.scales)
    analysis = (analyze_by_looks if stops_early(scores) else analyze_scores)(scores, request)
    analysis = measure_changes(check_controls(analysis, request), request)
    analysis = replace(analysis, samples_digest=analysis.scores.digest())
    if request.policy is None:
        return analysis
    decision = decide_release(request.policy, analysis)
    warnings = (*analysis.warnings, *laxer_rules(request.policy, analysis.settings))
    return replace(analysis, decision=decision, warnings=warnings)
