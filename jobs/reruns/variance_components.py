"""Where the variance of one model's answers comes from: items, temperatures, seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.formats.samples import Temperature
from jobs.scores.rerun_set import RepeatedAnswers
from stats.arrays import Floats
from stats.flips import VarianceSplit, variance_split


@dataclass(frozen=True)
class Sources:
    """Variance of one model's answers by source, over the temperatures with at least two seeds.

    Attributes:
        variant: its name.
        task: name of the task, None for all.
        temperatures: which ones.
        seeds: how many of each were used.
        variance: the split.
    """

    variant: str
    task: str | None
    temperatures: tuple[Temperature, ...]
    seeds: int
    variance: VarianceSplit


def variance_sources(cells: Sequence[RepeatedAnswers]) -> Iterator[Sources]:
    """Split the variance of every model: over all tasks that were run at all its temperatures, then each."""
    repeated = [cell for cell in cells if len(cell.runs) > 1]
    for variant in dict.fromkeys(cell.variant for cell in repeated):
        own = [cell for cell in repeated if cell.variant == variant]
        temperatures = tuple(
            sorted({cell.temperature for cell in own}, key=lambda t: -1.0 if t is None else t)
        )
        seeds = min(len(cell.runs) for cell in own)
        blocks = {
            task: _block(own, task, temperatures, seeds) for task in dict.fromkeys(c.info.name for c in own)
        }
        found = {task: block for task, block in blocks.items() if block is not None}
        if found:
            for task, block in ((None, np.concatenate(list(found.values()))), *found.items()):
                if block.shape[0] > 2:
                    yield Sources(variant, task, temperatures, seeds, variance_split(block))


def _block(
    cells: Sequence[RepeatedAnswers], task: str, temperatures: Sequence[Temperature], seeds: int
) -> Floats | None:
    """Scores of a task, shape (items, temperatures, seeds); None unless it was run at all temperatures."""
    own = {cell.temperature: cell for cell in cells if cell.info.name == task}
    if set(own) != set(temperatures):
        return None
    ordered = [own[temperature] for temperature in temperatures]
    common = ordered[0].items[ordered[0].complete]
    for cell in ordered[1:]:
        common = np.intersect1d(common, cell.items[cell.complete])
    return np.stack([cell.scores[np.searchsorted(cell.items, common), :seeds] for cell in ordered], axis=1)
