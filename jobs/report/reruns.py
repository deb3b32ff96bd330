"""What repeating shows: scores against temperature, and how often an item succeeds.

Curves compare like with like, so they are taken over the tasks that were run at every temperature. The
histogram is the one thing on the page that verdicts.json does not hold; it is counted from the scores behind
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.analysis.compare import Analysis, VariantResult
from jobs.formats.samples import Temperature
from jobs.report.forest import Axis, axis_over

MOST_RERUNS = 30
"""With more reruns a histogram has more bars than a phone has room for."""


@dataclass(frozen=True)
class Curve:
    """One model's mean score at each temperature."""

    model: str
    points: tuple[tuple[float, float], ...]

    @property
    def segments(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Neighbouring points."""
        return list(zip(self.points, self.points[1:], strict=False))


@dataclass(frozen=True)
class Curves:
    """All models' scores against temperature, over common tasks."""

    tasks: tuple[str, ...]
    temperatures: tuple[float, ...]
    curves: tuple[Curve, ...]
    x: Axis
    y: Axis


def curves_of(verdicts: dict[str, Any]) -> Curves | None:
    """Scores against temperature; None with fewer than two temperatures or no common task.

    Args:
        verdicts: the content of verdicts.json.
    """
    entries = [entry for entry in verdicts["comparisons"] if entry["temperature"] is not None]
    temperatures = sorted({entry["temperature"] for entry in entries})
    common = (
        set.intersection(*({task["task"] for task in entry["tasks"]} for entry in entries))
        if entries
        else set()
    )
    if len(temperatures) < 2 or not common:
        return None
    names = list(dict.fromkeys(entry["variant"] for entry in entries))
    curves = [
        Curve(verdicts["baseline"], _points(entries, "baseline_score", common, names[:1])),
        *(Curve(name, _points(entries, "variant_score", common, [name])) for name in names),
    ]
    scores = [score for curve in curves for _, score in curve.points]
    ordered = tuple(task["task"] for task in entries[0]["tasks"] if task["task"] in common)
    return Curves(ordered, tuple(temperatures), tuple(curves), axis_over(temperatures), axis_over(scores))


def _points(
    entries: Sequence[dict[str, Any]], score: str, tasks: set[str], names: Sequence[str]
) -> tuple[tuple[float, float], ...]:
    points = {}
    for entry in entries:
        if entry["variant"] in names:
            kept = [task for task in entry["tasks"] if task["task"] in tasks]
            total = sum(task["items"] * task[score] for task in kept)
            points[entry["temperature"]] = total / sum(task["items"] for task in kept)
    return tuple(sorted(points.items()))


@dataclass(frozen=True)
class Histogram:
    """How many items succeed in 0, 1, … of a model's reruns."""

    model: str
    temperature: Temperature
    counts: tuple[int, ...]

    @property
    def flipping(self) -> int:
        """Items that are neither always right nor always wrong."""
        return sum(self.counts[1:-1])


def histograms_of(analysis: Analysis) -> list[Histogram]:
    """One per model and temperature with reruns of right-or-wrong scores, each baseline once."""
    found: dict[tuple[str, Temperature], Histogram] = {}
    for result in analysis.results:
        for which, model in enumerate((analysis.baseline, result.variant)):
            counts = _success_counts(result, which)
            if counts is not None:
                found.setdefault((model, result.temperature), Histogram(model, result.temperature, counts))
    return sorted(
        found.values(), key=lambda histogram: -1.0 if histogram.temperature is None else histogram.temperature
    )


def _success_counts(result: VariantResult, which: int) -> tuple[int, ...] | None:
    """Counts over the tasks with the full number of reruns; None where scores are no counts of successes."""
    reruns = result.comparison.reruns[which]
    if not 1 < reruns <= MOST_RERUNS:
        return None
    counts = np.zeros(reruns + 1, dtype=np.int64)
    for pair in result.pairs:
        scores = pair.scores.share((pair.scores.baseline, pair.scores.variant)[which]) * reruns
        whole = np.rint(scores)
        if pair.scores.reruns[which] != reruns or np.abs(scores - whole).max() > 1e-6:
            return None
        if not pair.info.higher_is_better:
            whole = reruns - whole
        counts += np.bincount(whole.astype(np.int64), minlength=reruns + 1)
    return tuple(counts.tolist())
