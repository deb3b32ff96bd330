"""The queue of blocks: order, counts, and samples that are no longer needed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rundir.identity import Item, Rerun
from orchestrator.sweep.blocks import Block
from orchestrator.workers.replica_slots import BlockQueue

GREEDY, SAMPLED = Rerun(0.0), Rerun(0.7, 1)


def block(name, *reruns):
    """A block of two items, whose task is its name here."""
    return Block("v", name, "c", (Item(0, "d", "p"), Item(1, "e", "q")), reruns or (GREEDY,))


def owed(blocks):
    """Samples of blocks by temperature."""
    return Counter(rerun.temperature for one in blocks for rerun in one.reruns for _ in one.items)


def queue_of(*blocks):
    """A queue of blocks never handed out."""
    return BlockQueue(blocks, owed(blocks))


def taken(queue):
    """All blocks in the order in which they leave."""
    names = []
    while queue:
        names.append(queue.take().task)
    return names


def test_blocks_put_back_come_after_those_never_handed_out():
    """What may have killed a replica waits until everything else is under way."""
    queue = queue_of(*map(block, "abc"))
    queue.put_back(queue.take())
    assert taken(queue) == ["b", "c", "a"]


def test_blocks_are_made_when_they_are_needed():
    """However many a variant has, only those looked at exist."""
    made = []
    queue = BlockQueue((made.append(name) or block(name) for name in "abcd"), {0.0: 8})
    assert queue.holds(2)
    assert made == ["a", "b"]
    assert (queue.first().task, queue.take().task, made) == ("a", "a", ["a", "b"])


def test_samples_are_counted():
    """Blocks that leave, come back, or are dropped."""
    queue = queue_of(*map(block, "abc"))
    held = queue.take()
    assert queue.samples == 4
    queue.put_back(held)
    assert queue.samples == 6
    queue.end()
    assert (queue.samples, bool(queue), queue.holds(1)) == (0, False, False)


def test_a_dropped_temperature_leaves_the_blocks_that_hold_nothing_else():
    """Whether they were made, put back or neither."""
    queue = queue_of(*(block(name, SAMPLED) for name in "abc"))
    held = queue.take()
    assert queue.holds(1)
    queue.put_back(held)
    assert queue.drop(0.7) == 6
    assert (bool(queue), queue.samples, queue.dropped) == (False, 0, 6)


def test_a_dropped_temperature_is_cut_from_mixed_blocks():
    """The other reruns of the block stay, and its file gets a name of its own."""
    mixed = block("a", GREEDY, SAMPLED)
    queue = queue_of(mixed)
    assert queue.drop(0.7) == 2
    kept = queue.take()
    assert (kept.reruns, kept.items, kept.samples) == ((GREEDY,), mixed.items, 2)
    assert kept.name != mixed.name


def test_what_is_in_flight_when_its_temperature_is_dropped_comes_back_without_it():
    """A replica died on it; what is not needed is not asked again, and counts as dropped."""
    queue = queue_of(block("a", GREEDY, SAMPLED), block("b", SAMPLED))
    mixed, sampled = queue.take(), queue.take()
    assert queue.drop(0.7) == 0
    queue.put_back(sampled)
    queue.put_back(mixed)
    assert queue.take().reruns == (GREEDY,)
    assert (queue.samples, queue.dropped, bool(queue)) == (0, 4, False)


def test_dropping_makes_no_blocks():
    """Those never handed out are cut when they are needed."""
    made = []
    blocks = (made.append(name) or block(name, GREEDY, SAMPLED) for name in "abcd")
    queue = BlockQueue(blocks, {0.0: 8, 0.7: 8})
    assert queue.drop(0.7) == 8
    assert (made, queue.samples) == ([], 8)
    assert [one.reruns for one in (queue.take(), queue.take())] == [(GREEDY,), (GREEDY,)]


@given(
    st.lists(st.sampled_from([(GREEDY,), (SAMPLED,), (GREEDY, SAMPLED)]), max_size=8),
    st.lists(st.sampled_from(["take", "put back", "drop 0.0", "drop 0.7"]), max_size=20),
)
def test_every_sample_is_waiting_in_flight_or_dropped(kinds, steps):
    """Whatever happens in whatever order, the counts add up, and no dropped temperature leaves the queue."""
    blocks = [block(str(number), *reruns) for number, reruns in enumerate(kinds)]
    queue, in_flight, dropped = queue_of(*blocks), [], set()
    for step in steps:
        if step == "take" and queue:
            in_flight.append(queue.take())
            assert not {rerun.temperature for rerun in in_flight[-1].reruns} & dropped
        elif step == "put back" and in_flight:
            queue.put_back(in_flight.pop())
        elif step.startswith("drop"):
            dropped.add(float(step.split()[1]))
            queue.drop(float(step.split()[1]))
        total = queue.samples + queue.dropped + sum(one.samples for one in in_flight)
        assert total == sum(one.samples for one in blocks)
    waiting = []
    while queue:
        waiting.append(queue.take())
    assert set(owed(waiting)).isdisjoint(dropped)


def test_what_is_left_to_a_later_submit_is_dropped_with_its_temperature():
    """Whether its variant has ended or its block failed too often: it is not handed out, and not needed."""
    queue = queue_of(*(block(name, GREEDY, SAMPLED) for name in "abc"))
    queue.leave(queue.take())
    queue.end()
    assert (taken(queue), queue.samples, queue.dropped) == ([], 0, 0)
    assert (queue.drop(0.7), queue.dropped) == (6, 6)
    queue.leave(block("d", GREEDY, SAMPLED))
    assert queue.dropped == 8
