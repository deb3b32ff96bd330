"""The plan of a sequential comparison: which items count at which look, and what may be spent there.

Everything here is fixed before the first answer comes in. Look k of K is at information fraction k/K and
takes the first ⌈k·n/K⌉ items of every task, in the order that was drawn for it. Items that share a sign, a
cluster or one document in two tasks, count together: from the look at which all of them are in.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stats.arrays import ROUNDING, Floats, Ints
from stats.distributions.nulls import SIGN_VECTORS
from stats.sequential.boundaries import Stopping
from stats.tasks.combinations import Combine


@dataclass(frozen=True, eq=False)
class PlannedTask:
    """One task, its items in the order in which they are asked.

    Raises ValueError if there are no items, or not as many labels as items.
    """

    task: str
    items: int  # how many
    # one label per item, shape (items,): items with equal labels flip together, whichever task they are in.
    # None if every item has a separate sign.
    blocks: NDArray[np.generic] | None = None
    bounded: bool = True  # whether scores have a range; differences are then shares of it

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"Task {self.task!r} has no items.")
        if self.blocks is not None and np.shape(self.blocks) != (self.items,):
            raise ValueError(
                f"Task {self.task!r} has {self.items} items but {np.size(self.blocks)} block labels."
            )

    def seen_at(self, look: int, looks: int) -> int:
        """Items that have come in at a look."""
        return items_at_look(look, looks, self.items)


class Duty(NamedTuple):
    """What is asked of one comparison among several that decide about a release together."""

    alpha: float  # its own level, at most that of the plan
    margin: float
    min_items: int  # fewest items with both scores behind a certificate
    release: Hashable  # equal for comparisons that all end as soon as one of them finds damage


@dataclass(frozen=True, eq=False)
class SequentialPlan:
    """What decides a sweep with early stopping, apart from the scores.

    Raises ValueError if tasks or comparisons are missing or named twice, or a number is out of range.
    """

    tasks: tuple[PlannedTask, ...]  # the tasks of all comparisons
    comparisons: tuple[Hashable, ...]  # names of all comparisons planned, such as (variant, temperature)
    stopping: Stopping = field(default_factory=Stopping)  # looks and spending
    alpha: float = 0.05  # level, of damage over all comparisons and of each certificate
    margin: float = 0.01  # largest acceptable drop, in shares of the metric's range
    combine: Combine = "joint"  # statistic over the tasks
    adjust: Literal["holm", "none"] = "holm"  # "holm" over the comparisons, or "none"
    sign_vectors: int = SIGN_VECTORS  # how many are drawn where several tasks are combined
    seed: int = 0  # of those
    balanced: bool = True  # whether damage of clusters of unequal size needs the sums over size^0.6, too
    # names of the tasks of those comparisons that do not have all of them
    tasks_of: Mapping[Any, tuple[str, ...]] = field(default_factory=dict)
    duties: Mapping[Any, Duty] = field(default_factory=dict)  # of those comparisons that have one
    min_items: int = 0  # fewest items with both scores behind a certificate
    # number of the family of each comparison, 0 by default: each family has the level by itself
    families: Mapping[Any, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, names in (("task", [task.task for task in self.tasks]), ("comparison", self.comparisons)):
            if not names or len(set(names)) < len(names):
                raise ValueError(f"A sequential plan needs at least one {kind}, without duplicates.")
        for name, value in (("alpha", self.alpha), ("margin", self.margin)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} must be between 0 and 1, but is {value}.")
        if unknown := set(self.tasks_of) - set(self.comparisons):
            raise ValueError(f"Tasks are given for comparisons that are not planned: {sorted(unknown)}.")

    def of(self, comparison: Hashable) -> "SequentialPlan":
        """The plan of one comparison, with its own tasks only.

        Raises KeyError if the comparison was not planned.
        """
        if comparison not in self.comparisons:
            raise KeyError(comparison)
        return self._parts[self._own(comparison)]

    def _own(self, comparison: Hashable) -> tuple[tuple[str, ...], int, tuple[float, float, int]]:
        """The tasks of a comparison and its family; its level, margin and least number of items."""
        names = self.tasks_of.get(comparison, tuple(task.task for task in self.tasks))
        duty, family = self.duties.get(comparison), self.families.get(comparison, 0)
        return names, family, (self.alpha, self.margin, self.min_items) if duty is None else duty[:3]

    @cached_property
    def _parts(self) -> "dict[Any, SequentialPlan]":
        """The plans of all comparisons by what is their own; those with the same share one."""
        parts, families = {}, dict[int, list[Hashable]]()
        for comparison in self.comparisons:
            families.setdefault(self.families.get(comparison, 0), []).append(comparison)
        for own in {self._own(comparison) for comparison in self.comparisons}:
            names, family, (alpha, margin, min_items) = own
            parts[own] = replace(
                self,
                tasks=tuple(task for task in self.tasks if task.task in names),
                comparisons=tuple(families[family]),
                tasks_of={},
                duties={},
                families={},
                alpha=alpha,
                margin=margin,
                min_items=min_items,
            )
        return parts

    @property
    def levels(self) -> Floats:
        """Levels that a comparison may be tested at, ascending: α/m … α by Holm, shape (m,) or (1,)."""
        count = len(self.comparisons) if self.adjust == "holm" else 1
        return self.alpha / np.arange(count, 0, -1)

    @property
    def pooled(self) -> bool:
        """Whether the sum over all items decides, whose distribution is exact."""
        return self.combine == "pooled" or len(self.tasks) == 1

    @property
    def items(self) -> int:
        """Items of all tasks."""
        return sum(task.items for task in self.tasks)

    def share(self, look: int) -> float:
        """Share of the planned items that have come in at a look."""
        return sum(task.seen_at(look, self.stopping.looks) for task in self.tasks) / self.items

    def looks_in(self, counts: Sequence[int]) -> int:
        """How many looks can be taken when this many first items of every task are in."""
        known = self.stopping.looks
        while known and any(
            count < task.seen_at(known, self.stopping.looks)
            for task, count in zip(self.tasks, counts, strict=True)
        ):
            known -= 1
        return known

    @cached_property
    def layout(self) -> tuple[tuple[Ints, Ints], ...]:
        """What each look adds: places of items in the row of all tasks' items, and cells, shape (n,) each.

        A cell is block × T + task, where blocks are numbered within the look.
        """
        looks = self.stopping.looks
        labels = [task.blocks for task in self.tasks if task.blocks is not None]
        named = np.unique(np.concatenate(labels), return_inverse=True)[1] if labels else np.arange(0)
        numbers, used, free = [], 0, int(named.max(initial=-1)) + 1  # of blocks, equal where labels are
        for task in self.tasks:
            if task.blocks is None:
                numbers.append(np.arange(free, free + task.items))
                free += task.items
            else:
                numbers.append(named[used : used + task.items])
                used += task.items
        block_of = np.concatenate(numbers)
        counts = np.array([task.items for task in self.tasks])
        places = np.concatenate([np.arange(count) for count in counts])
        look_of = np.zeros(int(block_of.max()) + 1, dtype=np.int64)
        np.maximum.at(look_of, block_of, places * looks // np.repeat(counts, counts))
        task_of = np.repeat(np.arange(counts.size), counts)
        layout = []
        for look in range(looks):
            items = np.flatnonzero(look_of[block_of] == look)
            blocks = np.unique(block_of[items], return_inverse=True)[1]
            layout.append((items, blocks * counts.size + task_of[items]))
        return tuple(layout)


def cell_sums(values: Floats, cells: Ints, tasks: int) -> Floats:
    """Add up the values of a look's items, NaN as 0, over its cells (block × T + task), shape (n,) each.

    Shape (blocks, T); values that cancel but for rounding give 0.
    """
    width = (int(cells.max(initial=-1)) // tasks + 1) * tasks
    known = np.where(np.isnan(values), 0.0, values)
    sums: Floats = np.bincount(cells, weights=known, minlength=width).astype(np.float64)
    sizes = np.bincount(cells, weights=np.abs(known), minlength=width)
    return np.where(np.abs(sums) < ROUNDING * sizes, 0.0, sums).reshape(-1, tasks)


def asking_order(documents: Iterable[str], clusters: Iterable[str | None], seed: int) -> Ints:
    """`item_order` by each item's cluster, or its document's hash where it has none: either in one piece."""
    return item_order(
        [cluster or document for cluster, document in zip(clusters, documents, strict=True)], seed
    )


def items_at_look(look: int, looks: int, items: int) -> int:
    """How many of a task's first items count at look k of K: ⌈k·n/K⌉."""
    return -(-look * items // looks)


def item_order(labels: Iterable[object], seed: int = 0) -> Ints:
    """The order in which the items of a task are asked: random, but the same on every machine.

    Items are sorted by a digest (BLAKE2b, 128 bits) of the seed and their label, so items with equal labels
    stay together, and tasks that share labels get them in the same order.

    Returns:
        A permutation of the items, shape (items,), by the text of their labels.
    """
    keys = [blake2b(f"{seed}\0{label}".encode(), digest_size=16).digest() for label in labels]
    return np.argsort(np.array(keys, dtype="S16"), kind="stable")
