"""Cells and blocks: the owed samples, cut into units of work.

A cell is all samples of one variant on one task. A block is a sequence of its items with all the reruns they
are still owed, so that an item's reruns share one prefill.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config.schema import SamplingConfig
from orchestrator.rundir.identity import Item, Rerun, digest, sample_keys
from orchestrator.rundir.schema import MOST_LOOKS
from stats.sequential.plan import items_at_look

SMALLEST_BLOCK, LARGEST_BLOCK = 32, 2048  # samples
BLOCKS_PER_CELL = 16
"""Blocks are small enough to spread over replicas and to lose little, and large enough to keep files few."""
LAST = MOST_LOOKS + 1  # after all answers, and after those that were put back
_KEYS_AT_A_TIME = 1 << 16
_KEY = "S32"


@dataclass(frozen=True)
class Block:
    """The unit of work: a replica takes it whole and writes it as one Parquet file."""

    variant: str
    task: str
    cell: str  # digest of everything that its samples share; see `sample_key`
    items: tuple[Item, ...]  # in order
    reruns: tuple[Rerun, ...]  # the passes that every one of the items is owed
    look: int = 1  # of a sweep that stops early, the first look that counts these items; else 1
    deaths: int = 0  # how often a replica died while it held this block
    failures: int = 0  # how often a replica that lived could not finish it
    was_refused: bool = False  # whether a server has refused its samples before
    choices: int = 1  # log-likelihoods of a sample, the fewest of any item; else 1
    fidelity: bool = False  # whether it scores the baseline's answers, instead of asking for some

    @property
    def name(self) -> str:
        """File name: the first item for people, a digest of items and reruns for uniqueness."""
        passes = [[rerun.temperature, rerun.seed] for rerun in self.reruns]
        content = [[item.item for item in self.items], passes]
        return f"{self.items[0].item:07d}-{digest(content)[:12]}"

    @property
    def samples(self) -> int:
        """Samples in the block."""
        return len(self.items) * len(self.reruns)

    def without(self, temperatures: Collection[float]) -> "Block | None":
        """The block without its reruns at some temperatures; None if nothing is left of it."""
        kept = tuple(rerun for rerun in self.reruns if rerun.temperature not in temperatures)
        if len(kept) == len(self.reruns):
            return self
        return replace(self, reruns=kept) if kept else None

    def halves(self) -> "tuple[Block, Block]":
        """The block in two, by items or, for a single item, by reruns."""
        items, reruns = len(self.items) // 2, len(self.reruns) // 2
        if items:
            return replace(self, items=self.items[:items]), replace(self, items=self.items[items:])
        return replace(self, reruns=self.reruns[:reruns]), replace(self, reruns=self.reruns[reruns:])


Missing = tuple[NDArray[np.bool_], NDArray[np.int32]]
"""The samples of a cell that have not been written: which reruns an item of each kind lacks, shape (kinds,
reruns), and the kind of each item, shape (items,).

Most items lack the same reruns as many others, so a row is kept for each kind of item instead of each item:
the driver needs four bytes an item, however many reruns there are."""


@dataclass(frozen=True)
class Cell:
    """All samples of one variant on one task."""

    variant: str
    task: str
    digest: str  # of what the samples share: variant, task definition, prompt and sampling settings
    items: tuple[Item, ...]  # with this variant's prompts, in the order in which they are asked
    reruns: tuple[Rerun, ...]  # the passes planned for each item
    longest_answer: int  # upper bound on generated tokens per request; 0 for log-likelihood
    missing: Missing  # which samples are owed
    looks: int = 1  # at how many looks a sweep that stops early evaluates the answers; else 1
    errors: int = 0  # rows of earlier submits with an error
    choices: int = 1  # see `Block`
    fidelity: bool = False  # whether its samples are scores of the baseline's answers

    @property
    def planned(self) -> int:
        """Samples planned in all."""
        return len(self.items) * len(self.reruns)

    @property
    def owed(self) -> int:
        """Samples that have not been written."""
        return self.owed_by_temperature.total()

    @property
    def owed_by_temperature(self) -> Counter[float]:
        """Samples that have not been written, by temperature."""
        kinds, kind_of = self.missing
        per_rerun = np.bincount(kind_of, minlength=len(kinds)) @ kinds.astype(np.int64)
        counts: Counter[float] = Counter()
        for rerun, owed in zip(self.reruns, per_rerun.tolist(), strict=True):
            counts[rerun.temperature] += owed
        return counts

    def blocks_of(self, look: int) -> Iterator[Block]:
        """What is owed, as blocks of items that lack the same reruns and count from one look on."""
        kinds, kind_of = self.missing
        first, end = (items_at_look(number, self.looks, len(self.items)) for number in (look - 1, look))
        samples = min(max(self.planned // BLOCKS_PER_CELL, SMALLEST_BLOCK), LARGEST_BLOCK)
        if first == end:
            return
        by_kind = first + np.argsort(kind_of[first:end], kind="stable")
        ends = np.cumsum(np.bincount(kind_of[first:end], minlength=len(kinds)))
        for lacks, members in zip(kinds, np.split(by_kind, ends[:-1]), strict=True):
            passes = tuple(rerun for rerun, lacking in zip(self.reruns, lacks, strict=True) if lacking)
            if not passes:
                continue
            size = max(1, samples // len(passes))
            for start in range(0, len(members), size):
                items = tuple(self.items[index] for index in members[start : start + size])
                place = self.variant, self.task, self.digest, items, passes, LAST if self.fidelity else look
                yield Block(*place, choices=self.choices, fidelity=self.fidelity)


def missing_samples(
    cell: str, items: Sequence[Item], reruns: Sequence[Rerun], written: Sequence[pa.ChunkedArray] = ()
) -> Missing:
    """Which samples of the cell with a digest are owed; `written` are the keys in each of its files."""
    found = np.unique(
        np.concatenate([np.empty(0, _KEY), *(keys.to_numpy().astype(_KEY) for keys in written)])
    )
    kinds: dict[bytes, int] = {}
    kind_of = np.empty(len(items), np.int32)
    step = max(1, _KEYS_AT_A_TIME // len(reruns))
    for start in range(0, len(items), step):
        some = items[start : start + step]
        rows = np.ones((len(some), len(reruns)), dtype=bool)
        if len(found):
            keys = np.array(list(sample_keys(cell, some, reruns)), dtype=_KEY)
            places = np.minimum(np.searchsorted(found, keys), len(found) - 1)
            rows = (found[places] != keys).reshape(rows.shape)
        kind_of[start : start + step] = [kinds.setdefault(row.tobytes(), len(kinds)) for row in rows]
    return np.frombuffer(b"".join(kinds), dtype=bool).reshape(-1, len(reruns)), kind_of


def reruns(sampling: SamplingConfig, *, sampled: bool) -> tuple[Rerun, ...]:
    """The passes over the items of a task; one that is not sampled has log-likelihoods and no temperature.

    A request without sampling (log-likelihood, or temperature 0) has one answer and is asked once, unless
    `repeat_greedy` asks for the noise of the engine itself.
    """
    return tuple(
        Rerun(temperature, seed)
        for temperature in (sampling.temperatures if sampled else (0.0,))
        for seed in (sampling.seeds if temperature > 0 or sampling.repeat_greedy else (None,))
    )


def longest_first(cells: Collection[Cell]) -> list[Cell]:
    """Cells in the order of work: what takes longest first, so that no straggler is left at the end."""
    return sorted(cells, key=lambda cell: (-cell.longest_answer, -cell.planned, cell.task))


def in_order_of_work(cells: Collection[Cell]) -> Iterator[Block]:
    """Blocks of the cells of one variant: look by look, and in each what takes longest first."""
    ordered = sorted(longest_first(cells), key=attrgetter("fidelity"))
    for look in range(1, max((cell.looks for cell in cells), default=0) + 1):
        for cell in ordered:
            yield from cell.blocks_of(look)
