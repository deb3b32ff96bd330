"""The blocks of a variant that no replica works on."""

from bisect import insort
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from orchestrator.sweep.blocks import Block


class BlockQueue:
    """Blocks in order: first those never handed out, made only when they are needed, then those put back.

    Of a sweep that stops early, both kinds of one look come before those of the next. `owed` is how many
    samples the fresh blocks hold at each temperature.
    """

    def __init__(self, fresh: Iterable[Block], owed: Mapping[float, int]) -> None:
        self._fresh = self._all_needed(fresh)
        self._made: deque[Block] = deque()
        self._put_back: deque[Block] = deque()
        self._waiting = Counter({temperature: count for temperature, count in owed.items() if count})
        self._left: Counter[float] = Counter()  # samples that this submit asks no more
        self._not_needed: set[float] = set()
        self.temperatures = list(owed)  # that have not been dropped
        self.dropped = 0  # samples, with their temperature
        self.ended = False  # whether no block is to be handed out any more

    def __bool__(self) -> bool:
        return bool(self._made or self._put_back) or self.holds(1)

    @property
    def samples(self) -> int:
        """Samples of all blocks in the queue."""
        return self._waiting.total()

    def holds(self, count: int) -> bool:
        """Whether there are at least so many blocks; makes them."""
        while (missing := count - len(self._made) - len(self._put_back)) > 0:
            if (block := next(self._fresh, None)) is None:
                break
            self._made.append(block)
        return missing <= 0

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
        if not self._made and (block := next(self._fresh, None)) is not None:
            self._made.append(block)
        if self._made and self._put_back and self._put_back[0].look < self._made[0].look:
            return self._put_back
        return self._made or self._put_back

    def put_back(self, block: Block) -> None:
        """Queue a block again, without the samples that are no longer needed."""
        if self.ended:
            self.leave(block)
        elif kept := self._drop_from(block):
            insort(self._put_back, kept, key=attrgetter("look"))
            self._count(kept, 1)

    def leave(self, block: Block) -> None:
        """Leave a block to a later submit: its samples stay owed until their temperature is dropped."""
        if kept := self._drop_from(block):
            for rerun in kept.reruns:
                self._left[rerun.temperature] += len(kept.items)

    def drop(self, temperature: float) -> int:
        """Drop all samples at a temperature, also of blocks that come later; returns how many left."""
        self.temperatures = [one for one in self.temperatures if one != temperature]
        self._not_needed.add(temperature)
        self._made = deque(self._all_needed(self._made))
        self._put_back = deque(self._all_needed(self._put_back))
        dropped = self._waiting.pop(temperature, 0) + self._left.pop(temperature, 0)
        self.dropped += dropped
        return dropped

    def end(self) -> None:
        """Leave all blocks to a later submit, also those that come back."""
        self.ended = True
        self._fresh = iter(())
        self._made.clear()
        self._put_back.clear()
        self._left += self._waiting
        self._waiting.clear()

    def _all_needed(self, blocks: Iterable[Block]) -> Iterator[Block]:
        return (kept for block in blocks if (kept := block.without(self._not_needed)))

    def _drop_from(self, block: Block) -> Block | None:
        """The samples of a block that are still needed; the others count as dropped."""
        kept = block.without(self._not_needed)
        self.dropped += block.samples - (kept.samples if kept else 0)
        return kept

    def _count(self, block: Block, sign: int) -> None:
        for rerun in block.reruns:
            self._waiting[rerun.temperature] += sign * len(block.items)
            if not self._waiting[rerun.temperature]:
                del self._waiting[rerun.temperature]
