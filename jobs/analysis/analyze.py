"""The one way from paths to verdicts: for the command, for Python, and for the page that shows a run."""

from collections.abc import Sequence
from dataclasses import replace

from jobs.analysis.changes import measure_changes
from jobs.analysis.compare import Analysis, analyze_scores
from jobs.analysis.control import check_controls
from jobs.analysis.judge import decide_release, laxer_rules
from jobs.analysis.policy import Policy, PolicyError, load_policy
from jobs.analysis.request import AnalyzeRequest
from jobs.analysis.sequential.run_monitor import stops_early
from jobs.analysis.sequential.verdicts import analyze_by_looks
from jobs.analysis.speed import measure_speed
from jobs.scores.read import read_scores
from jobs.scores.score_set import ScoreSet


def analyze(paths: Sequence[str], request: AnalyzeRequest) -> Analysis:
    """Read scores, compare every variant with the baseline, and let the policy decide if there is one.

    Raises UserError if the input cannot be read, nothing can be compared, or the policy does not fit.
    """
    scores = read_scores(paths, request.query, request.scales)
    request = replace(request, policy=_policy(scores, request.policy))
    analysis = (analyze_by_looks if stops_early(scores) else analyze_scores)(scores, request)
    analysis = measure_speed(measure_changes(check_controls(analysis, request), request))
    analysis = replace(analysis, samples_digest=analysis.scores.digest())
    if request.policy is None:
        return analysis
    decision = decide_release(request.policy, analysis)
    warnings = (*analysis.warnings, *laxer_rules(request.policy, analysis.settings))
    return replace(analysis, decision=decision, warnings=warnings)


def _policy(scores: ScoreSet, given: Policy | None) -> Policy | None:
    """The policy given; of a run that stops early that of its plan, but for the variants that it is about."""
    if not stops_early(scores):
        return given
    plans = [run.manifest["stopping"] for run in scores.runs if "stopping" in run.manifest]
    planned = load_policy(plans[0]["policy"]) if "policy" in plans[0] else None
    if given is not None and given.model_copy(update={"variants": None}) != planned:
        what = "without a policy" if planned is None else "with another policy"
        said = f"the run stops variants early by a plan {what}, made before its first answer: leave it out"
        raise PolicyError("The policy", [("stops-early", said)])
    return given or planned
