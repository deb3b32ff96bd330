"""A cluster that grows when it is asked to; Ray's own autoscaler starts the nodes, on this machine."""

import shutil
import tempfile
from pathlib import Path

import pytest
from standin.cluster import Cluster
from standin.command import Command, finish, wait_for
from standin.engine import KIND, read_words
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import identities, planned

PLACES = 3
NODE = {"resources": {"CPU": 1, "place": 1}, "node_config": {}, "min_workers": 1, "max_workers": PLACES}


@pytest.fixture(scope="module")
def growing():
    """A head, one node, and room for two more."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    cluster = Cluster(folder, grows={"place": NODE})
    yield cluster
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_number_of_replicas_makes_the_cluster_grow(growing, tmp_path):
    """A sweep that wants three places, where there is one, gets three nodes."""
    write_task(tmp_path / "pack", "asked", questions(200), **GENERATE)
    path = write_sweep(
        tmp_path,
        engine={"kind": KIND, "pids": str(tmp_path / "pids"), "hold": str(tmp_path / "hold")},
        variants={"base": {}},
        tasks=["asked"],
        sampling={"temperatures": [0.7], "seeds": 2},
        cluster={"replicas": PLACES, "cpus_per_replica": 1, "resources": {"place": 1}},
    )
    growing.wait_for_nodes(2)
    (tmp_path / "hold").touch()
    command = Command(growing.folder, growing.environment)
    process = command.start(
        "submit", path, "--address", growing.gcs, "--run-dir", tmp_path / "run", cwd=tmp_path
    )
    wait_for(lambda: len(read_words(tmp_path / "pids")) == PLACES, process)
    (tmp_path / "hold").unlink()
    status, out, err = finish(process)
    assert status == 0, out + err
    assert len({word["node"] for word in read_words(tmp_path / "pids").values()}) == PLACES
    assert identities(tmp_path / "run") == planned(tmp_path / "run")
