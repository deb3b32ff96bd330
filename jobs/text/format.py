"""How numbers and names read: for people, on a terminal or in a document.

A name comes from outside and may hold anything; control characters (terminal escapes, text direction) are
taken out here, and each format escapes the rest in its own way. Numbers keep the digits that matter: a tiny
p-value is 4.8e-15, never 0.0.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.formats.samples import Temperature
    from stats.results import Comparison, Unit

_UNUSUAL = re.compile(r"[^\n\t -~]")


def printable(text: str) -> str:
    """Untrusted text: control and direction characters, but no line feed or tab, become a replacement."""
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return _UNUSUAL.sub(lambda m: "\ufffd" if unicodedata.category(m[0]) in hidden else m[0], text)


def clean(text: str) -> str:
    """The same on one line."""
    return printable(text.replace("\n", " ").replace("\t", " "))


def broken(name: str, width: int) -> str:
    """A name on lines of at most that width, broken after a separator where there is one."""
    lines = [""]
    for part in re.findall(r"[^\s_\-/.:|]*[\s_\-/.:|]?", name):
        if len(lines[-1]) + len(part) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def p_text(p: float) -> str:
    """A p-value with the digits that matter (0.0502, 4.8e-15): never rounded to 0 or across a level.

    A dash stands where there was no test.
    """
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return f"{p:.1e}"
    is_round = float(f"{p:.3g}") == float(f"{p:.1g}")  # as levels are
    return f"{p:.6g}" if is_round else f"{p:.3g}"


def money(amount: float) -> str:
    """An amount in any currency: two decimals, or three digits of less than one."""
    return f"{amount:,.2f}" if amount >= 1.0 or not amount else f"{amount:.3g}"


def percent(share: float) -> str:
    """A share as a percentage without its sign."""
    return f"{100 * share:.1f}"


def points_text(drop: float) -> str:
    """A drop in points, for a sentence."""
    return f"{100 * drop:g} point{'' if drop == 0.01 else 's'}"


def detectable_text(drop: float | None) -> str:
    """The smallest drop that a design detects, in points, or that it detects none."""
    return "none" if drop is None else f"{100 * drop:.2f} points"


def amount(drop: float, unit: Unit, *, sign: bool = True) -> str:
    """A drop as a number: in points where it is a share of a range, else in the metric's own unit."""
    if not math.isfinite(drop):
        return "∞" if drop > 0 else "−∞"
    plus = "+" if sign else ""
    if unit == "share":
        return f"{round(100 * drop, 2) + 0.0:{plus}.2f}"  # a rounded −0 is 0
    return f"{drop + 0.0:{plus}.4g}"


def amount_text(drop: float, unit: Unit) -> str:
    """A drop, without sign, with its unit."""
    number = amount(abs(drop), unit, sign=False)
    return f"{number} points" if unit == "share" else number


def score_text(score: float, unit: Unit) -> str:
    """A mean score: in percent of the range, or in the metric's own unit."""
    return percent(score) if unit == "share" else f"{score:.4g}"


def scores_text(comparison: Comparison) -> str:
    """The scores of baseline and variant."""
    scores = (comparison.baseline_score, comparison.variant_score)
    return " → ".join(score_text(score, comparison.margin_unit) for score in scores)


def drop_text(comparison: Comparison, interval: Sequence[float]) -> str:
    """A drop with its interval; a dash for an end where looks set no limit before scores end."""
    unit, ends = comparison.margin_unit, []
    for end in interval:
        is_open = math.isnan(comparison.p_pooled) and not abs(end) < 1.0 and unit == "share"
        ends.append("–" if is_open else amount(end, unit, sign=False))
    return f"{amount(comparison.drop, unit)} [{', '.join(ends)}]"


def temperature_text(temperature: Temperature) -> str:
    """A temperature, or a dash where none is known."""
    return "–" if temperature is None else f"{temperature:g}"


def problem_text(reason: str) -> str:
    """What keeps a running sweep from writing answers now, as a sentence."""
    return f"{reason[:1].upper()}{reason[1:]} (no answers lost)"
