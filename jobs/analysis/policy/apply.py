"""An analysis as a policy asks for it, and the decision."""

from collections.abc import Sequence
from typing import Any

from jobs.analysis.analyze_inputs import analyze_inputs
from jobs.analysis.compare import Analysis
from jobs.analysis.policy.decision import Decision
from jobs.analysis.policy.judge import decide_release
from jobs.analysis.policy.load import merged
from jobs.analysis.policy.schema import Policy
from jobs.scores.score_set import Reading, ScoreSet


def analyze_for_release(
    paths: Sequence[str],
    reading: Reading,
    policy: Policy | None,
    *,
    alpha: float | None = None,
    margin: float | None = None,
    **options: Any,
) -> tuple[ScoreSet, Analysis, Decision | None]:
    """Read scores, compare every variant with the baseline, and let a policy decide.

    Args:
        paths: what to read.
        reading: how to read it.
        policy: None for an analysis without one, which has no decision.
        alpha: level, where the policy has none.
        margin: largest acceptable drop, where the policy has none.
        **options: as in `analyze_inputs`. With a policy its `max_missing` takes the place of `least_common`.

    Raises:
        UserError: if the input cannot be read, nothing can be compared, or the policy does not fit.
    """
    if policy is None:
        return *analyze_inputs(paths, reading, alpha=alpha, margin=margin, **options), None
    chosen = options | {
        "alpha": merged("alpha", policy.alpha, alpha),
        "margin": merged("margin", policy.margin, margin),
        "least_common": 0.0,
    }
    scores, analysis = analyze_inputs(paths, reading, **chosen)
    return scores, analysis, decide_release(policy, scores, analysis)
