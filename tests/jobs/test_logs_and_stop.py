"""`lldeg logs` and `lldeg stop` need the run directory alone."""

import json
import threading
import time

import pytest
from standin.runs import MadeTask, make_run

from jobs.commands import logs as logs_module
from orchestrator.rundir.lease import exclusive
from orchestrator.rundir.progress import EVENTS, STOP
from orchestrator.rundir.store import RunStore


@pytest.fixture
def run(tmp_path):
    """A run of two samples."""
    return make_run(tmp_path / "run", {"sums": MadeTask({("base", 0.0): [[1.0, 0.0]]})})


def note(run, **event):
    """Add an event."""
    RunStore(run).append_log(EVENTS, json.dumps({"time": 0.0, **event}))


def test_events_are_lines_for_people(lldeg, run):
    """Who, what, and the facts; a figure is rounded."""
    note(run, event="loaded", replica=2, variant="base", load_seconds=3.14159, node="abc")
    note(run, event="failed", variant="base", task="sums", block="b1", reason="OSError: full")
    result = lldeg("logs", run)
    first, second = result.out.splitlines()
    assert first.startswith(("1970-01-01 ", "1969-12-31 "))
    assert first.endswith("  replica 2 (base) loaded: load_seconds 3.1, node abc")
    assert second.endswith("  base failed: task sums, block b1, reason OSError: full")
    assert result.status == 0


def test_logs_cannot_steer_a_terminal(lldeg, run):
    """Neither an event nor what an engine printed."""
    note(run, event="died", replica=1, variant="base", reason="\x1b[2J")
    RunStore(run).append_log("replica-001-base.log", "\x1b]0;title\x07 ready")
    for arguments in ((), ("--replica", 1)):
        assert "\x1b" not in lldeg("logs", run, *arguments).out


def test_a_line_that_is_no_event_is_shown_as_it_is(lldeg, run):
    """A damaged log is still shown."""
    for line in ("not json", "[1]", '{"event": "x"}'):
        RunStore(run).append_log(EVENTS, line)
    assert lldeg("logs", run).out.splitlines() == ["not json", "[1]", '{"event": "x"}']


def test_what_a_replica_printed(lldeg, run):
    """Its own log and nobody else's."""
    RunStore(run).append_log("replica-001-base.log", "one")
    RunStore(run).append_log("replica-010-base.log", "ten")
    assert lldeg("logs", run, "--replica", 10).out == "ten\n"


def test_a_replica_that_never_was_is_refused(lldeg, run):
    """The sentence names the logs there are."""
    RunStore(run).append_log("replica-001-base.log", "one")
    result = lldeg("logs", run, "--replica", 2)
    assert result.status == 2
    assert "has no log of replica 2; available logs: replica-001-base.log." in result.err


def test_following_goes_on_until_nobody_is_at_work(lldeg, run, monkeypatch):
    """Lines that come later are shown, each once and whole."""
    looks = []

    def later(_seconds):
        looks.append(1)
        note(run, event="closed", replica=len(looks), variant="base")
        if len(looks) == 2:
            alone.__exit__(None, None, None)

    note(run, event="started", replica=1, variant="base")
    monkeypatch.setattr(logs_module.time, "sleep", later)
    alone = exclusive(RunStore(run), on_loss=lambda: None)
    alone.__enter__()
    out = lldeg("logs", run, "--follow").out
    assert [line.partition("  ")[2] for line in out.splitlines()] == [
        "replica 1 (base) started",
        "replica 1 (base) closed",
        "replica 2 (base) closed",
    ]


def test_stopping_where_nobody_works_says_so(lldeg, run):
    """And leaves no request behind that would stop the next submit."""
    result = lldeg("stop", run)
    assert (result.status, result.out) == (0, f"No submit is running in {run}.\n")
    assert RunStore(run).read_log(STOP) == b""


def test_stop_waits_until_the_submit_has_ended(lldeg, run):
    """The request is there while the other works; when it has left, the command ends."""
    store, asked = RunStore(run), threading.Event()

    def work():
        with exclusive(store, on_loss=lambda: None):
            begun.set()
            while not store.read_log(STOP):
                time.sleep(0.01)
            asked.set()

    begun = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait()
    result = lldeg("stop", run)
    worker.join()
    assert asked.is_set()
    assert (result.status, "has stopped; submit again to resume" in result.out) == (0, True)


def test_a_submit_that_does_not_stop_is_told(lldeg, run):
    """Status 2, and where to look."""
    with exclusive(RunStore(run), on_loss=lambda: None):
        result = lldeg("stop", run, "--wait", 0)
    assert result.status == 2
    assert f"see: lldeg status {run}" in result.err


@pytest.mark.parametrize("command", ["logs", "stop"])
def test_what_is_no_run_is_refused(lldeg, tmp_path, command):
    """One sentence, status 2."""
    result = lldeg(command, tmp_path / "nothing")
    assert result.status == 2
    assert "is not a run directory" in result.err
