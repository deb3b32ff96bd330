"""What to do about a failure: decisions without side effects, which the dispatcher carries out.

A block that a replica held when it died is a suspect: it is queued again, run alone from then on, and halved
if a replica dies on it again, until the one sample that kills engines is found and becomes a row with an
error. A replica that was lost with its node does not count. A block that a living replica cannot finish (for
example because storage or the task's files fail) is retried a few times and then stays missing.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from math import inf

from orchestrator.sweep.blocks import Block

MAX_FAILED_LOADS = 2  # in a row, per variant and node
UNFIT = 1_000_000  # failed loads that stand for a node where none can work
REST, LONGEST_REST = 5.0, 30.0  # seconds
MAX_FAILURES = 3  # of one block whose replica lived
DEATHS_UNTIL_SPLIT = 2
DEATHS_UNTIL_GIVEN_UP = 3  # of a single sample; bad luck rarely strikes the same one so often


@dataclass(frozen=True)
class PutBack:
    """Queue these blocks again: the block itself, or its halves."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class GiveUp:
    """Write an error row for the single sample of this block."""

    block: Block


@dataclass(frozen=True)
class LeaveOwed:
    """Stop trying this block; a later submit will retry it."""

    block: Block


@dataclass(frozen=True)
class EndVariant:
    """Stop this variant; its blocks stay missing, and the other variants continue.

    Attributes:
        refusal: why the engine can never run the variant; None if a later submit may succeed.
    """

    refusal: str | None


def after_death(block: Block, *, node_lost: bool) -> PutBack | GiveUp:
    """What becomes of a block whose replica died.

    Args:
        block: as it was handed out, with the deaths before this one.
        node_lost: whether the replica died with its node.
    """
    if node_lost:
        return PutBack((block,))
    suspect = replace(block, deaths=block.deaths + 1)
    if suspect.samples == 1:
        return GiveUp(suspect) if suspect.deaths >= DEATHS_UNTIL_GIVEN_UP else PutBack((suspect,))
    if suspect.deaths >= DEATHS_UNTIL_SPLIT:
        return PutBack(tuple(replace(half, deaths=1) for half in suspect.halves()))
    return PutBack((suspect,))


def after_failure(block: Block) -> PutBack | LeaveOwed:
    """What becomes of a block that a living replica could not finish.

    Args:
        block: as it was handed out, with the failures before this one.
    """
    failed = replace(block, failures=block.failures + 1)
    return PutBack((failed,)) if failed.failures < MAX_FAILURES else LeaveOwed(block)


@dataclass
class FailedLoads:
    """Where loads of one variant have failed, and where the next may be tried.

    After a failed load its node rests, the longer the more has failed, and the next is tried elsewhere. Other
    loads that were under way there do not count. After `MAX_FAILED_LOADS` in a row the node is left out. When
    no node is left, each is tried once more. Moments are those of one monotonic clock.

    Attributes:
        failed: failures in a row by node; "" is a node that is not known.
        loads: failed loads of the variant since one worked.
        refusal: what the engine said of its options or its model while no replica was loaded.
        last_reason: what the last load failed of.
    """

    failed: Counter[str] = field(default_factory=Counter)
    loads: int = 0
    refusal: str | None = None
    last_reason: str = ""
    _noted: dict[str, float] = field(default_factory=dict)
    _rests: dict[str, float] = field(default_factory=dict)
    _tried_again: bool = False

    def add(self, node: str, reason: str, now: float, *, since: float = inf, unfit: bool = False) -> bool:
        """A load has failed, which was under way since a moment; `unfit`: none can ever work there.

        Returns:
            whether that makes its node one to leave out.
        """
        self.loads += 1
        self.last_reason = reason
        before = self.left_out
        if unfit or since >= self._noted.get(node, -inf):
            self.failed[node] += UNFIT if unfit else 1
            self._noted[node], self._rests[node] = now, now + self._rest
        return node in self.left_out - before

    def forget(self, node: str) -> None:
        """A load has worked."""
        self.failed.pop(node, None)
        self.loads, self.refusal, self._tried_again = 0, None, False

    @property
    def left_out(self) -> frozenset[str]:
        """Nodes where nothing is loaded any more."""
        return frozenset(node for node, count in self.failed.items() if count >= MAX_FAILED_LOADS)

    def avoided(self, now: float) -> frozenset[str]:
        """Nodes where nothing is loaded now: those left out, and those that rest."""
        return self.left_out | {node for node in self.failed if self._rests[node] > now}

    def allow_another(self, now: float) -> bool:
        """Whether another load may be tried now, on a node that is not avoided."""
        return self.refusal is None and "" not in self.avoided(now)

    def try_again(self, now: float) -> bool:
        """No node is left: have those that are not unfit tried once more; returns whether any will be."""
        again = [node for node, count in self.failed.items() if count < UNFIT and not self._tried_again]
        self._tried_again = True
        self._rests |= dict.fromkeys(again, now + self._rest)
        for node in again:
            self.failed[node] = MAX_FAILED_LOADS - 1
        return bool(again)

    @property
    def end(self) -> EndVariant:
        """What becomes of the variant when no node is left and no replica lives."""
        times = f" {self.loads} times" if self.loads > 1 else ""
        nodes = f" on {len(self.failed)} nodes" if len(self.failed) > 1 else ""
        return EndVariant(self.refusal or f"its model failed to load{times}{nodes}: {self.last_reason}")

    @property
    def _rest(self) -> float:
        return min(LONGEST_REST, REST * self.failed.total())
