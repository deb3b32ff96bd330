"""Cells and blocks: what is owed, cut into units of work.

A cell is all samples of one variant on one task. A block is a run of its items with all the reruns they are
still owed, so that an item's reruns share one prefill.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.identity import Item, Rerun, digest, sample_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from orchestrator.config import SamplingConfig

SMALLEST_BLOCK, LARGEST_BLOCK = 32, 2048  # samples
BLOCKS_PER_CELL = 16


@dataclass(frozen=True)
class Block:
    """The unit of work: a replica takes it whole and writes it as one Parquet file.

    Attributes:
        cell: digest of everything the block's samples share; see `sample_key`.
        items: documents, in order.
        reruns: the passes every one of the items is owed.
        deaths: how often a replica died while it held this block.
        failures: how often a replica that lived could not finish it.
    """

    variant: str
    task: str
    cell: str
    items: tuple[Item, ...]
    reruns: tuple[Rerun, ...]
    deaths: int = 0
    failures: int = 0

    @property
    def name(self) -> str:
        """File name: the first item for people, a digest of items and reruns for uniqueness."""
        content = [
            [item.item for item in self.items],
            [[rerun.temperature, rerun.seed] for rerun in self.reruns],
        ]
        return f"{self.items[0].item:07d}-{digest(content)[:12]}"

    @property
    def samples(self) -> int:
        """Samples in the block."""
        return len(self.items) * len(self.reruns)

    def halves(self) -> tuple[Block, Block]:
        """The block in two, by items or, for a single item, by reruns."""
        if len(self.items) > 1:
            middle = len(self.items) // 2
            return replace(self, items=self.items[:middle]), replace(self, items=self.items[middle:])
        middle = len(self.reruns) // 2
        return replace(self, reruns=self.reruns[:middle]), replace(self, reruns=self.reruns[middle:])


@dataclass(frozen=True)
class Cell:
    """All samples of one variant on one task.

    Attributes:
        digest: what the samples share: variant, task definition, prompt and sampling settings.
        items: the task's items with this variant's prompts.
        reruns: what each item is to be asked.
        longest_answer: upper bound on generated tokens per request; 0 for log-likelihood.
        done: keys on disk, with whether each is an answer.
    """

    variant: str
    task: str
    digest: str
    items: tuple[Item, ...]
    reruns: tuple[Rerun, ...]
    longest_answer: int
    done: dict[str, bool]

    @property
    def planned(self) -> int:
        """Samples in all."""
        return len(self.items) * len(self.reruns)

    def owed(self) -> Iterator[tuple[Item, tuple[Rerun, ...]]]:
        """Items that lack samples, each with the reruns it lacks."""
        for item in self.items:
            missing = tuple(r for r in self.reruns if sample_key(self.digest, item, r) not in self.done)
            if missing:
                yield item, missing

    def blocks(self) -> Iterator[Block]:
        """What is owed, as blocks of items that lack the same reruns."""
        alike: dict[tuple[Rerun, ...], list[Item]] = defaultdict(list)
        for item, missing in self.owed():
            alike[missing].append(item)
        for missing, items in alike.items():
            size = max(1, self._block_samples() // len(missing))
            for start in range(0, len(items), size):
                yield Block(self.variant, self.task, self.digest, tuple(items[start : start + size]), missing)

    def _block_samples(self) -> int:
        """Small enough to spread over replicas and to lose little, large enough to keep files few."""
        return min(max(self.planned // BLOCKS_PER_CELL, SMALLEST_BLOCK), LARGEST_BLOCK)


def reruns(sampling: SamplingConfig, *, sampled: bool) -> tuple[Rerun, ...]:
    """The passes over the items of a task.

    A request without sampling (log-likelihood, or temperature 0) has one answer and is asked once, unless
    `repeat_greedy` asks for the noise of the engine itself.

    Args:
        sampling: temperatures and seeds.
        sampled: whether the task generates text; log-likelihoods know no temperature.
    """
    temperatures = sampling.temperatures if sampled else (0.0,)
    passes: list[Rerun] = []
    for temperature in temperatures:
        seeded = temperature > 0 or sampling.repeat_greedy
        passes += [Rerun(temperature, seed) for seed in (sampling.seeds if seeded else (None,))]
    return tuple(passes)


def longest_first(cells: Collection[Cell]) -> list[Cell]:
    """Cells in the order they should be worked on: what takes longest first, so that no straggler is left."""
    return sorted(cells, key=lambda cell: (-cell.longest_answer, -cell.planned, cell.task))
