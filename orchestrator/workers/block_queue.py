"""The blocks of a variant that no replica holds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.sweep.blocks import Block


class BlockQueue:
    """Blocks in order: first those never handed out, made only when they are needed, then those put back.

    Args:
        fresh: blocks never handed out.
        samples: how many samples they hold.

    Attributes:
        samples: samples of all blocks in the queue.
    """

    def __init__(self, fresh: Iterable[Block], samples: int) -> None:
        self._fresh = iter(fresh)
        self._made: deque[Block] = deque()
        self._put_back: deque[Block] = deque()
        self.samples = samples

    def __bool__(self) -> bool:
        return self.holds(1)

    def holds(self, count: int) -> bool:
        """Whether there are at least so many blocks."""
        while len(self._made) + len(self._put_back) < count and (block := next(self._fresh, None)):
            self._made.append(block)
        return len(self._made) + len(self._put_back) >= count

    def first(self) -> Block:
        """The next block, which stays; there has to be one."""
        if not self._made and (block := next(self._fresh, None)):
            self._made.append(block)
        return (self._made or self._put_back)[0]

    def take(self) -> Block:
        """The next block, which leaves; there has to be one."""
        block = self.first()
        (self._made or self._put_back).popleft()
        self.samples -= block.samples
        return block

    def put_back(self, block: Block) -> None:
        """A block that is owed again."""
        self._put_back.append(block)
        self.samples += block.samples

    def clear(self) -> None:
        """Drop all blocks."""
        self._fresh = iter(())
        self._made.clear()
        self._put_back.clear()
        self.samples = 0
