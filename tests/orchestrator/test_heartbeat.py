"""The heartbeat: status, events and requests to stop, on a disk and on an object store."""

import json
import time
import uuid
from math import inf

import pytest

from orchestrator.rundir import progress as module
from orchestrator.rundir.progress import (
    EVENTS,
    STATUS,
    Heartbeat,
    ReplicaProgress,
    Standing,
    SweepProgress,
    SweepStatus,
    VariantProgress,
    forget_stop,
    read_status,
    request_stop,
)
from orchestrator.rundir.store import RunStore

LOOK = Standing(
    temperature=0.5,
    look=1,
    looks=6,
    statistic=0.1,
    boundary=2.0,
    certified_statistic=-1.0,
    certified_boundary=inf,
    verdict="inconclusive",
)


@pytest.fixture(params=["disk", "object store"])
def store(request, tmp_path, monkeypatch):
    """A run directory on a disk, and one on a store that cannot append."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_BEATS", 0.02)
    return RunStore(tmp_path / "run" if request.param == "disk" else f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def progress():
    """A sweep of ten samples, of which four are there."""
    return SweepProgress({"base": VariantProgress(planned=10, done=4, found=3)})


def replica(**facts):
    """One that is running."""
    return ReplicaProgress(number=1, variant="base", state="running", node="n1", samples=7, **facts)


def until(condition):
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)
    return found


def refuse(monkeypatch, name):
    """Let the storage refuse one kind of call; returns what ends that."""

    def away(*_):
        raise ConnectionError("away")

    allowed = getattr(RunStore, name)
    monkeypatch.setattr(RunStore, name, away)
    return lambda: monkeypatch.setattr(RunStore, name, allowed)


def test_the_run_directory_knows_how_far_it_is(store, progress):
    """Counts, replicas and problems, while the sweep is running."""
    progress.replicas[1] = replica(problem="storage error, retrying: full")
    with Heartbeat(store, progress):
        until(lambda: read_status(store).state)
        status = read_status(store)
    assert (status.state, status.variants["base"].done) == ("running", 4)
    assert status.replicas[0].samples == 7
    assert status.problem == "storage error, retrying: full"


def test_what_is_written_is_read(store, progress):
    """Every field of it, looks of a sweep that stops early included."""
    progress.replicas[1] = replica()
    progress.variants["base"].looks = (LOOK,)
    with Heartbeat(store, progress):
        pass
    assert read_status(store).model_dump(mode="json") == json.loads(store.read_log(STATUS))


@pytest.mark.parametrize(("written", "state"), [(7, "complete"), (2, "incomplete")])
def test_the_last_beat_says_how_it_ended(store, progress, written, state):
    """After the sweep the status is final."""
    with Heartbeat(store, progress):
        progress.variants["base"].done = 3 + written
    assert read_status(store).state == state


def test_a_request_to_stop_is_heard(store, progress):
    """It reaches the dispatcher through the progress."""
    with Heartbeat(store, progress):
        request_stop(store)
        until(lambda: progress.stop)
    assert "lldeg stop" in progress.stop


def test_a_request_to_an_earlier_submit_is_not_heard(store, progress):
    """What was asked of a submit that is over does not stop the next one."""
    request_stop(store)
    forget_stop(store)
    with Heartbeat(store, progress):
        until(lambda: read_status(store).state)
    assert progress.stop is None


def test_events_stand_in_order(store, progress):
    """Each with its time; at the latest when the sweep is over."""
    with Heartbeat(store, progress) as beat:
        for number in range(5):
            beat.log({"event": "started", "replica": number})
    events = [json.loads(line) for line in store.read_log(EVENTS).splitlines()]
    assert [event["replica"] for event in events] == [0, 1, 2, 3, 4]
    assert all(event["time"] > 0 for event in events)


@pytest.mark.parametrize("call", ["write_log", "read_log"])
def test_a_storage_that_refuses_is_told_and_survived(store, progress, monkeypatch, call):
    """The user sees it as long as it lasts; then beats go on, and requests are heard again."""
    with Heartbeat(store, progress) as beat:
        until(lambda: read_status(store).state)
        come_back = refuse(monkeypatch, call)
        until(lambda: progress.problem)
        assert "storage error, retrying: ConnectionError: away" in progress.problem
        beat.log({"event": "while it was away"})
        come_back()
        until(lambda: progress.problem is None)
        request_stop(store)
        until(lambda: progress.stop)
    assert b"while it was away" in store.read_log(EVENTS)


def test_a_storage_that_is_away_to_the_end_is_survived(store, progress, monkeypatch):
    """A sweep that wrote its last answer ends well even if it cannot say so."""
    with Heartbeat(store, progress):
        refuse(monkeypatch, "write_log")


def test_a_log_that_cannot_grow_stops_nothing(store, progress, monkeypatch):
    """An event is lost, not the sweep."""
    with Heartbeat(store, progress) as beat:
        refuse(monkeypatch, "append_log")
        beat.log({"event": "died"})


def test_the_words_of_earlier_versions_are_read(store):
    """Of the sweep and of a replica."""
    replica = {"number": 1, "variant": "base", "state": "at work", "trouble": "slow"}
    old = {"state": "at work", "time": 5.0, "trouble": "full", "replicas": [replica]}
    store.write_log(STATUS, json.dumps(old).encode())
    status = read_status(store)
    assert (status.state, status.last_heartbeat, status.problem) == ("running", 5.0, "full")
    assert (status.replicas[0].state, status.replicas[0].problem) == ("running", "slow")


def test_a_damaged_status_is_none(store):
    """Whoever asks in the middle of a write gets nothing rather than an error."""
    store.write_log(STATUS, b"{")
    assert read_status(store) == SweepStatus()
    store.write_log(STATUS, b"[]")
    assert read_status(store) == SweepStatus()
