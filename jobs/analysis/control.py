"""The control: a variant that is the baseline again, or as good as it by all that is known.

If it is found to differ, something else than the variants differs, too (the state of a server, the load, the
data), and what the other verdicts show may be just that. So an analysis says it before everything else.
"""

from dataclasses import replace

import numpy as np

from jobs.analysis.compare import Analysis, VariantResult
from jobs.analysis.pairing import single_scores
from jobs.analysis.request import AnalyzeRequest
from jobs.formats.notices import Notice, NoticeCode, joined, some
from orchestrator.errors import UserError
from stats.arrays import block_sums
from stats.drop import ClusterEvidence
from stats.flips import excess_over_reruns
from stats.results import Settings
from stats.tasks.combine import combine_scores
from stats.verdict import Verdict


def controls_of(analysis: Analysis, request: AnalyzeRequest) -> list[VariantResult]:
    """The controls: the one asked for, else those that a run declares."""
    stated = set().union(*(run.declaring("control") for run in analysis.scores.runs))
    names = {request.control} if request.control else stated
    return [result for result in analysis.results if result.variant in names]


def check_controls(analysis: Analysis, request: AnalyzeRequest) -> Analysis:
    """An analysis with what is wrong with its controls first among its warnings.

    Raises UserError if there is no such control, or a strict request finds one that differs.
    """
    others = [model for model in analysis.scores.models if model != analysis.baseline]
    if request.control not in {None, *others}:
        said = f"there is no such variant; the variants are {some(others, 20)}."
        raise UserError(f"--control {request.control}: {said}")
    controls = controls_of(analysis, request)
    notices = []
    for result in controls:
        if found := _difference(result, analysis.settings, analysis.settings.alpha / (2 * len(controls))):
            said = f"The control {result.label} {found}: the other verdicts may show the same cause."
            notices.append(Notice(NoticeCode.CONTROL_DIFFERS, said))
    if notices and request.strict:
        raise UserError(f"{joined(notices)} --strict refuses verdicts beside it.")
    return replace(analysis, warnings=(*notices, *analysis.warnings))


def _difference(result: VariantResult, settings: Settings, level: float) -> str | None:
    """How a control differs from its baseline; None if nothing says so.

    It is as good an alarm that it is better, or that it gives other answers than reruns give. These two are
    tested at the given level, once, so not in a run that stops early.
    """
    if result.comparison.verdict is Verdict.DEGRADED:
        return f"is itself significantly worse than the baseline (p = {result.comparison.p_adjusted:.3g})"
    if result.course is not None:
        return None
    mirrored = [replace(task, higher_is_better=not task.higher_is_better) for task in result.scores]
    p = combine_scores(mirrored, settings.draws, settings.seed).p[settings.combine]
    if p <= level:
        return f"is significantly better than the baseline (p = {p:.3g})"
    sums, sizes = [np.zeros(0)], [np.zeros(0)]
    for task in result.tasks:
        if task.scores is not None:
            runs = (task.scores.share(single_scores(side)[task.common]) for side in task.sides)
            excess = excess_over_reruns(*runs)
            known = ~np.isnan(excess)
            labels = None if task.scores.labels is None else task.scores.labels[known]
            sums.append(block_sums(-excess[known], labels))
            sizes.append(block_sums(np.ones(int(known.sum())), labels))
    more, items = np.concatenate(sums), np.concatenate(sizes)
    if more.size < 2 or (p := ClusterEvidence(more, items, np.inf).p_noninferior(0.0)) > level:
        return None
    return f"differs from the baseline by more than reruns of either (p = {p:.3g})"
