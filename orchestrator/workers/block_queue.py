"""The blocks of a variant that no replica works on."""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from orchestrator.sweep.blocks import Block


class BlockQueue:
    """Blocks in order: first those never handed out, made only when they are needed, then those put back.

    Of a sweep that stops early, both kinds of one look come before those of the next.

    Args:
        fresh: blocks never handed out.
        owed: how many samples they hold at each temperature.

    Attributes:
        dropped: samples dropped so far, because their temperature was.
    """

    def __init__(self, fresh: Iterable[Block], owed: Mapping[float, int]) -> None:
        self._fresh = self._all_needed(fresh)
        self._made: deque[Block] = deque()
        self._put_back: deque[Block] = deque()
        self._waiting = Counter({temperature: count for temperature, count in owed.items() if count})
        self._not_needed: set[float] = set()
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._made or self._put_back) or self._make()

    @property
    def samples(self) -> int:
        """Samples of all blocks in the queue."""
        return self._waiting.total()

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures of the samples in the queue."""
        return tuple(self._waiting)

    def holds(self, count: int) -> bool:
        """Whether there are at least so many blocks."""
        while len(self._made) + len(self._put_back) < count and self._make():
            pass
        return len(self._made) + len(self._put_back) >= count

    def first(self) -> Block:
        """The next block, which stays; there must be one."""
        return self._next()[0]

    def take(self) -> Block:
        """The next block, which leaves; there must be one."""
        block = self._next().popleft()
        self._count(block, -1)
        return block

    def _next(self) -> deque[Block]:
        """Where the next block is: what was put back comes last, but before the blocks of later looks."""
        if not self._made:
            self._make()
        if self._made and self._put_back and self._put_back[0].look < self._made[0].look:
            return self._put_back
        return self._made or self._put_back

    def put_back(self, block: Block) -> None:
        """Queue a block again, without the samples that are no longer needed."""
        kept = self._needed(block)
        self.dropped += block.samples - (kept.samples if kept else 0)
        if kept:
            insort(self._put_back, kept, key=attrgetter("look"))
            self._count(kept, 1)

    def drop(self, temperature: float) -> int:
        """Drop all samples at a temperature, also from blocks not made yet and from those put back later.

        Returns:
            how many samples have left the queue.
        """
        self._not_needed.add(temperature)
        self._made = deque(self._all_needed(self._made))
        self._put_back = deque(self._all_needed(self._put_back))
        dropped = self._waiting.pop(temperature, 0)
        self.dropped += dropped
        return dropped

    def clear(self) -> None:
        """Remove all blocks; they stay owed."""
        self._fresh = iter(())
        self._made.clear()
        self._put_back.clear()
        self._waiting.clear()

    def _make(self) -> bool:
        """Make one more block, if there is one."""
        block = next(self._fresh, None)
        if block is not None:
            self._made.append(block)
        return block is not None

    def _all_needed(self, blocks: Iterable[Block]) -> Iterator[Block]:
        return (kept for block in blocks if (kept := self._needed(block)))

    def _needed(self, block: Block) -> Block | None:
        return block.without(self._not_needed) if self._not_needed else block

    def _count(self, block: Block, sign: int) -> None:
        for rerun in block.reruns:
            self._waiting[rerun.temperature] += sign * len(block.items)
            if not self._waiting[rerun.temperature]:
                del self._waiting[rerun.temperature]
