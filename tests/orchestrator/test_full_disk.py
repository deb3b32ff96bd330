"""A disk that is full in the middle of a sweep, until somebody makes room: a real one, of four megabytes."""

import os
import subprocess
from contextlib import suppress

import pytest
from standin.command import finish, wait_for
from standin.engine import KIND
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import block_files, identities, planned, samples

from orchestrator.rundir.progress import EVENTS
from orchestrator.rundir.store import RunStore

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A small disk of its own."""
    folder = tmp_path_factory.mktemp("disk")
    order = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    mount = subprocess.run(order, capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"no disk can be mounted here: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path):
    """Take all the room there is."""
    with suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(os.urandom(4096))


@pytest.fixture(scope="module")
def ended(disk, command, tmp_path_factory):
    """How the submit ended, and what it told while the disk was full."""
    folder = tmp_path_factory.mktemp("full")
    write_task(folder / "pack", "asked", questions(256), **GENERATE)
    hold = folder / "hold"
    hold.touch()
    sweep = write_sweep(
        folder,
        engine={"kind": KIND, "hold": str(hold), "free": 1},
        variants={"base": {}},
        tasks=["asked"],
    )
    process = command.start("submit", sweep, "--run-dir", disk / "run", cwd=folder)
    wait_for(lambda: block_files(disk / "run"), process)
    fill(disk / "filler")
    hold.unlink()
    told = next((line for line in process.stdout if "torage error" in line), "")
    full = block_files(disk / "run")
    (disk / "filler").unlink()
    return told, full, finish(process)


def test_the_user_sees_that_the_disk_is_full(ended):
    """The submit says so as long as it lasts, in the system's own words."""
    told, full, _ = ended
    assert "Storage error, retrying: OSError" in told
    assert "No space left on device" in told
    assert len(full) == 1


def test_when_there_is_room_again_nothing_is_lost(ended, disk):
    """The sweep completes: every sample once, without an error."""
    status, _, err = ended[2]
    assert status == 0, err
    assert identities(disk / "run") == planned(disk / "run")
    assert [row["error"] for row in samples(disk / "run") if row["error"]] == []


def test_nothing_is_answered_twice_for_want_of_room(ended, disk):
    """Replicas keep their answers, and neither they nor their blocks count as failed."""
    events = RunStore(disk / "run").read_log(EVENTS).decode()
    assert '"died"' not in events
    assert '"failed"' not in events


def test_no_half_of_a_file_is_left(ended, disk):
    """What could not be written whole is gone."""
    assert [path.name for path in (disk / "run").rglob(".*")] == [".lock"]


def test_no_process_outlives_the_command(ended, command):
    """Nothing waits for a disk for ever."""
    assert command.left_after(15) == []
