"""What the dispatcher keeps of each replica and of each variant."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cluster.resources import Footprint
    from orchestrator.rundir.progress import ReplicaProgress
    from orchestrator.sweep.blocks import Block
    from orchestrator.workers.block_queue import BlockQueue
    from orchestrator.workers.replica import Job


@dataclass
class Seat:
    """A replica in its place."""

    actor: Any
    size: Footprint
    progress: ReplicaProgress
    since: float  # loading or, once loaded, working
    appetite: int | None = None  # None while the model loads
    held: dict[Any, Block] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)  # when something last came from it
    asked: bool = False  # what keeps it

    @property
    def variant(self) -> str:
        """Whose engine it holds."""
        return self.progress.variant

    @property
    def samples(self) -> int:
        """Samples of the blocks it works on."""
        return sum(block.samples for block in self.held.values())

    @property
    def alone(self) -> bool:
        """Whether it works on a block that was there when a replica died, and gets no other one."""
        return any(block.deaths for block in self.held.values())


@dataclass(frozen=True)
class Workload:
    """A variant's work.

    Attributes:
        job: what its replicas need to know.
        size: what one of them takes of the cluster.
        blocks: what is owed, in order.
        most: replicas of it that may run at once; None for as many as there is room for.
    """

    job: Job
    size: Footprint
    blocks: Iterable[Block]
    most: int | None = None


@dataclass
class Work:
    """A variant's blocks that no replica holds."""

    load: Workload
    blocks: BlockQueue
    failed_loads: int = 0

    def wants_more(self, count: int, loading: int) -> bool:
        """Another load pays only where blocks wait that the replicas still loading will not take at once."""
        if self.load.most is not None and count >= self.load.most:
            return False
        return self.blocks.holds(loading + 1)
