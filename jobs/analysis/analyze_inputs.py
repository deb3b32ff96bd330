"""From paths to verdicts: what `lldeg analyze` and the Python API have in common."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jobs.analysis.compare import LEAST_COMMON, Analysis, Request, analyze_scores
from jobs.analysis.sequential.refusals import plan_settings, stops_early
from jobs.analysis.sequential.verdicts import analyze_by_looks
from jobs.analysis.settings import choose_settings
from jobs.formats.registry import is_run
from jobs.formats.samples import Temperature
from jobs.scores.read import read_scores
from jobs.scores.score_set import Reading, ScoreSet


def analyze_inputs(
    paths: Sequence[str],
    reading: Reading,
    *,
    baseline: str | None = None,
    temperature: Temperature = None,
    strict: bool = False,
    least_common: float = LEAST_COMMON,
    **choices: Any,
) -> tuple[ScoreSet, Analysis]:
    """Read scores and compare every variant with the baseline.

    Args:
        paths: what to read.
        reading: how to read it.
        baseline: as in `Request`.
        temperature: as in `Request`.
        strict: as in `Request`.
        least_common: as in `Request`.
        **choices: as in `choose_settings`.

    Returns:
        The scores (of a run that stops early, those that count), and what was found.

    Raises:
        UserError: if the input cannot be read, or nothing can be compared.
    """
    scores = read_scores(paths, reading)
    settings = plan_settings(scores, reading, baseline, choices) or choose_settings(scores, **choices)
    request = Request(settings, baseline, temperature, reading.cluster, strict, least_common)
    if stops_early(scores):
        scores, analysis = analyze_by_looks(scores, request)
    else:
        analysis = analyze_scores(scores, request)
    return scores, replace(analysis, samples_digest=scores.digest())


def default_folder(paths: Sequence[str]) -> str:
    """Where the files go: into the run or folder of runs, but never next to inputs of other tools."""
    if len(paths) == 1 and is_run(paths[0]):
        return f"{paths[0].rstrip('/')}/analysis"
    return "analysis"
