"""What is done about failures, as a table: no Ray, no dispatcher."""

import pytest

from orchestrator.rundir.identity import Item, Rerun
from orchestrator.sweep.blocks import Block
from orchestrator.workers.failure_policy import (
    EndVariant,
    GiveUp,
    LeaveOwed,
    PutBack,
    after_death,
    after_failed_load,
    after_failure,
)


def block(items, reruns=1, *, deaths=0, failures=0):
    """A block of so many items and reruns with a past."""
    return Block(
        "v",
        "t",
        "c",
        tuple(Item(number, "d", "p") for number in range(items)),
        tuple(Rerun(0.7, seed) for seed in range(reruns)),
        deaths=deaths,
        failures=failures,
    )


@pytest.mark.parametrize(
    ("held", "action", "parts"),
    [
        (block(4), PutBack, [(4, 1)]),  # suspected, and run alone from now on
        (block(4, deaths=1), PutBack, [(2, 1), (2, 1)]),
        (block(5, deaths=1), PutBack, [(2, 1), (3, 1)]),
        (block(1, reruns=3, deaths=1), PutBack, [(1, 1), (2, 1)]),  # a single item is split by reruns
        (block(1), PutBack, [(1, 1)]),
        (block(1, deaths=1), PutBack, [(1, 2)]),
        (block(1, deaths=2), GiveUp, [(1, 3)]),
    ],
)
def test_after_a_death(held, action, parts):
    """Blocks come back as suspects, then halved; a single sample is tried three times; (samples, deaths)."""
    found = after_death(held, node_lost=False)
    blocks = found.blocks if isinstance(found, PutBack) else [found.block]
    assert isinstance(found, action)
    assert [(part.samples, part.deaths) for part in blocks] == parts


@pytest.mark.parametrize("held", [block(4), block(4, deaths=1), block(1, deaths=2)])
def test_after_a_death_with_the_node(held):
    """Nothing counts against the block, whatever its past."""
    assert after_death(held, node_lost=True) == PutBack((held,))


@pytest.mark.parametrize(("failures", "action"), [(0, PutBack), (1, PutBack), (2, LeaveOwed)])
def test_after_a_failure_of_a_living_replica(failures, action):
    """Tried three times in all, whole; then it stays owed, and no row says that it failed."""
    held = block(4, failures=failures, deaths=1)
    found = after_failure(held)
    assert isinstance(found, action)
    if isinstance(found, PutBack):
        ((again),) = found.blocks
        assert (again.failures, again.deaths, again.samples) == (failures + 1, 1, 4)


@pytest.mark.parametrize(("failed", "ends"), [(1, False), (2, False), (3, True), (4, True)])
def test_after_a_failed_load(failed, ends):
    """Three failed loads in a row refuse the variant, with the last reason."""
    end = after_failed_load(failed, "out of memory")
    assert (end is not None) == ends
    if ends:
        assert end == EndVariant("its model failed to load 3 times: out of memory")
