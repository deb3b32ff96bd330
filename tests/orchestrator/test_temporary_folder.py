"""Temporary folders: private, removed at the end, and by the next process if theirs was killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.cluster import ray_cluster
from orchestrator.cluster.processes import temporary_folder

HOLD = """
from orchestrator.cluster.processes import temporary_folder
with temporary_folder() as folder:
    (folder / "ray").mkdir()
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def around(tmp_path, monkeypatch):
    """Where the folders are made."""
    (folder := tmp_path / "around").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def holder(around):
    """Another process with a folder, and the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | {"TMPDIR": str(around)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_nobody_else_can_read_it(around):
    """Whatever Ray makes of the permissions of its own folder within."""
    with temporary_folder() as folder:
        assert folder.parent == around
        assert folder.stat().st_mode & 0o777 == 0o700


def test_it_is_removed_at_the_end(around):
    """With all that is in it."""
    with temporary_folder() as folder:
        (folder / "file").touch()
    assert list(around.iterdir()) == []


def test_what_a_killed_process_left_is_removed(around, holder):
    """By the next one, as soon as the process is gone."""
    process, left = holder
    process.kill()
    process.wait()
    assert (left / "ray").is_dir()
    with temporary_folder() as folder:
        assert list(around.iterdir()) == [folder]


def test_what_is_in_use_stays(around, holder):
    """Two submits may run at once on one machine."""
    with temporary_folder() as folder:
        assert set(around.iterdir()) == {folder, holder[1]}
    assert list(around.iterdir()) == [holder[1]]


@pytest.mark.parametrize("name", ["lldeg-tests", "lldeg", "ray", "xlldeg.1"])
def test_what_others_made_stays(around, name):
    """Ray's own sessions and folders that only look alike."""
    (around / name / "session").mkdir(parents=True)
    with temporary_folder():
        pass
    assert (around / name / "session").is_dir()


def test_a_link_is_not_followed(around, tmp_path):
    """Somebody else may have put it there."""
    (other := tmp_path / "other").mkdir()
    (around / "lldeg.link").symlink_to(other)
    with temporary_folder():
        pass
    assert list(other.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "used"), [("/fast", "/fast"), ("/tmp/" + "x" * 80, "/tmp"), ("", "/short")]
)
def test_rays_session_goes_where_ray_would_put_it(monkeypatch, asked, used):
    """Unless its sockets could not be made there."""
    monkeypatch.setenv("RAY_TMPDIR", asked)
    monkeypatch.setattr(tempfile, "tempdir", "/short")
    assert ray_cluster.folder_for_ray() == used
