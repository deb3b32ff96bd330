"""What to do about a failure: pure decisions, which the dispatcher carries out.

A block that a replica held when it died is a suspect: it is queued again, run alone from then on, and halved
if a replica dies on it again, until the one sample that kills engines is found and becomes a row with an
error. A replica that was lost with its node does not count. A block that a living replica cannot finish (for
example because storage or the task's files fail) is retried a few times and then stays missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.sweep.blocks import Block

MAX_FAILED_LOADS = 3  # in a row, per variant
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


def after_failed_load(failed_loads: int, reason: str) -> EndVariant | None:
    """What becomes of a variant whose replica died while it loaded the model; None to try again.

    Args:
        failed_loads: loads of the variant that failed in a row, this one included; those lost with their node
            do not count.
        reason: what the last one died of.
    """
    if failed_loads < MAX_FAILED_LOADS:
        return None
    return EndVariant(f"its model failed to load {MAX_FAILED_LOADS} times: {reason}")
