"""Runs in an object store: killed, stopped, refused to a second submit, their storage away, read in place.

Each act has a run of its own. The engine is the stand-in, held by a file while a sweep must not end.
"""

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from standin.command import finish, wait_for
from standin.engine import KIND
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.objects import ObjectStore
from standin.rows import identities, planned, samples

from jobs.commands.stop import stop
from jobs.report.server import Catalog
from jobs.submit.progress import run_status
from orchestrator.rundir.lease import is_running
from orchestrator.rundir.progress import EVENTS, read_status
from orchestrator.rundir.store import RunStore

pytestmark = pytest.mark.ray

ITEMS, SEEDS = 64, 3  # an engine call for each seed of a block
SECONDS_AWAY, SECONDS_TO_TELL = 20, 120


@pytest.fixture(scope="module")
def objects():
    """The object store."""
    with ObjectStore() as objects:
        yield objects


@dataclass
class Run:
    """A run in the bucket, and the sweep on this machine that makes it."""

    objects: ObjectStore
    command: object
    folder: Path

    def __post_init__(self):
        write_task(self.folder / "pack", "asked", questions(ITEMS), **GENERATE)
        self.hold = self.folder / "hold"
        self.sweep = write_sweep(
            self.folder,
            engine={"kind": KIND, "hold": str(self.hold), "free": SEEDS},
            variants={"base": {}, "other": {}},
            tasks=["asked"],
            sampling={"temperatures": [0.7], "seeds": SEEDS},
            cluster={"cpus_per_replica": 1},
        )
        self.path = f"runs/{self.folder.name}"
        self.url = f"s3://bucket/{self.path}"
        self.arguments = ("submit", self.sweep, "--run-dir", self.url)

    @property
    def store(self):
        """The run directory."""
        return RunStore(self.url)

    def blocks(self):
        """Blocks that are in the bucket."""
        return self.objects.files(f"{self.path}/samples")

    def copy(self):
        """A copy of the run on a disk."""
        return self.objects.fetch(self.path, self.folder / "copy")

    def submit(self):
        """A submit to its end."""
        return self.command.run(*self.arguments, cwd=self.folder)

    @contextmanager
    def held(self):
        """A submit that has written some blocks and is held in the middle of others."""
        self.hold.touch()
        process = self.command.start(*self.arguments, cwd=self.folder)
        wait_for(lambda: self.blocks() and read_status(self.store).state, process, pause=0.5)
        yield process
        self.hold.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def new_run(objects, command, tmp_path_factory):
    """Makes a run by its name."""
    return lambda name: Run(objects, command, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def killed(new_run):
    """A run whose driver alone gets SIGKILL; before, somebody else tries to submit too."""
    run = new_run("killed")
    with run.held() as process:
        status, second = run_status(run.url), run.submit()
        process.kill()
        finish(process)
    until = time.monotonic() + 10
    while (at_work := is_running(run.store)) and time.monotonic() < until:
        time.sleep(0.05)  # a driver that was forked ends a moment after the process that it stands for
    return SimpleNamespace(run=run, status=status, second=second, at_work=at_work, blocks=run.blocks())


@pytest.fixture(scope="module")
def complete(killed):
    """The killed run, submitted once more."""
    return SimpleNamespace(run=killed.run, ended=killed.run.submit())


@pytest.fixture(scope="module")
def stopped(new_run):
    """A run that is asked to stop through the bucket alone."""
    run = new_run("stopped")
    with run.held() as process:
        stop(run.url)
        ended = finish(process)
    return SimpleNamespace(run=run, ended=ended, status=read_status(run.store))


@pytest.fixture(scope="module")
def outage(new_run, objects):
    """A run whose storage goes away just before answers are written, until that has been reported."""
    run = new_run("outage")
    with run.held() as process:
        objects.door.close()
        back = time.monotonic() + SECONDS_AWAY
        before = run.blocks()
        run.hold.unlink()
        too_long = threading.Timer(SECONDS_TO_TELL, process.kill)
        too_long.start()
        told = next((line for line in process.stdout if "torage error" in line), "")
        too_long.cancel()
        time.sleep(max(0.0, back - time.monotonic()))
        written = len(run.blocks()) - len(before)
        objects.door.open()
        ended = finish(process)
    return SimpleNamespace(run=run, told=told, written=written, ended=ended)


def test_a_second_submit_is_refused(killed):
    """One at a time; the sentence says who is at work and how to end it."""
    status, _, err = killed.second
    assert status == 2
    assert re.search(r"Another lldeg submit is running in s3://\S+ \(process \d+ on .*lldeg stop s3://", err)


def test_the_status_shows_a_sweep_is_running(killed):
    """Some is done and some is owed, by the blocks that stand in the bucket."""
    status = killed.status
    assert status["state"] == "running"
    assert 0 < status["done"] < status["planned"] == 2 * ITEMS * SEEDS


def test_the_lease_of_a_killed_driver_keeps_nobody_out(killed, complete):
    """On the same machine the next submit need not wait until it is old."""
    assert not killed.at_work
    assert complete.ended[0] == 0, complete.ended


def test_a_submit_stops_when_asked(stopped):
    """It says so, with the samples that are still owed; what stands stays."""
    status, out, _ = stopped.ended
    assert status == 3
    assert "Stopped: requested by lldeg stop." in out
    assert stopped.status.state == "incomplete"


def test_a_storage_that_is_away_is_told(outage):
    """Whoever watches the submit sees why nothing moves."""
    assert "Storage error, retrying: OSError" in outage.told
    assert outage.written == 0


def test_a_storage_that_is_away_costs_no_answer(outage):
    """The sweep completes, no replica is lost, and nothing is asked twice."""
    assert outage.ended[0] == 0, outage.ended
    events = map(json.loads, outage.run.store.read_log(EVENTS).splitlines())
    assert [event for event in events if event["event"] in {"died", "failed", "refused"}] == []


@pytest.mark.parametrize("act", ["complete", "stopped", "outage"])
def test_every_sample_stands_once(act, request):
    """After a kill, a stop or an outage: each planned sample, no key twice, no error."""
    run = request.getfixturevalue(act).run
    assert run.submit()[0] == 0
    copy = run.copy()
    assert identities(copy) == planned(copy)
    rows = samples(copy)
    assert len({row["sample_key"] for row in rows}) == len(rows) == 2 * ITEMS * SEEDS
    assert [row["error"] for row in rows if row["error"]] == []


def test_what_stood_is_not_written_again(killed, complete):
    """Blocks from before the kill are there under their names."""
    assert set(killed.blocks) < set(complete.run.blocks())


def test_logs_of_replicas_arrive(complete, lldeg):
    """What engines print and what happened can be read from anywhere."""
    assert "loaded in" in lldeg("logs", complete.run.url, "--replica", 1).out
    happened = lldeg("logs", complete.run.url).out
    lives = [
        [f"replica 1 ({variant}) {event}" in happened for event in ("started", "loaded", "closed")]
        for variant in ("base", "other")  # the first replica is for whichever has more left to do
    ]
    assert any(map(all, lives))


def test_the_status_of_a_complete_run(complete, lldeg):
    """Complete, with nobody at work; exit 0."""
    result = lldeg("status", complete.run.url, "--format", "json")
    facts = json.loads(result.out)
    assert (result.status, facts["state"], facts["missing"], facts["problem"]) == (0, "complete", 0, None)


def test_a_log_that_is_removed_while_it_is_read_is_none(complete, monkeypatch):
    """As the lease is, by a submit that ends while `lldeg stop` waits for it."""
    store = complete.run.store
    open_, name = store.open, "removed"
    store.write_log(name, b"x")

    def overtaken(path):
        stream = open_(path)
        store.remove_log(name)
        return stream

    monkeypatch.setattr(store, "open", overtaken)
    assert store.read_log(name) == b""


def test_nobody_is_left_to_stop(complete, lldeg):
    """The lease went with the last submit."""
    assert "No submit is running" in lldeg("stop", complete.run.url).out


def test_it_is_analyzed_where_it_lies(complete, objects, lldeg):
    """Verdicts and report are written beside the samples; two equal variants differ in nothing."""
    path = complete.run.path
    assert lldeg("analyze", complete.run.url).status == 0
    written = {file.rpartition("/")[2] for file in objects.files(f"{path}/analysis")}
    assert {"verdicts.json", "summary.csv", "report.html"} <= written
    verdicts = json.loads(objects.read(f"{path}/analysis/verdicts.json"))
    assert [(c["items"], c["missing"], c["worse"]) for c in verdicts["comparisons"]] == [(ITEMS, 0, 0)]


def test_flips_and_view_read_it_where_it_lies(complete, lldeg):
    """No copy is needed for either."""
    assert lldeg("flips", complete.run.url).status == 0
    (cached,) = Catalog([complete.run.url]).runs().values()
    assert cached.counts()["other"].done == ITEMS * SEEDS
    page, _, _ = cached.analyze()
    assert page["tasks"] == ["asked"]


def test_keys_of_the_store_stand_nowhere(complete):
    """Neither in manifest, logs nor samples."""
    files = [path for path in complete.run.copy().rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"planted-" in path.read_bytes()] == []


def test_no_process_outlives_the_command(complete, stopped, outage, command):
    """Whatever was killed, stopped or kept waiting."""
    assert command.left_after(15) == []
