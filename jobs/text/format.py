"""How numbers, names and verdicts read: for people, on a terminal or in a document.

A name comes from outside and may hold anything; control characters (terminal escapes, text direction) are
taken out here, and each format escapes the rest in its own way. Numbers keep the digits that matter: a tiny
p-value is 4.8e-15, never 0.0.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.analysis.compare import Analysis, VariantResult
    from jobs.inputs.score_set import Temperature
    from stats.comparison import Settings
    from stats.results import Comparison


def clean(text: str) -> str:
    """Untrusted text on one line: control and direction characters become a replacement character."""
    spaced = text.replace("\n", " ").replace("\t", " ")
    return "".join("\ufffd" if unicodedata.category(char) in {"Cc", "Cf", "Cs"} else char for char in spaced)


def broken(name: str, width: int) -> str:
    """A name on lines of at most that width, broken after a separator where there is one."""
    lines = [""]
    for part in re.findall(r"[^\s_\-/.:|]*[\s_\-/.:|]?", name):
        if len(lines[-1]) + len(part) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def p_text(p: float) -> str:
    """A p-value with the digits that matter (0.0502, 4.8e-15): never rounded to 0 or across a level."""
    return f"{p:.1e}" if p < 0.001 else f"{p:.3g}"


def percent(share: float) -> str:
    """A share as a percentage without its sign."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """A drop in points, with sign."""
    return f"{_rounded(share):+.2f}"


def _rounded(share: float) -> float:
    return round(100 * share, 2) + 0.0  # a rounded −0 is 0


def temperature_text(temperature: Temperature) -> str:
    """A temperature, or a dash where none is known."""
    return "–" if temperature is None else f"{temperature:g}"


def interval_text(comparison: Comparison) -> str:
    """The interval of the drop in points."""
    low, high = (_rounded(limit) for limit in comparison.drop_interval)
    return f"[{low:.2f}, {high:.2f}]"


def meaning(result: VariantResult, analysis: Analysis) -> str:
    """What a verdict means, in plain words."""
    comparison, settings = result.comparison, analysis.settings
    at = "" if result.temperature is None else f" at temperature {result.temperature:g}"
    subject = f"{clean(result.variant)}{at}"
    if comparison.verdict == "degraded":
        return _degraded(subject, clean(analysis.baseline), comparison, settings)
    if comparison.verdict == "certified":
        return (
            f"{subject} is good enough: a drop of {margin_text(settings)} or more is ruled out "
            f"(p = {p_text(comparison.p_noninferior)})."
        )
    return _inconclusive(subject, comparison, settings)


def margin_text(settings: Settings) -> str:
    """The margin in points."""
    size = 100 * settings.margin
    return f"{size:g} point" if size == 1 else f"{size:g} points"


def _degraded(subject: str, baseline: str, comparison: Comparison, settings: Settings) -> str:
    text = (
        f"{subject} is worse than {baseline}: it loses {_loss(comparison, settings)}, "
        f"and chance alone would hardly do that (p = {p_text(comparison.p_adjusted)})."
    )
    if comparison.p_noninferior <= settings.alpha:
        return f"{text} The drop is real but stays within the margin of {margin_text(settings)}."
    return text


def _loss(comparison: Comparison, settings: Settings) -> str:
    """What is lost: overall or, where that alone could be chance, with the task that decided."""
    points = f"{100 * comparison.drop:.2f} points"
    if comparison.p_pooled <= settings.alpha or not comparison.tasks:
        return points
    worst = min(comparison.tasks, key=lambda task: task.log_p_pooled)
    return f"{points} in all and {100 * worst.drop:.2f} on {clean(worst.task or '')}"


def _inconclusive(subject: str, comparison: Comparison, settings: Settings) -> str:
    text = (
        f"{subject} is not decided: no significant drop was seen, but one of more than the margin of "
        f"{margin_text(settings)} is not ruled out (it may be up to {100 * comparison.drop_interval[1]:.2f})."
    )
    if comparison.items_needed is None:
        return text
    return f"{text} About {comparison.items_needed:,} items would decide; these are {comparison.items:,}."
