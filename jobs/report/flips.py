"""Which items changed: the index that a flip browser pages through.

It is taken from the scores that were tested, so it counts exactly the flips of the verdicts, and it is small
(three arrays per task), so texts can be fetched for the few flips somebody looks at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.compare import Analysis
from jobs.formats.samples import Temperature
from stats.arrays import Floats
from stats.scores import TaskScores
from stats.verdict import Verdict

GRAVEST_FIRST = (Verdict.DEGRADED, Verdict.INCONCLUSIVE, Verdict.CERTIFIED)


@dataclass(frozen=True)
class Cell:
    """One task of one comparison.

    Attributes:
        baseline, variant: the two models.
        temperature: of both.
        task: its name.
        metric: key of the metric that was tested.
    """

    baseline: str
    variant: str
    temperature: Temperature
    task: str
    metric: str


@dataclass(frozen=True)
class Flips:
    """The items of a cell whose score changed, in item order; arrays have shape (flips,).

    Attributes:
        cell: where.
        items: their identifiers.
        baseline, variant: mean scores over reruns.
        drop: how much worse the variant is, in shares of the metric's range; never 0.
    """

    cell: Cell
    items: NDArray[np.generic]
    baseline: Floats
    variant: Floats
    drop: Floats

    def __len__(self) -> int:
        return len(self.items)

    def where(self, keep: NDArray[np.generic]) -> "Flips":
        """Some of them, by mask, slice positions or indices."""
        arrays = (array[keep] for array in (self.items, self.baseline, self.variant, self.drop))
        return Flips(self.cell, *arrays)


@dataclass(frozen=True)
class Wanted:
    """What a reader asked to see; None means all. A direction is "worse" or "better"."""

    variant: str | None = None
    temperature: Temperature = None
    task: str | None = None
    direction: str | None = None
    item: str | None = None


def flips_of(analysis: Analysis) -> list[Flips]:
    """All flips, comparison by comparison with the gravest first, task by task."""
    return [
        _flips(
            Cell(analysis.baseline, r.variant, r.temperature, pair.info.name, pair.info.metric), pair.scores
        )
        for r in sorted(analysis.results, key=lambda result: GRAVEST_FIRST.index(result.comparison.verdict))
        for pair in r.pairs
    ]


def _flips(cell: Cell, scores: TaskScores) -> Flips:
    items = np.arange(scores.baseline.size) if scores.items is None else scores.items
    everything = Flips(cell, items, scores.baseline, scores.variant, scores.differences)
    return everything.where(np.flatnonzero(scores.differences))


def select(index: Sequence[Flips], wanted: Wanted) -> list[Flips]:
    """The flips a reader asked for, cells without any left out."""
    found = (_narrow(flips, wanted) for flips in index if _matches(flips.cell, wanted))
    return [flips for flips in found if len(flips)]


def _matches(cell: Cell, wanted: Wanted) -> bool:
    return (
        wanted.variant in {None, cell.variant}
        and wanted.task in {None, cell.task}
        and wanted.temperature in {None, cell.temperature}
    )


def _narrow(flips: Flips, wanted: Wanted) -> Flips:
    if wanted.direction is not None:
        flips = flips.where(np.flatnonzero((flips.drop > 0) == (wanted.direction == "worse")))
    if wanted.item is not None:
        flips = flips.where(np.flatnonzero(flips.items.astype(str) == wanted.item))
    return flips


def page(found: Sequence[Flips], start: int, count: int) -> Iterator[Flips]:
    """The cells, cut down to `count` flips from `start` on."""
    stop = start + count
    for flips in found:
        if start < len(flips) and stop > 0:
            yield flips.where(np.arange(max(start, 0), min(stop, len(flips))))
        start, stop = start - len(flips), stop - len(flips)


def spread(index: Sequence[Flips], limit: int) -> list[Flips]:
    """At most `limit` flips, as many from every cell as it has, so none crowds out another."""
    share, left = dict.fromkeys(range(len(index)), 0), limit
    hungry = [i for i in share if len(index[i])]
    while hungry and left > 0:
        each = max(1, left // len(hungry))
        for i in hungry:
            more = min(each, len(index[i]) - share[i], left)
            share[i], left = share[i] + more, left - more
        hungry = [i for i in hungry if share[i] < len(index[i])]
    return [index[i].where(np.arange(count)) for i, count in share.items() if count]
