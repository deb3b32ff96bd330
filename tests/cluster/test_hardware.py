"""Replicas on two nodes with other versions and GPUs: each file names what wrote it, and analyze tells."""

import json

import pyarrow.parquet as pq
import pytest
from standin.engine import KIND
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import block_files, identities, planned

from orchestrator.rundir.schema import SOFTWARE_KEY, SPEED_KEY

pytestmark = pytest.mark.ray

NODES = {
    "ampere": ("NVIDIA A100-SXM4-80GB", "535.1", "0.27"),
    "hopper": ("NVIDIA H100 80GB HBM3", "550.2", "0.28"),
}


def stand_in(folder, gpu, driver, vllm):
    """Variables of a node whose tool names a GPU, and where a version of vLLM is installed."""
    (folder / f"vllm-{vllm}.dist-info").mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {vllm}\n"
    (folder / f"vllm-{vllm}.dist-info" / "METADATA").write_text(metadata)
    tool = folder / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\necho "{gpu}, {driver}, 2048"\n')
    tool.chmod(0o755)
    return {"PATH": str(folder), "PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def run(cluster, command, tmp_path_factory):
    """A baseline on one node and a variant on the other."""
    folder = tmp_path_factory.mktemp("hardware")
    for name, seen in NODES.items():
        place = ("--num-cpus=1", "--num-gpus=1", f'--resources={{"{name}": 1}}')
        cluster.add(name, *place, before=stand_in(folder / name, *seen))
    write_task(folder / "pack", "asked", questions(40), **GENERATE)
    path = write_sweep(
        folder,
        engine={"kind": KIND},
        variants={
            name: {"cluster": {"resources": {node: 1}}}
            for name, node in (("base", "ampere"), ("other", "hopper"))
        },
        tasks=["asked"],
        cluster={"cpus_per_replica": 0.5, "gpus_per_replica": 1},
    )
    status, out, err = command.run(
        "submit", path, "--address", cluster.gcs, "--run-dir", folder / "run", cwd=folder
    )
    cluster.remove(*NODES)
    assert status == 0, out + err
    return folder / "run"


def test_every_file_names_what_wrote_it(run):
    """Version, GPU and driver of its own node; and of the submit nothing, which computed nothing."""
    known = json.loads((run / "manifest.json").read_text())["software"]
    for variant, node in (("base", "ampere"), ("other", "hopper")):
        files = [path for path in block_files(run) if f"variant={variant}" in str(path)]
        (name,) = {pq.read_schema(path).metadata[SOFTWARE_KEY].decode() for path in files}
        hardware = known[name]["hardware"]
        seen = (hardware["device"], hardware["driver"], known[name]["versions"]["vllm"])
        assert seen == NODES[node]
        speed = json.loads(pq.read_schema(files[0]).metadata[SPEED_KEY])
        assert (speed["gpus"], speed["cpus"], speed["peak_gib"]) == (1.0, 0.5, 2.0)
    assert len(known) == 2
    assert identities(run) == planned(run)


def test_the_difference_is_said_and_refused_by_strict(run, command):
    """Both of software and of hardware."""
    status, out, err = command.run("analyze", run, "--format", "json", cwd=run)
    assert status == 0, err
    assert {"mixed-software", "mixed-hardware"} <= set(json.loads(out)["warning_codes"])
    (comparison,) = json.loads(out)["comparisons"]
    assert "it ran on 1 × NVIDIA H100 80GB HBM3, base on 1 × NVIDIA A100" in comparison["speed_note"]
    assert not {"samples_per_second", "cost"} & {one["measurement"] for one in comparison["changes"]}
    status, _, err = command.run("analyze", run, "--strict", cwd=run)
    assert status == 2
    assert "--strict refuses to compare them" in err
