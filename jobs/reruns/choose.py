"""Chooses the items on which a baseline flips, and says what running only these would keep.

What it keeps is measured on runs that did not choose: at another temperature as it is, at the same one by
leaving out a run of the baseline in turn, choosing by the others and comparing the variants with the one left
out. Measured on the choosing runs themselves it would look better than it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.formats.notices import some
from jobs.formats.samples import Temperature
from jobs.reruns.summary import run_pairs
from jobs.scores.rerun_set import RepeatedAnswers
from orchestrator.errors import UserError
from stats.arrays import Bools, Ints
from stats.flips import flipping_items

SIGNAL = 2.0
"""Standard errors from which on a difference is worth comparing with another."""

Cells = Mapping[tuple[str, str, Temperature], RepeatedAnswers]


@dataclass(frozen=True)
class TaskChoice:
    """The items of one task that flip.

    Attributes:
        task: its name.
        cell: the baseline's answers that chose.
        flips: which of the complete items flip, shape (complete,).
    """

    task: str
    cell: RepeatedAnswers
    flips: Bools

    @property
    def items(self) -> list[int]:
        """Numbers of the chosen items."""
        return [int(item) for item in self.cell.items[self.cell.complete][self.flips].tolist()]


@dataclass(frozen=True)
class Kept:
    """A variant against the baseline, on all items and on the chosen ones; counts over all pairs of runs.

    Attributes:
        variant: its name.
        temperature: of both.
        pairs: pairs of runs.
        worse: b, on all items and on the chosen ones.
        better: c, likewise.
        share: chosen items as a share of all, mean over the pairs.
    """

    variant: str
    temperature: Temperature
    pairs: int
    worse: tuple[int, int]
    better: tuple[int, int]
    share: float

    @property
    def flips_kept(self) -> float | None:
        """Share of the flips that are on chosen items; None where nothing flips."""
        before, after = (b + c for b, c in zip(self.worse, self.better, strict=True))
        return after / before if before else None

    @property
    def signal_to_noise(self) -> tuple[float, float]:
        """(b − c)/√(b + c) of one pair of runs, before and after: the statistic the paired test rests on."""
        counts = zip(self.worse, self.better, strict=True)
        before, after = ((b - c) / np.sqrt(max(b + c, 1) * self.pairs) for b, c in counts)
        return float(before), float(after)

    @property
    def gain(self) -> float | None:
        """Signal to noise for the same number of samples: after/before/√share; None for mere noise."""
        before, after = self.signal_to_noise
        is_signal = abs(before) * np.sqrt(self.pairs) > SIGNAL and self.share > 0.0
        return float(after / before / np.sqrt(self.share)) if is_signal else None


def choose(cells: Sequence[RepeatedAnswers], baseline: str, asked: Temperature) -> list[TaskChoice]:
    """Choose the items on which the baseline flips.

    Args:
        cells: all answers.
        baseline: its name.
        asked: the temperature of the runs that choose; None for the lowest at which there are several.

    Raises:
        UserError: if the baseline has fewer than two runs there, or none of them differ.
    """
    own = [c for c in cells if c.variant == baseline and len(c.runs) > 1]
    repeated = [c for c in own if c.binary and c.complete.any()]
    found = sorted({c.temperature for c in repeated if c.temperature is not None})
    temperature = asked if asked is not None else (found[0] if found else None)
    chosen = [
        TaskChoice(c.info.name, c, flipping_items(c.right)) for c in repeated if c.temperature == temperature
    ]
    if not chosen:
        there = f"has several only at {some(found)}" if found else "has several at no temperature"
        at = "" if asked is None else f" at temperature {asked:g}"
        raise UserError(
            f"Choosing items needs several runs of the baseline {baseline}{at}, which {there}: "
            "run it with more seeds."
        )
    if not any(choice.flips.any() for choice in chosen):
        raise UserError(f"No answer of {baseline} flips between its runs: there is nothing to choose.")
    return chosen


def kept(cells: Sequence[RepeatedAnswers], choices: Sequence[TaskChoice]) -> list[Kept]:
    """What the choice keeps of every variant's flips, at every temperature of the chosen tasks.

    Args:
        cells: all answers.
        choices: what was chosen.

    Returns:
        One entry for each variant and temperature that has runs which did not choose; at the choosing
        temperature itself that takes three runs of the baseline.
    """
    baseline = choices[0].cell.variant
    by_name: Cells = {(c.variant, c.info.name, c.temperature): c for c in cells if c.binary}
    variants = dict.fromkeys((c.variant, c.temperature) for c in cells if c.variant != baseline)
    found = []
    for variant, temperature in variants:
        by_task = [list(_parts(by_name, choice, variant, temperature)) for choice in choices]
        if parts := [part for of_task in by_task for part in of_task]:
            worse, better, items = np.sum(parts, axis=0).tolist()
            pairs = max(len(of_task) for of_task in by_task)
            found.append(Kept(variant, temperature, pairs, tuple(worse), tuple(better), items[1] / items[0]))
    return found


def _parts(cells: Cells, choice: TaskChoice, variant: str, temperature: Temperature) -> Iterator[Ints]:
    """The counts of every pair of runs on one task; shape (3, 2) as `_outcomes` gives them."""
    task, chooser = choice.task, choice.cell
    first = cells.get((chooser.variant, task, temperature))
    second = cells.get((variant, task, temperature))
    if first is None or second is None or (first is chooser and len(first.runs) < 3):
        return
    for i, j in run_pairs(first, second):
        columns = [k for k in range(len(chooser.runs)) if first is not chooser or k != i]
        scores = chooser.scores[:, columns]
        complete = ~np.isnan(scores).any(axis=1)
        chosen = chooser.items[complete][flipping_items(scores[complete] == 1.0)]
        yield _outcomes((first, i), (second, j), chosen)


def _outcomes(
    first: tuple[RepeatedAnswers, int], second: tuple[RepeatedAnswers, int], chosen: NDArray[np.generic]
) -> Ints:
    """Compare one run of each model: worse, better and items, each on all common items and on the chosen."""
    (before, i), (after, j) = first, second
    items, rows, others = np.intersect1d(before.items, after.items, return_indices=True)
    scores = np.stack([before.scores[rows, i], after.scores[others, j]])
    known = ~np.isnan(scores).any(axis=0)
    best = 1.0 if before.info.higher_is_better else 0.0
    right = scores[:, known] == best
    inside = np.isin(items[known], chosen)
    worse, better = right[0] & ~right[1], ~right[0] & right[1]
    flips = (worse, better, np.ones_like(inside))
    return np.array([[flip.sum(), (flip & inside).sum()] for flip in flips], dtype=np.int64)
