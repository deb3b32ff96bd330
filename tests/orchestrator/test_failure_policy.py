"""What is done about failures, as a table: no Ray, no dispatcher."""

import pytest

from orchestrator.rundir.identity import Item, Rerun
from orchestrator.sweep.blocks import Block
from orchestrator.workers.failure_policy import LONGEST_REST, REST, FailedLoads, after_death, after_failure


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
    ("held", "again"),
    [
        (block(4), [(4, 1)]),  # suspected, and run alone from now on
        (block(4, deaths=1), [(2, 1), (2, 1)]),
        (block(5, deaths=1), [(2, 1), (3, 1)]),
        (block(1, reruns=3, deaths=1), [(1, 1), (2, 1)]),  # a single item is split by reruns
        (block(1), [(1, 1)]),
        (block(1, deaths=1), [(1, 2)]),
        (block(1, deaths=2), []),
    ],
)
def test_after_a_death(held, again):
    """Blocks come back as suspects, then halved; a single sample is tried three times; (samples, deaths)."""
    assert [(part.samples, part.deaths) for part in after_death(held, node_lost=False)] == again


@pytest.mark.parametrize("held", [block(4), block(4, deaths=1), block(1, deaths=2)])
def test_after_a_death_with_the_node(held):
    """Nothing counts against the block, whatever its past."""
    assert after_death(held, node_lost=True) == (held,)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_after_a_failure_of_a_living_replica(failures):
    """Tried three times in all, whole; then it stays owed, and no row says that it failed."""
    again = after_failure(block(4, failures=failures, deaths=1))
    assert again == (None if failures == 2 else block(4, failures=failures + 1, deaths=1))


def test_a_node_rests_after_a_failed_load_and_is_left_out_after_two():
    """The rest grows with the failures of the variant; what happened on one node says nothing of others."""
    loads = FailedLoads()
    assert not loads.add("x", "full", now=0.0)
    assert (loads.avoided(REST - 1), loads.avoided(REST + 1)) == ({"x"}, set())
    assert not loads.add("y", "full", now=0.0)
    assert loads.avoided(2 * REST - 1) == {"y"}
    assert loads.add("x", "full", now=0.0)
    assert (loads.left_out, loads.avoided(1e9)) == ({"x"}, {"x"})


def test_loads_that_fail_together_are_one_failure():
    """Eight replicas of a node that meet the same 429 leave it a second chance; a later one counts."""
    loads = FailedLoads()
    assert not any(loads.add("x", "429", now=9.0, since=1.0) for _ in range(8))
    assert loads.add("x", "429", now=20.0, since=15.0)


def test_a_load_that_works_forgets_the_failures_of_its_node():
    """Two failures a day apart are not two in a row."""
    loads = FailedLoads()
    loads.add("x", "full", now=0.0)
    loads.forget("x")
    assert not loads.add("x", "full", now=0.0)


def test_when_no_node_is_left_each_is_tried_once_more_after_a_rest():
    """Not twice; the end tells how often and where it was tried, and the last reason."""
    loads = FailedLoads()
    for node in "xyxy":
        loads.add(node, "full", now=0.0)
    assert loads.try_again(now=0.0)
    assert (loads.left_out, loads.avoided(1.0)) == (set(), {"x", "y"})
    assert loads.avoided(LONGEST_REST) == set()
    assert loads.add("x", "disk full", now=0.0)
    assert not loads.try_again(now=0.0)
    assert loads.reason == "its model failed to load 5 times on 2 nodes: disk full"


def test_an_unfit_node_is_left_out_at_once_and_for_good():
    """It does not see the run directory, say; only the others are tried once more."""
    loads = FailedLoads()
    assert loads.add("x", "no such folder", now=0.0, unfit=True)
    assert not loads.try_again(now=0.0)
    assert loads.reason == "its model failed to load: no such folder"
    loads = FailedLoads()
    loads.add("x", "no such folder", now=0.0, unfit=True)
    assert [loads.add("y", "full", now=0.0) for _ in "ab"] == [False, True]
    assert loads.try_again(now=0.0)
    assert loads.left_out == {"x"}


def test_where_the_node_is_not_known_the_variant_waits():
    """The next load might be sent to the same one."""
    loads = FailedLoads()
    loads.add("", "no such Python", now=0.0)
    assert not loads.allow_another(now=REST - 1)
    assert loads.allow_another(now=REST + 1)
    loads.add("", "no such Python", now=0.0)
    assert not loads.allow_another(now=1e9)


def test_after_a_refusal_nothing_is_loaded_until_a_load_works():
    """A refusal is final, unless a replica that was loading at the time shows that it was the node's."""
    loads = FailedLoads()
    loads.refusal = "no such dtype"
    assert not loads.allow_another(now=0.0)
    assert loads.reason == "no such dtype"
    loads.forget("x")
    assert loads.allow_another(now=0.0)
