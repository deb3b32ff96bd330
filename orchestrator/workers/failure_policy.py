"""What to do about a failure: decisions without side effects, which the dispatcher carries out.

A block that a replica held when it died is a suspect: it is queued again, run alone from then on, and halved
if a replica dies on it again, until the one sample that kills engines is found and becomes a row with an
error. A replica that was lost with its node does not count. A block that a living replica cannot finish (for
example because storage or the task's files fail) is retried a few times and then stays missing.
"""

from collections import Counter
from dataclasses import replace
from math import inf

from orchestrator.sweep.blocks import Block

MAX_FAILED_LOADS = 2  # in a row, per variant and node
UNFIT = 1_000_000  # failed loads that stand for a node where none can work
REST, LONGEST_REST = 5.0, 30.0  # seconds
MAX_FAILURES = 3  # of one block whose replica lived
DEATHS_UNTIL_SPLIT = 2
DEATHS_UNTIL_GIVEN_UP = 3  # of a single sample; bad luck rarely strikes the same one so often


def after_death(block: Block, *, node_lost: bool) -> tuple[Block, ...]:
    """What to queue again of a block whose replica died; nothing if its one sample is to become an error row.

    The block is as it was handed out, with the deaths before this one; those with a node do not count.
    """
    if node_lost:
        return (block,)
    suspect = replace(block, deaths=block.deaths + 1)
    if suspect.samples == 1:
        return (suspect,) if suspect.deaths < DEATHS_UNTIL_GIVEN_UP else ()
    if suspect.deaths < DEATHS_UNTIL_SPLIT:
        return (suspect,)
    return tuple(replace(half, deaths=1) for half in suspect.halves())


def after_failure(block: Block) -> Block | None:
    """What to queue again of a block that a living replica could not finish; None if it stays missing."""
    failures = block.failures + 1  # `block` is as it was handed out
    return replace(block, failures=failures) if failures < MAX_FAILURES else None


class FailedLoads:
    """Where loads of one variant have failed, and where the next may be tried.

    After a failed load its node rests, the longer the more has failed, and the next is tried elsewhere. Other
    loads that were under way there do not count. After `MAX_FAILED_LOADS` in a row the node is left out. When
    no node is left, each is tried once more. Moments are those of one monotonic clock.
    """

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()  # in a row, by node; "" is a node that is not known
        self.loads = 0  # that have failed since one worked
        self.refusal: str | None = None  # what the engine said of its options while no replica was loaded
        self.last_reason = ""
        self._noted: dict[str, float] = {}
        self._rests: dict[str, float] = {}
        self._tried_again = False

    def add(self, node: str, reason: str, now: float, *, since: float = inf, unfit: bool = False) -> bool:
        """A load has failed, which was under way since a moment; `unfit`: none can ever work there.

        Returns whether that makes its node one to leave out.
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
    def reason(self) -> str:
        """Why the variant ends when no node is left and no replica lives."""
        times = f" {self.loads} times" if self.loads > 1 else ""
        nodes = f" on {len(self.failed)} nodes" if len(self.failed) > 1 else ""
        return self.refusal or f"its model failed to load{times}{nodes}: {self.last_reason}"

    @property
    def _rest(self) -> float:
        return min(LONGEST_REST, REST * self.failed.total())
