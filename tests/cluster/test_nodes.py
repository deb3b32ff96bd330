"""Nodes that die, join, or do not see the run directory, in the middle of a sweep."""

import json
from dataclasses import dataclass

import pytest
from standin.command import finish, wait_for
from standin.engine import read_words, write_held_sweep
from standin.files import GENERATE, questions, write_task
from standin.rows import block_files, identities, planned, samples

pytestmark = pytest.mark.ray

ITEMS = 400
PLACE = ("--num-cpus=1", '--resources={"place": 1}')


@dataclass(frozen=True)
class History:
    """How a submit ended on two nodes of which one died while a third joined.

    Attributes:
        ended: exit status, output, errors.
        before, joined: Ray's names of the two nodes, and of the third.
        events: what the run's log holds.
    """

    ended: tuple
    before: set
    joined: str
    events: list


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a task of many blocks."""
    folder = tmp_path_factory.mktemp("nodes")
    write_task(folder / "pack", "asked", questions(ITEMS), **GENERATE)
    return folder


def write(folder):
    """The sweep, a replica to a node."""
    return write_held_sweep(folder, resources={"place": 1})


@pytest.fixture(scope="module")
def nodes(cluster):
    """Two nodes with room for a replica each."""
    for name in ("first", "second"):
        cluster.add(name, *PLACE)
    yield
    cluster.remove("first", "second", "third")


@pytest.fixture(scope="module")
def history(cluster, nodes, command, folder):
    """Both nodes at work, then a third joins, then one is killed, then all go on."""
    run, pids, hold = folder / "run", folder / "pids", folder / "hold"
    hold.touch()
    process = command.start("submit", write(folder), "--address", cluster.gcs, "--run-dir", run, cwd=folder)
    wait_for(lambda: len(read_words(pids)) == 2 and len(block_files(run)) >= 2, process)
    before = {word["node"] for word in read_words(pids).values()}
    cluster.add("third", *PLACE)
    wait_for(lambda: len(read_words(pids)) == 3, process)
    (joined,) = {word["node"] for word in read_words(pids).values()} - before
    cluster.kill("first")
    hold.unlink()
    ended = finish(process)
    events = [json.loads(line) for line in (run / "logs" / "events.jsonl").read_text().splitlines()]
    return History(ended, before, joined, events)


def test_a_node_that_dies_costs_nothing(history, folder):
    """Everything planned stands once, and nothing of it as an error."""
    status, out, err = history.ended
    assert status == 0, out + err
    assert identities(folder / "run") == planned(folder / "run")
    assert all(row["error"] is None for row in samples(folder / "run"))


def loaded(history):
    """The node of each replica that loaded."""
    return {event["replica"]: event["node"] for event in history.events if event["event"] == "loaded"}


def test_the_death_of_a_node_is_in_the_log(history):
    """The replica that was there died, and held blocks; those that were to start there held none."""
    deaths = {event["replica"]: event["blocks"] for event in history.events if event["event"] == "died"}
    (died,) = set(deaths) & set(loaded(history))
    assert loaded(history)[died] in history.before
    assert deaths[died] > 0


def test_a_node_that_joins_in_mid_sweep_is_used(history):
    """Replicas start there, and answer."""
    answered = {event["replica"]: event["samples"] for event in history.events if event["event"] == "closed"}
    there = [replica for replica, node in loaded(history).items() if node == history.joined]
    assert sum(answered[replica] for replica in there) > 0


def test_a_run_directory_that_a_node_does_not_see_is_refused(history, cluster, command, folder):
    """The path means the folder of whoever opens it, which is another one on a node."""
    status, _, err = command.run(
        "submit", write(folder), "--address", cluster.gcs, "--run-dir", "/proc/self/cwd/unseen", cwd=folder
    )
    assert status == 2
    assert "cannot see the run directory /proc/self/cwd/unseen" in err
    assert "s3://bucket/run" in err
    assert "Traceback" not in err
