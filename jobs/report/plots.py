"""The plots of the page: where drops, looks, curves and histograms are drawn, for templates to lay out.

Places on an axis are in percent of its width, so that a plot fits any screen without rescaling: SVG takes
percentages as coordinates, lines keep their weight and letters their size, on a phone as on paper.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from jobs.analysis.compare import Analysis, VariantResult
from jobs.formats.samples import Temperature

Entry = Mapping[str, Any]  # a comparison of verdicts.json, or a task of one
Point = tuple[float, float]
PADDING = 0.06
MOST_LABELS = 12  # with more looks than that, not every one is labelled
MOST_RERUNS = 30  # with more reruns a histogram has more bars than a phone has room for


@dataclass(frozen=True)
class Axis:
    """A stretch of the number line, round numbers on it, and the unit of drops, if it is one."""

    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str = ""

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
    """The axis over all values but None, with about so many ticks, 1, 2 or 5 times a power of ten apart."""
    known = [value for value in values if value is not None]
    room = (max(known) - min(known) or 1.0) * PADDING
    low, high = min(known) - room, max(known) + room
    rough = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Axis(low, high, tuple(i * step for i in range(first, last + 1)))


def drop_axis(entries: Sequence[Entry]) -> Axis:
    """The axis for the drops of some entries, with zero and the margins on it."""
    ends = [end for entry in entries for end in (entry["drop"], entry["margin"], *limits(entry))]
    units = {str(entry["margin_unit"]) for entry in entries}
    return replace(axis_over([0.0, *ends]), unit=units.pop() if len(units) == 1 else "mixed")


def limits(entry: Entry) -> list[float | None]:
    """Ends of the interval that is shown; None where it has none, or none before scores end."""
    ends = entry["drop_interval_simultaneous"]
    if entry.get("looks") is None:
        return list(ends)
    return [None if end is not None and abs(end) >= 1.0 else end for end in ends]


def look_plot(entry: Entry) -> dict[str, Any]:
    """The path of a comparison between its two boundaries, look by look.

    Both tests are drawn on one axis, the evidence of a drop on the normal scale. The boundary of the
    certificate is put as far from the path as its own statistic is from its own boundary, so a path that
    touches it has certified the variant.

    Returns:
        The entry, the axes x and y, and points (look, value): the `path` (0 or the lowest other value where p
        is 1), and the finite boundaries for damage (`degraded`) and of the certificate (`certified`).
        `lines` has each of them, and the areas beyond the boundaries, in hundredths of width and height.
    """
    looks, planned = entry["looks"], entry["looks_planned"]
    statistics = [look["statistic"] for look in looks]
    lowest = min([0.0, *(value for value in statistics if value is not None)])
    path = [(look["look"], lowest if z is None else z) for look, z in zip(looks, statistics, strict=True)]
    degraded = [(look["look"], look["boundary"]) for look in looks if look["boundary"] is not None]
    certified = [
        (number, z + look["certified_statistic"] - look["certified_boundary"])
        for (number, z), look in zip(path, looks, strict=True)
        if None not in {look["certified_statistic"], look["certified_boundary"]}
    ]
    step = -(-planned // MOST_LABELS)
    labels = tuple(float(look) for look in range(step, planned + 1, step))
    x = Axis(0.5, planned + 0.5, labels)
    y = axis_over([0.0, *(value for _, value in (*path, *degraded, *certified))], ticks=4)

    def line(points: Sequence[Point]) -> str:
        places = [(float(x.at(a).rstrip("%")), float(y.up(b).rstrip("%"))) for a, b in points]
        return " ".join(f"{across:.2f},{down:.2f}" for across, down in places)

    def area(points: Sequence[Point], end: float) -> str:
        return line([(points[0][0], end), *points, (points[-1][0], end)]) if points else ""

    paths = {"path": path, "degraded": degraded, "certified": certified}
    lines = {name: line(points) for name, points in paths.items()}
    lines |= {"beyond_degraded": area(degraded, y.high), "beyond_certified": area(certified, y.low)}
    return {"entry": entry, **paths, "x": x, "y": y, "lines": lines}


def score_curves(verdicts: Entry) -> dict[str, Any] | None:
    """All models' scores in verdicts.json by temperature, over the tasks that were run at every temperature.

    Returns:
        Those tasks, the temperatures, the axes, and `models`: (name, points, pairs of neighbouring points),
        the baseline first. None with fewer than two temperatures or no common task.
    """
    entries = [entry for entry in verdicts["comparisons"] if entry["temperature"] is not None]
    temperatures = sorted({entry["temperature"] for entry in entries})
    tasks = [{task["task"] for task in entry["tasks"]} for entry in entries]
    if len(temperatures) < 2 or not (common := set.intersection(*tasks)):
        return None

    def points(score: str, variant: str) -> list[Point]:
        places = {}
        for entry in entries:
            if entry["variant"] == variant:
                kept = [task for task in entry["tasks"] if task["task"] in common]
                total = sum(task["items"] * task[score] for task in kept)
                places[entry["temperature"]] = total / sum(task["items"] for task in kept)
        return sorted(places.items())

    variants = list(dict.fromkeys(entry["variant"] for entry in entries))
    curves = [(verdicts["baseline"], points("baseline_score", variants[0]))]
    curves += [(variant, points("variant_score", variant)) for variant in variants]
    return {
        "tasks": [task["task"] for task in entries[0]["tasks"] if task["task"] in common],
        "temperatures": temperatures,
        "models": [(name, places, list(pairwise(places))) for name, places in curves],
        "x": axis_over(temperatures),
        "y": axis_over([score for _, places in curves for _, score in places]),
    }


def trade_off(verdicts: Entry) -> dict[str, Any] | None:
    """All drops in verdicts.json against cost or, without prices, speed, as multiples of the baseline's.

    Returns:
        `cheaper` (whether x is cost), the axes, the margin if all share one, the ends on x of where a variant
        would be worth it, and `points`: the comparison, its number from 1, the change, and x with its ends.
        None if neither is known.
    """
    changes = [(entry, change) for entry in verdicts["comparisons"] for change in entry["changes"]]
    for name in ("cost", "samples_per_second"):
        known = [(e, c) for e, c in changes if c["measurement"] == name and c["change"] is not None]
        if known:
            break
    else:
        return None
    points = []
    for number, (entry, change) in enumerate(known, start=1):
        ends = [change["change"], *change["change_interval"]]
        points.append((entry, number, change, *(None if end is None else 1.0 + end for end in ends)))
    margins = {entry["margin"] for entry, _ in known}
    x, cheaper = axis_over([1.0, *(place for point in points for place in point[3:])]), name == "cost"
    return {
        "cheaper": cheaper,
        "x": x,
        "y": drop_axis([entry for entry, _ in known]),
        "margin": margins.pop() if len(margins) == 1 else None,
        "worth": (x.low, 1.0) if cheaper else (1.0, x.high),
        "points": points,
    }


def success_histograms(analysis: Analysis) -> list[tuple[str, Temperature, list[int]]]:
    """How many items succeed in 0, 1, … of a model's reruns, where scores are right or wrong.

    It is the one thing on the page that verdicts.json does not hold.

    Returns:
        Model, temperature and counts, each baseline once, by temperature.
    """
    histograms: dict[tuple[str, Temperature], list[int]] = {}
    for result in analysis.results:
        for which, model in enumerate((analysis.baseline, result.variant)):
            if (counts := _success_counts(result, which)) is not None:
                histograms.setdefault((model, result.temperature), counts)
    places = sorted(histograms, key=lambda place: -1.0 if place[1] is None else place[1])
    return [(*place, histograms[place]) for place in places]


def _success_counts(result: VariantResult, which: int) -> list[int] | None:
    """Counts over the tasks with the full number of reruns; None where scores are no counts of successes."""
    reruns = result.comparison.reruns[which]
    if not 1 < reruns <= MOST_RERUNS:
        return None
    counts = np.zeros(reruns + 1, dtype=np.int64)
    for paired in result.scores:
        scores = paired.share((paired.baseline, paired.variant)[which]) * reruns
        whole = np.rint(scores)
        if paired.reruns[which] != reruns or np.abs(scores - whole).max() > 1e-6:
            return None
        if not paired.higher_is_better:
            whole = reruns - whole
        counts += np.bincount(whole.astype(np.int64), minlength=reruns + 1)
    return list(map(int, counts))
