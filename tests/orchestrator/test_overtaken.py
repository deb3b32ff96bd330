"""Replicas whose submit has lost its run to another one."""

import pytest
from standin.command import finish, wait_for
from standin.engine import write_held_sweep
from standin.files import GENERATE, questions, write_task
from standin.rows import block_files

from orchestrator.rundir.lease import owner
from orchestrator.rundir.store import RunStore

pytestmark = pytest.mark.ray


def test_replicas_of_a_submit_that_lost_its_run_write_nothing_more(tmp_path, command):
    """They might write what the run's new owner writes too; the block that stood before is left alone."""
    write_task(tmp_path / "pack", "asked", questions(40), **GENERATE)
    hold, run = tmp_path / "hold", tmp_path / "run"
    path = write_held_sweep(tmp_path)
    hold.touch()
    process = command.start("submit", path, "--run-dir", run, cwd=tmp_path)
    wait_for(lambda: block_files(run), process)
    before, first = block_files(run), owner(RunStore(run))
    RunStore(run).lock_path.write_text("another submit")
    hold.unlink()
    status, out, err = finish(process)
    assert (first, status) != ("", 0)
    assert f"another lldeg submit has taken over {run}" in " ".join((out + err).split())
    assert block_files(run) == before
