"""The path of a comparison between its two boundaries, look by look.

Both tests are drawn on one axis, the evidence of a drop on the normal scale. The boundary of the certificate
is put as far from the path as its own statistic is from its own boundary, so a path that touches it has
certified the variant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.forest import Axis, axis_over

MOST_LABELS = 12
"""With more looks than that, not every one is labelled."""

Point = tuple[float, float]


@dataclass(frozen=True)
class LookPlot:
    """One comparison.

    Attributes:
        entry: its entry in verdicts.json.
        path: look and statistic; where there is none (p is 1), 0 or the lowest other one.
        degraded: look and boundary for damage, where it is finite.
        certified: look and boundary for a certificate, where one is tested.
        x, y: the axes.
    """

    entry: Mapping[str, Any]
    path: tuple[Point, ...]
    degraded: tuple[Point, ...]
    certified: tuple[Point, ...]
    x: Axis
    y: Axis

    @property
    def beyond_degraded(self) -> str:
        """Corners of the area beyond the boundary for damage, in hundredths of width and height."""
        return self._area(self.degraded, self.y.high)

    @property
    def beyond_certified(self) -> str:
        """The same of the certificate."""
        return self._area(self.certified, self.y.low)

    def line(self, points: Sequence[Point]) -> str:
        """Points of a line, in hundredths of width and height."""
        return " ".join(f"{self._across(x):.2f},{self._down(y):.2f}" for x, y in points)

    def _area(self, points: Sequence[Point], end: float) -> str:
        if not points:
            return ""
        (first, _), (last, _) = points[0], points[-1]
        return self.line([(first, end), *points, (last, end)])

    def _across(self, x: float) -> float:
        return float(self.x.at(x).rstrip("%"))

    def _down(self, y: float) -> float:
        return float(self.y.up(y).rstrip("%"))


def look_plots(entries: Sequence[Mapping[str, Any]]) -> list[LookPlot]:
    """A picture for every comparison that was followed over looks and has taken one.

    Args:
        entries: the comparisons of verdicts.json.
    """
    return [_plot(entry) for entry in entries if entry["looks"]]


def _plot(entry: Mapping[str, Any]) -> LookPlot:
    looks, planned = entry["looks"], entry["looks_planned"]
    found = [look["statistic"] for look in looks]
    lowest = min([0.0, *(value for value in found if value is not None)])
    path = tuple((look["look"], lowest if z is None else z) for look, z in zip(looks, found, strict=True))
    degraded = tuple((look["look"], look["boundary"]) for look in looks if look["boundary"] is not None)
    certified = tuple(
        (number, z + look["certified_statistic"] - look["certified_boundary"])
        for (number, z), look in zip(path, looks, strict=True)
        if None not in {look["certified_statistic"], look["certified_boundary"]}
    )
    y = axis_over([0.0, *(value for _, value in (*path, *degraded, *certified))], ticks=4)
    step = -(-planned // MOST_LABELS)
    labels = tuple(float(look) for look in range(step, planned + 1, step))
    return LookPlot(entry, path, degraded, certified, Axis(0.5, planned + 0.5, labels), y)
