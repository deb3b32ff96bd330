"""The samples of one model on one task, over all evaluations: what everything else is derived from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.formats.samples import ItemId
from jobs.scores.samples.gather import NO_RERUN, Chunk, GatheredTask, Part
from orchestrator.errors import UserError
from stats.arrays import Floats, Ints

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True)
class Cell:
    """One model on one task; all arrays have shape (samples,).

    Attributes:
        model: its name.
        parts: by evaluation.
        temperature: NaN where unknown.
    """

    model: str
    parts: tuple[Part, ...]
    temperature: NDArray[np.float32]

    @property
    def evaluated(self) -> int:
        """Items that were evaluated, as the data state it; 0 where they do not."""
        return max(part.evaluated for part in self.parts)

    @cached_property
    def items(self) -> Ints:
        """Number of the item of each sample."""
        return self.joined(lambda chunk: chunk.items)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Every pass over the items: number of the part, and rerun within it or NO_RERUN; ascending."""
        return [
            (number, int(rerun))
            for number, part in enumerate(self.parts)
            for rerun in np.unique(np.concatenate([chunk.reruns for chunk in part.chunks]))
        ]

    @cached_property
    def run_of(self) -> Ints:
        """Index in `runs` of each sample."""
        place = {run: index for index, run in enumerate(self.runs)}
        found = []
        for number, part in enumerate(self.parts):
            reruns, indices = np.unique(_of(part, lambda chunk: chunk.reruns), return_inverse=True)
            found.append(np.array([place[number, int(rerun)] for rerun in reruns], dtype=np.int64)[indices])
        return np.concatenate(found)

    def score(self, metric: str) -> Floats:
        """Scores by one metric, NaN where there is none."""
        return self.joined(lambda chunk: chunk.scores.get(metric, np.full(len(chunk.items), np.nan)))

    def has(self, metric: str) -> bool:
        """Whether some sample may have a score by a metric."""
        return any(metric in chunk.scores for part in self.parts for chunk in part.chunks)

    def joined(self, column: Callable[[Chunk], NDArray[Number]]) -> NDArray[Number]:
        """One column of all parts."""
        return np.concatenate([_of(part, column) for part in self.parts])

    def seeds(self) -> list[int | None]:
        """Seeds of the runs: reruns as a single evaluation states them, else 0, 1, …; None for one pass."""
        if len(self.parts) == 1:
            return [None if rerun == NO_RERUN else rerun for _, rerun in self.runs]
        return list(range(len(self.runs)))


def _of(part: Part, column: Callable[[Chunk], NDArray[Number]]) -> NDArray[Number]:
    return np.concatenate([column(chunk) for chunk in part.chunks])


def cells_of(task: GatheredTask, names: Mapping[tuple[int, str | None], str]) -> list[Cell]:
    """The samples of a task by model.

    Args:
        task: the samples.
        names: name of each model, by (path, name that the data state).

    Raises:
        UserError: if an evaluation holds an item twice.
    """
    by_model: dict[str, list[Part]] = {}
    for origin, part in task.parts.items():
        by_model.setdefault(names[origin.place, origin.model], []).append(part)
    known = {model: _temperatures(parts) for model, parts in by_model.items()}
    blurred = _must_blur(list(known.values()))
    cells = [
        Cell(model, tuple(parts), np.full_like(known[model], np.nan) if blurred else known[model])
        for model, parts in by_model.items()
    ]
    for cell in cells:
        _refuse_duplicates(cell, task)
    return cells


def _temperatures(parts: Sequence[Part]) -> NDArray[np.float32]:
    return np.concatenate([chunk.temperature for part in parts for chunk in part.chunks])


def _must_blur(models: Sequence[NDArray[np.float32]]) -> bool:
    """Whether all temperatures count as unknown: some samples do not state theirs, and no model has several.

    A model whose log does not state the temperature could otherwise not be paired with one whose log does.
    """
    found = [np.unique(temperatures) for temperatures in models]
    unstated = any(np.isnan(temperatures).any() for temperatures in found)
    return unstated and all((~np.isnan(temperatures)).sum() <= 1 for temperatures in found)


def _refuse_duplicates(cell: Cell, task: GatheredTask) -> None:
    temperatures = np.unique(cell.temperature, return_inverse=True)[1]
    keys = (temperatures * len(cell.runs) + cell.run_of) * len(task.numbers) + cell.items
    unique, first = np.unique(keys, return_index=True)
    if len(unique) == len(keys):
        return
    sample = int(np.setdiff1d(np.arange(len(keys)), first)[0])
    part = cell.parts[cell.runs[int(cell.run_of[sample])][0]]
    item = list(task.numbers)[int(cell.items[sample])]
    raise UserError(f"{part.label} contains item {item} of task {task.facts.name} twice: remove one of them.")


def item_order(task: GatheredTask) -> Ints:
    """Number of the item at each place when items are sorted: numbers ascending, then texts.

    Raises:
        UserError: if an identifier does not mean the same document, or the same cluster, everywhere.
    """
    names = list(task.numbers)
    documents = task.documents
    if documents.changed is not None:
        raise UserError(
            f"Document {names[documents.changed]} of task {task.facts.name} is not the same for all "
            "models: they were evaluated on different data and cannot be paired."
        )
    if documents.torn is not None:
        item, first, second = documents.torn
        raise UserError(
            f"Item {names[item]!r} of task {task.facts.name} is in two clusters, {first!r} and {second!r}."
        )
    return np.array(sorted(range(len(names)), key=_sort_key(names)), dtype=np.int64)


def _sort_key(names: Sequence[ItemId]) -> Callable[[int], Any]:
    if len(set(map(type, names))) <= 1:
        return names.__getitem__
    return lambda number: (isinstance(names[number], str), names[number])
