"""An engine over two nodes, real vLLM on both: the nodes have one GPU each by name.

The node that does not lead is killed in the middle, and a third one joins and takes its place.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from standin.cluster import Cluster
from standin.command import ROOT, Command, finish, wait_for
from standin.files import write_sweep
from standin.rows import block_files, events, identities, planned, samples

pytestmark = pytest.mark.model

NODES = ("first", "second")
ENGINE = {
    "dtype": "float32",
    "tensor_parallel_size": 2,
    "max_model_len": 256,
    "max_num_seqs": 4,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 26,
}


def add(cluster, name):
    """Add a node with a GPU, and a resource by which it is known."""
    cluster.add(name, "--num-cpus=1", "--num-gpus=1", f'--resources={{"{name}": 1}}')


@pytest.fixture(scope="module")
def cluster():
    """A head without GPUs, and two nodes with one each."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    cluster = Cluster(folder)
    for name in NODES:
        add(cluster, name)
    yield cluster
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def run(cluster, llama, tmp_path_factory):
    """The run, whose replica has lost a node and was started again on the others."""
    folder = tmp_path_factory.mktemp("several")
    path = write_sweep(
        folder,
        model=str(llama),
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": "lldeg_sums", "limit": 40}],
        engine=ENGINE,
        variants={"base": {}},
        sampling={"temperatures": [0.7], "seeds": 2},
        cluster={"cpus_per_replica": 1},
    )
    run = folder / "run"
    beside = Command(cluster.folder, cluster.environment)
    process = beside.start("submit", path, "--address", cluster.gcs, "--run-dir", run, cwd=folder)
    wait_for(lambda: block_files(run), process, seconds=500)
    (loaded,) = events(run, "loaded")
    _, follower = loaded["nodes"]
    (lost,) = (name for name in NODES if cluster.named(name) == follower)
    cluster.kill(lost)
    wait_for(lambda: events(run, "died"), process)
    add(cluster, "third")
    status, out, err = finish(process)
    assert status == 0, out + err
    return run


def test_the_replica_had_two_nodes(run):
    """Each time it was loaded, the second time on another pair."""
    pairs = [set(event["nodes"]) for event in events(run, "loaded")]
    assert [len(pair) for pair in pairs] == [2, 2]
    assert pairs[0] != pairs[1]


def test_the_lost_node_cost_only_the_blocks_in_flight(run):
    """The replica died once, and everything planned is there once, none of it as an error."""
    (died,) = events(run, "died")
    assert died["blocks"] > 0
    assert died["node_lost"]
    assert identities(run) == planned(run)
    assert all(row["error"] is None for row in samples(run))


def test_both_nodes_have_a_log(run):
    """The other node's worker prints to a log of its own, which `lldeg logs --replica 1` shows, too."""
    names = sorted(path.name for path in (run / "logs").glob("replica-001-*"))
    assert names == ["replica-001-base-node-1.log", "replica-001-base.log"]
    assert "rank 1" in (run / "logs" / names[0]).read_text()
