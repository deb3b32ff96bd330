"""Places drops on a common axis, in percent of its width, so that a plot fits any screen without rescaling.

SVG takes percentages as coordinates: lines keep their weight and letters their size, on a phone as on paper.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PADDING = 0.06


@dataclass(frozen=True)
class Axis:
    """A stretch of the number line.

    Attributes:
        low, high: its ends.
        ticks: round numbers on it.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float | None) -> str:
        """The position of a value as a percentage of the width; values beyond the ends are clipped."""
        if value is None:
            return "50%"
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0.0), 1.0):.3f}%"

    def up(self, value: float) -> str:
        """The position of a value on a vertical axis, as a percentage of the height from the top."""
        return self.at(self.low + self.high - value)

    def width(self, low: float, high: float) -> str:
        """How wide a stretch is, as a percentage."""
        return f"{100 * max(0.0, (high - low) / (self.high - self.low)):.3f}%"


def axis_over(values: Iterable[float | None], ticks: int = 5) -> Axis:
    """The axis that holds all values and a little more.

    Args:
        values: at least one number; None is skipped.
        ticks: about how many ticks.
    """
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    room = (high - low or 1.0) * PADDING
    low, high = low - room, high + room
    step = _round_step((high - low) / ticks)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Axis(low, high, tuple(i * step for i in range(first, last + 1)))


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)


def drop_axis(entries: Iterable[Mapping[str, Any]]) -> Axis:
    """The axis for the drops of some entries of verdicts.json, with zero and the margins on it."""
    ends = [end for entry in entries for end in (entry["drop"], entry["margin"], *limits(entry))]
    return axis_over([0.0, *ends])


def limits(entry: Mapping[str, Any]) -> list[float | None]:
    """Ends of the interval that decides; None where it has none, or none before scores end."""
    ends = entry["drop_interval_decision"]
    if entry.get("looks") is None:
        return list(ends)
    return [None if end is not None and abs(end) >= 1.0 else end for end in ends]
