"""Loads that fail: always on one node, at first on each, and everywhere; a variant for each in one sweep."""

import json
import re
from dataclasses import dataclass

import pytest
from standin.command import finish, wait_for
from standin.engine import KIND
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import events, identities, planned, samples

pytestmark = pytest.mark.ray

BROKEN, BUSY = "CUDA error: device-side assert triggered", "429 Client Error: Too Many Requests"
NODE = ("--num-cpus=1", '--resources={"place": 1, "%s": 1}')


@dataclass(frozen=True)
class History:
    """How a submit ended on a well and a sick node, Ray's IDs of both, and what its run directory tells.

    Attributes:
        ended: exit status, output, errors.
        told: the status file.
    """

    ended: tuple
    well: str
    sick: str
    told: dict


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Where the answers are."""
    return tmp_path_factory.mktemp("sick") / "run"


@pytest.fixture(scope="module")
def history(cluster, command, run):
    """The variant of the sick node holds still until the node is left out."""
    folder = run.parent
    write_task(folder / "pack", "asked", questions(200), **GENERATE)
    for name in ("well", "sick"):
        options = [part.replace("%s", name) for part in NODE]
        cluster.add(name, *options)
    well, sick = cluster.named("well"), cluster.named("sick")
    for variant, node, failures in (("base", sick, BROKEN), ("busy", well, BUSY), ("busy", sick, BUSY)):
        (folder / variant).mkdir(exist_ok=True)
        (folder / variant / node).write_text(failures)
    hold = folder / "hold"
    hold.touch()
    path = write_sweep(
        folder,
        engine={"kind": KIND},
        variants={
            "base": {"engine": {"sick": str(folder / "base"), "hold": str(hold), "free": 1}},
            "busy": {"engine": {"sick": str(folder / "busy")}},
            "broken": {"engine": {"fails": "the disk is full"}},
        },
        tasks=["asked"],
        sampling={"temperatures": [0.7], "seeds": 1},
        cluster={"cpus_per_replica": 1, "resources": {"place": 1}},
    )
    process = command.start("submit", path, "--address", cluster.gcs, "--run-dir", run, cwd=folder)
    wait_for(lambda: nodes(run, "left out", "base"), process)
    hold.unlink()
    ended = finish(process)
    cluster.remove("well", "sick")
    return History(ended, well, sick, json.loads((run / "logs" / "status.json").read_text()))


def nodes(run, kind, variant):
    """The nodes that a variant's events of a kind name."""
    return [event["node"] for event in events(run, kind) if event["variant"] == variant]


def test_every_sample_of_what_can_be_loaded_stands_once(history, run):
    """None as an error, whichever node failed."""
    there = {key: count for key, count in identities(run).items() if key[0] != "broken"}
    assert there == planned(run, ["base", "busy"]), history.ended
    assert all(row["error"] is None for row in samples(run))


def test_a_node_that_always_fails_is_left_out(history, run):
    """After two loads, and only for the variant that fails there; the status says so, with the reason."""
    assert nodes(run, "died", "base") == [history.sick] * 2
    assert nodes(run, "left out", "base") == [history.sick]
    note = f"base leaves out node {history.sick[:8]}: OSError: {BROKEN}"
    assert note in history.told["notes"]


def test_no_healthy_replica_is_ended(history, run):
    """Those of the well node work until nothing is left."""
    died = {event["replica"] for event in events(run, "died")}
    loaded = {event["replica"] for event in events(run, "loaded")}
    assert history.well in nodes(run, "loaded", "base")
    assert died.isdisjoint(loaded)


def test_a_load_that_meets_a_429_is_tried_again(history, run):
    """The log tells of it; no node is left out for it."""
    reasons = {event["reason"] for event in events(run, "died") if event["variant"] == "busy"}
    assert reasons == {f"OSError: {BUSY}"}
    assert nodes(run, "loaded", "busy")
    assert nodes(run, "left out", "busy") == []


def test_what_fails_everywhere_ends_with_its_reason(history, run):
    """After two loads on each node and another one the command says why, and exits with 2."""
    status, _, err = history.ended
    assert status == 2
    ended = re.search(r"broken: its model failed to load (\d) times on 2 nodes: OSError: the disk is f", err)
    assert ended is not None
    assert int(ended[1]) in {6, 7}  # one may be under way when a node is left out
    assert "Traceback" not in err
    assert set(nodes(run, "died", "broken")) == {history.well, history.sick}
