"""The queue of a variant's blocks: their order, their number, and that they are made only when needed."""

from dataclasses import dataclass

from orchestrator.workers.block_queue import BlockQueue


@dataclass(frozen=True)
class Piece:
    """What a queue sees of a block."""

    name: str
    samples: int = 2


def taken(queue):
    """All blocks in the order in which they leave."""
    names = []
    while queue:
        names.append(queue.take().name)
    return names


def test_blocks_put_back_come_after_those_never_handed_out():
    """What may have killed a replica waits until everything else is under way."""
    queue = BlockQueue(map(Piece, "abc"), 6)
    queue.put_back(queue.take())
    assert taken(queue) == ["b", "c", "a"]


def test_blocks_are_made_when_they_are_needed():
    """However many a variant has, only those looked at exist."""
    made = []
    queue = BlockQueue((made.append(name) or Piece(name) for name in "abcd"), 8)
    assert queue.holds(2)
    assert made == ["a", "b"]
    assert (queue.first().name, queue.take().name, made) == ("a", "a", ["a", "b"])


def test_samples_are_counted():
    """Blocks that leave, come back, or are dropped."""
    queue = BlockQueue(map(Piece, "abc"), 6)
    block = queue.take()
    assert queue.samples == 4
    queue.put_back(block)
    assert queue.samples == 6
    queue.clear()
    assert (queue.samples, bool(queue), queue.holds(1)) == (0, False, False)
