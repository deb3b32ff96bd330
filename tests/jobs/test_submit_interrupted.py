"""On real Ray: Ctrl-C, going on, two submits at once, and an extension, one after the other on one run."""

import json
import os
import signal
from dataclasses import dataclass

import pyarrow.parquet as pq
import pytest
from standin.command import HEARING, finish, wait_for
from standin.engine import KIND
from standin.files import CHOOSE, GENERATE, choices, questions, write_sweep, write_task
from standin.rows import block_files, contents, identities, planned, samples

from orchestrator.rundir.schema import SOFTWARE_KEY

pytestmark = pytest.mark.ray

FIRST_BLOCK = 3  # calls: one a rerun


@dataclass(frozen=True)
class History:
    """What the commands ended with, and what stood in the run after each.

    Attributes:
        second: of a submit while the first was at work.
        stopped: of the first, which got Ctrl-C.
        hung_up: of the same command again, whose terminal closed.
        resumed: of the same command again.
        extended: of the same with more seeds.
        after: files of samples after stopped, resumed and extended.
    """

    second: tuple
    stopped: tuple
    hung_up: tuple
    resumed: tuple
    extended: tuple
    after: dict
    first_identities: dict
    left: list


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tasks of a sweep: 64 questions, 10 choices."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_task(folder / "pack", "asked", questions(64), **GENERATE)
    write_task(folder / "pack", "chosen", choices(10), **CHOOSE)
    return folder


def write(folder, seeds):
    """The sweep with a number of seeds; its engines pause after a block on demand."""
    return write_sweep(
        folder,
        engine={"kind": KIND, "hold": str(folder / "hold")},
        variants={name: {"engine": {"free": FIRST_BLOCK + i}} for i, name in enumerate(["base", "other"])},
        sampling={"temperatures": [0.0, 0.7], "seeds": seeds},
        cluster={"cpus_per_replica": 1},
    )


@pytest.fixture(scope="module")
def run(folder):
    """Where the answers are; the default place, below the current folder."""
    return folder / "runs" / "small"


@pytest.fixture(scope="module")
def history(folder, run, command):
    """Ctrl-C in mid-sweep, another submit before it; SIGHUP; then the same to its end; then one seed more."""
    path, after = write(folder, 2), {}
    (folder / "hold").touch()
    process = command.start("submit", path, cwd=folder, program=HEARING)
    wait_for(lambda: block_files(run), process)
    second = command.run("submit", path, cwd=folder)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    stopped = finish(process)
    left = command.left_after(15)
    after["stopped"] = contents(block_files(run))
    process = command.start("submit", path, cwd=folder, program=HEARING)
    wait_for(lambda: contents(block_files(run)) != after["stopped"], process)
    os.killpg(process.pid, signal.SIGHUP)
    hung_up = finish(process)
    left += command.left_after(15)
    (folder / "hold").unlink()
    resumed = command.run("submit", path, cwd=folder)
    after["resumed"], first = contents(block_files(run)), identities(run)
    extended = command.run("submit", write(folder, 3), cwd=folder)
    after["extended"] = contents(block_files(run))
    return History(second, stopped, hung_up, resumed, extended, after, first, left)


def test_a_second_submit_is_refused(history):
    """While one is at work, another ends at once with a sentence and status 2."""
    status, _, err = history.second
    assert status == 2
    assert err == (
        "Error: Another lldeg submit is running in runs/small; "
        "wait for it, or stop it with: lldeg stop runs/small\n"
    )


def test_ctrl_c_ends_with_status_3_and_says_how_to_resume(history):
    """An interrupted run is incomplete, not an error, and no traceback is shown."""
    status, out, err = history.stopped
    assert status == 3
    assert "the same command resumes the run" in " ".join(out.split())
    assert "Traceback" not in out + err


def test_a_terminal_that_closes_ends_a_sweep_as_ctrl_c_does(history):
    """SIGHUP reaches Ray's processes, too, and the driver still ends in order."""
    status, out, err = history.hung_up
    assert status == 3
    assert "Stopped: interrupted by SIGHUP." in " ".join(out.split())
    assert "Traceback" not in out + err


def test_an_interruption_leaves_no_process(history):
    """Ray and the replicas are gone with the command, after Ctrl-C and after SIGHUP."""
    assert history.left == []


def test_ctrl_c_came_in_mid_sweep(history):
    """Some blocks stood and some were owed, else the tests below would show nothing."""
    assert 0 < len(history.after["stopped"]) < len(history.after["resumed"])


def test_the_same_command_goes_on(history, run):
    """After it every planned sample stands exactly once."""
    assert history.resumed[0] == 0
    assert sum(history.first_identities.values()) == 2 * (64 * 3 + 10)
    assert set(history.first_identities.values()) == {1}


def test_going_on_leaves_finished_blocks_untouched(history):
    """Bytes and times of what stood before are the same: nothing was computed twice."""
    assert history.after["stopped"].items() <= history.after["resumed"].items()


def test_more_seeds_compute_only_the_new_samples(history, run):
    """The extension adds one seed of the sampled task for each variant and touches nothing else."""
    assert history.extended[0] == 0
    assert history.after["resumed"].items() <= history.after["extended"].items()
    new = identities(run) - history.first_identities
    assert {(task, seed) for _, task, _, _, seed in new} == {("asked", 2)}
    assert sum(new.values()) == 2 * 64


def test_after_the_extension_everything_planned_stands_once(history, run):
    """The manifest's own description and the rows agree."""
    assert identities(run) == planned(run)


def test_every_sample_has_a_key_of_its_own(history, run):
    """No key stands twice over three submits."""
    keys = [row["sample_key"] for row in samples(run)]
    assert len(set(keys)) == len(keys)


def test_every_file_of_samples_names_its_software(history, run):
    """By an ID that the manifest explains: versions of packages, the commit, the host and its CPU."""
    known = json.loads((run / "manifest.json").read_text())["software"]
    assert all(one["hardware"]["host"] and one["hardware"]["device"] for one in known.values())
    named = {pq.read_schema(path).metadata[SOFTWARE_KEY].decode() for path in block_files(run)}
    assert named == set(known)


def test_seeds_and_temperatures_reach_the_engine(history, run):
    """The stand-in says what it was asked with: each row's own temperature and seed."""
    for row in samples(run):
        if row["task"] == "asked":
            temperature = f"{row['temperature']:.1f}"
            assert row["response"].startswith(f"{row['item']} at {temperature} with {row['seed'] or 0}:")
