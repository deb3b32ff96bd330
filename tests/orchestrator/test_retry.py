"""Storage operations are retried until they work or the time is up; nothing else is."""

from types import SimpleNamespace

import pytest

from orchestrator import retry
from orchestrator.retry import retry_storage
from orchestrator.rundir.progress import SweepProgress
from orchestrator.rundir.store import RunStore
from orchestrator.workers.execute import _record


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Pauses of next to nothing."""
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.001)


def failing(times):
    """Something that works after so many failures."""
    errors = iter([ConnectionError(f"away {n}") for n in range(times)])

    def action():
        if error := next(errors, None):
            raise error
        return "done"

    return action


def test_what_works_at_last_is_returned():
    """Each failure before is told, with its class."""
    told = []
    assert retry_storage(failing(3), told.append) == "done"
    assert told == [f"ConnectionError: away {n}" for n in range(3)]


def test_retries_end(monkeypatch):
    """A storage that never comes back is an error of its own kind."""
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.0)
    with pytest.raises(ConnectionError, match="away 0"):
        retry_storage(failing(3), lambda _: None)


def test_only_storage_errors_are_retried():
    """A mistake of ours is not tried again."""
    tries = []

    def mistaken():
        tries.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        retry_storage(mistaken, lambda _: None)
    assert tries == [1]


def test_a_manifest_that_cannot_be_written_stops_the_sweep(monkeypatch, tmp_path):
    """What replicas run is added to it; no sample may name what it does not explain."""
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.0)
    store, progress, events = RunStore(tmp_path), SweepProgress({}), []
    plan = SimpleNamespace(
        sweep=SimpleNamespace(store=store), manifest={"variants": {}, "tasks": {}, "software": {}}
    )
    record = _record(plan, progress, SimpleNamespace(log=events.append))
    name = record({"versions": {"vllm": "1"}, "commit": None})
    assert store.read_manifest()["software"] == {name: {"versions": {"vllm": "1"}, "commit": None}}
    monkeypatch.setattr(store, "write_manifest", lambda _: failing(1)())
    record({"versions": {"vllm": "2"}, "commit": None})
    assert progress.stop == "the manifest cannot be written (ConnectionError: away 0)"
    assert [event["event"] for event in events] == ["manifest failed"]
