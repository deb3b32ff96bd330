"""On the real model: three nodes, real vLLM on the CPUs of two of them, against one machine alone."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from standin.cluster import Cluster
from standin.command import ROOT, Command
from standin.files import write_sweep
from standin.machine import DTYPE
from standin.rows import identities, planned, samples

pytestmark = pytest.mark.model

ITEMS = 6
NODE = ("--num-cpus=1", '--resources={"place": 1}')
ENGINE = {
    "dtype": DTYPE,
    "max_model_len": 256,
    "max_num_seqs": 4,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 28,
}


@pytest.fixture(scope="module")
def cluster():
    """A head that has no place for a replica, and two nodes with one each."""
    folder = Path(tempfile.mkdtemp(prefix="lldeg-"))
    cluster = Cluster(folder)
    for name in ("first", "second"):
        cluster.add(name, *NODE)
    yield cluster
    cluster.end()
    shutil.rmtree(folder, ignore_errors=True)


def write(folder, model, cluster):
    """The sweep: two variants of few items."""
    return write_sweep(
        folder,
        model=str(model),
        engine=ENGINE,
        variants={"base": {}, "other": {"engine": {"max_num_seqs": 2}}},
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": "lldeg_sums", "limit": ITEMS}],
        sampling={"temperatures": [0.7], "seeds": 1},
        cluster=cluster,
    )


@pytest.fixture(scope="module")
def runs(cluster, command, model_folder, tmp_path_factory):
    """The run on the nodes, and the run on this machine."""
    folder = tmp_path_factory.mktemp("nodes")
    beside = Command(cluster.folder, cluster.environment)
    place = {"cpus_per_replica": 1, "resources": {"place": 1}}
    on_nodes, alone = folder / "nodes", folder / "alone"
    status, out, err = beside.run(
        "submit",
        write(folder, model_folder, place),
        "--address",
        cluster.gcs,
        "--run-dir",
        on_nodes,
        cwd=folder,
    )
    assert status == 0, out + err
    status, out, err = command.run("submit", write(folder, model_folder, {}), "--run-dir", alone, cwd=folder)
    assert status == 0, out + err
    return on_nodes, alone


def test_the_sweep_finishes_on_the_nodes(runs):
    """Everything planned stands once, without an error."""
    on_nodes, _ = runs
    assert identities(on_nodes) == planned(on_nodes)
    assert all(row["error"] is None for row in samples(on_nodes))


def test_both_nodes_had_a_model(runs):
    """The two variants were loaded on one node each."""
    on_nodes, _ = runs
    lines = (on_nodes / "logs" / "events.jsonl").read_text().splitlines()
    loaded = [event["node"] for event in map(json.loads, lines) if event["event"] == "loaded"]
    assert len(set(loaded)) == 2


def test_the_keys_are_those_of_one_machine(runs):
    """Where a sample was answered is no part of its identity."""
    first, second = ({row["sample_key"] for row in samples(run)} for run in runs)
    assert first == second
    assert len(first) == 2 * ITEMS
