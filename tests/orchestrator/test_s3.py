"""A run in an object store: killed, resumed, kept for one submit at a time, its storage away, stopped.

One run lives through all of it, and every test looks at one part of its life. The engine is the stand-in,
held by a file wherever the sweep has to be in its middle.
"""

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from standin.command import finish, wait_for
from standin.engine import KIND
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.objects import ObjectStore
from standin.rows import identities, planned, samples

from jobs.commands.status import run_status
from jobs.commands.stop import stop
from jobs.report.catalog import Library
from orchestrator.rundir.heartbeat import EVENTS, read_status
from orchestrator.rundir.lease import at_work
from orchestrator.rundir.store import RunStore

RUN = "runs/one"
ITEMS, SEEDS = 64, 3  # an engine call for each seed of a block
URL = f"s3://bucket/{RUN}"
SECONDS_AWAY, SECONDS_TO_TELL = 20, 120


@pytest.fixture(scope="module")
def objects():
    """The object store."""
    with ObjectStore() as objects:
        yield objects


@dataclass
class Life:
    """What was seen of the run while it was in its middle."""

    objects: ObjectStore
    command: object
    folder: Path
    seen: dict = field(default_factory=dict)

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

    def blocks(self):
        """Blocks that stand in the bucket."""
        return self.objects.files(f"{RUN}/samples")

    @contextmanager
    def submit(self):
        """A submit that has written some blocks and is held in the middle of others."""
        before = len(self.blocks())
        self.hold.touch()
        process = self.command.start("submit", self.sweep, "--run-dir", URL, cwd=self.folder)
        wait_for(lambda: len(self.blocks()) > before and self._is_driven_by(process), process)
        yield process
        self.hold.unlink(missing_ok=True)

    @staticmethod
    def _is_driven_by(process):
        """Whether it has said so; a replica of a killed driver may still write a block."""
        return (read_status(RunStore(URL)) or {}).get("pid") == process.pid

    def be_killed(self):
        """The driver alone gets SIGKILL; before, somebody else tries to submit too."""
        with self.submit() as process:
            self.seen["status"] = run_status(URL)
            self.seen["second"] = self.command.run("submit", self.sweep, "--run-dir", URL, cwd=self.folder)
            process.kill()
            finish(process)
        self.seen["at work when killed"] = at_work(RunStore(URL))
        self.seen["killed"] = self.blocks()

    def be_stopped(self):
        """It is asked to stop through the bucket alone."""
        with self.submit() as process:
            stop(URL)
            self.seen["stopped"] = finish(process)
        self.seen["status when stopped"] = read_status(RunStore(URL))

    def lose_its_storage(self):
        """The storage goes away just before answers are to be written, for a while and until it is told."""
        with self.submit() as process:
            events = len(RunStore(URL).read_log(EVENTS))
            self.objects.door.close()
            back = time.monotonic() + SECONDS_AWAY
            before = self.blocks()
            self.hold.unlink()
            too_long = threading.Timer(SECONDS_TO_TELL, process.kill)
            too_long.start()
            self.seen["told"] = next((line for line in process.stdout if "storage refuses" in line), "")
            too_long.cancel()
            time.sleep(max(0.0, back - time.monotonic()))
            self.seen["written while away"] = len(self.blocks()) - len(before)
            self.objects.door.open()
            self.seen["ended"] = finish(process)
        self.seen["events of the last"] = RunStore(URL).read_log(EVENTS)[events:].decode()


@pytest.fixture(scope="module")
def life(objects, command, tmp_path_factory):
    """What became of the run."""
    life = Life(objects, command, tmp_path_factory.mktemp("s3"))
    life.be_killed()
    life.be_stopped()
    life.lose_its_storage()
    return life


@pytest.fixture(scope="module")
def copy(life, objects, tmp_path_factory):
    """The run as it is at the end, on a disk."""
    return objects.fetch(RUN, tmp_path_factory.mktemp("copy") / "run")


def test_a_second_submit_is_refused(life):
    """One at a time; the sentence says who is at work and how to end it."""
    status, _, err = life.seen["second"]
    assert status == 2
    assert re.search(r"Another lldeg submit is at work in s3://\S+ \(process \d+ on .*lldeg stop s3://", err)


def test_the_status_shows_a_sweep_at_work(life):
    """Some is done and some is owed, by the blocks that stand in the bucket."""
    status = life.seen["status"]
    assert status["state"] == "at work"
    assert 0 < status["done"] < status["planned"] == 2 * ITEMS * SEEDS


def test_the_lease_of_a_killed_driver_keeps_nobody_out(life):
    """On the same machine the next submit need not wait until it is old."""
    assert not life.seen["at work when killed"]
    assert life.seen["stopped"][0] == 3  # at work, that is, until it was stopped


def test_a_submit_stops_when_asked(life):
    """It says so, with the samples that are still owed; what stands stays."""
    _, out, _ = life.seen["stopped"]
    assert "Stopped: it was asked to, by lldeg stop." in out
    assert life.seen["status when stopped"]["state"] == "incomplete"


def test_a_storage_that_is_away_is_told(life):
    """Whoever watches the submit sees why nothing moves."""
    assert "Nothing is lost, but the storage refuses: OSError" in life.seen["told"]
    assert life.seen["written while away"] == 0


def test_a_storage_that_is_away_costs_no_answer(life):
    """The sweep completes, no replica is lost, and nothing is asked twice."""
    assert life.seen["ended"][0] == 0, life.seen["ended"]
    kinds = [json.loads(line)["event"] for line in life.seen["events of the last"].splitlines()]
    assert {"died", "failed", "refused"}.isdisjoint(kinds)


def test_every_sample_stands_once(copy):
    """After a kill, a stop and an outage: each planned sample, no key twice, no error."""
    assert identities(copy) == planned(copy)
    rows = samples(copy)
    assert len({row["sample_key"] for row in rows}) == len(rows) == 2 * ITEMS * SEEDS
    assert [row["error"] for row in rows if row["error"]] == []


def test_what_stood_is_not_written_again(life, objects):
    """Blocks from before the kill are there under their names."""
    assert set(life.seen["killed"]) < set(life.blocks())


def test_logs_of_replicas_arrive(life, lldeg):
    """What engines print and what happened can be read from anywhere."""
    assert "loaded in" in lldeg("logs", URL, "--replica", 1).out
    happened = lldeg("logs", URL).out
    lives = [
        [f"replica 1 ({variant}) {event}" in happened for event in ("started", "loaded", "closed")]
        for variant in ("base", "other")  # the first replica is for whichever has more left to do
    ]
    assert any(map(all, lives))


def test_the_status_of_a_complete_run(life, lldeg):
    """Complete, with nobody at work; exit 0."""
    result = lldeg("status", URL, "--format", "json")
    facts = json.loads(result.out)
    assert (result.status, facts["state"], facts["owed"], facts["trouble"]) == (0, "complete", 0, None)


def test_nobody_is_left_to_stop(life, lldeg):
    """The lease went with the last submit."""
    assert "Nobody is at work" in lldeg("stop", URL).out


def test_it_is_analyzed_where_it_lies(life, objects, lldeg):
    """Verdicts and report are written beside the samples; two equal variants differ in nothing."""
    assert lldeg("analyze", URL).status == 0
    written = {path.rpartition("/")[2] for path in objects.files(f"{RUN}/analysis")}
    assert {"verdicts.json", "summary.csv", "report.html"} <= written
    verdicts = json.loads(objects.read(f"{RUN}/analysis/verdicts.json"))
    assert [(c["items"], c["missing"], c["worse"]) for c in verdicts["comparisons"]] == [(ITEMS, 0, 0)]


def test_flips_and_view_read_it_where_it_lies(life, lldeg):
    """No copy is needed for either."""
    assert lldeg("flips", URL).status == 0
    (shelf,) = Library([URL]).shelves().values()
    assert shelf.counts()["other"].done == ITEMS * SEEDS
    assert shelf.open().content.tasks == ["asked"]


def test_keys_of_the_store_stand_nowhere(copy):
    """Neither in manifest, logs nor samples."""
    assert [path for path in copy.rglob("*") if path.is_file() and b"planted-" in path.read_bytes()] == []


def test_no_process_outlives_the_command(life, command):
    """Whatever was killed, stopped or kept waiting."""
    assert command.left_after(15) == []
