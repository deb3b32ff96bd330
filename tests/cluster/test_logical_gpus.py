"""Places with GPUs, which Ray counts and hands out without there being any."""

from itertools import combinations

import pytest
from standin.command import finish, wait_for
from standin.engine import KIND, read_words
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import identities, planned

pytestmark = pytest.mark.ray

ITEMS = 200
GPU_NODE = ("--num-cpus=8", "--num-gpus=8", '--resources={"fast_disk": 1}', "--labels=card=fake")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a task of many blocks."""
    folder = tmp_path_factory.mktemp("gpus")
    write_task(folder / "pack", "asked", questions(ITEMS), **GENERATE)
    return folder


@pytest.fixture(scope="module")
def gpu_node(cluster):
    """A node with 8 GPUs by name, a label and a resource of its own."""
    cluster.add("gpus", *GPU_NODE)
    yield
    cluster.remove("gpus")


def write(folder, variants):
    """A sweep of variants, each with what its engine and its places need; all hold still on `hold`."""
    return write_sweep(
        folder,
        engine={"kind": KIND, "hold": str(folder / "hold")},
        baseline=next(iter(variants)),
        variants={
            name: {"engine": {"pids": str(folder / name), **engine}, "cluster": cluster}
            for name, (engine, cluster) in variants.items()
        },
        tasks=["asked"],
        cluster={"cpus_per_replica": 0.5},
    )


@pytest.fixture(scope="module")
def seats(cluster, gpu_node, command, folder):
    """Per variant, what the replicas saw that ran at the same time; and how the sweep ended."""
    variants = {
        "one": ({"env": {"LLDEG_MARK": 1}}, {}),
        "four": ({"tensor_parallel_size": 4}, {}),
        "half": ({}, {"gpus_per_replica": 0.5}),
        "labelled": ({}, {"gpus_per_replica": 0, "labels": {"card": "fake"}}),
        "placed": ({}, {"gpus_per_replica": 0, "resources": {"fast_disk": 1}}),
    }
    (folder / "hold").touch()
    process = command.start(
        "submit",
        write(folder, variants),
        "--address",
        cluster.gcs,
        "--run-dir",
        folder / "run",
        "--set",
        "cluster.replicas=8",
        cwd=folder,
    )

    def words():
        return {name: list(read_words(folder / name).values()) for name in variants}

    wait_for(lambda: sum(len(seen) for seen in words().values()) == 8, process)
    seen = words()
    (folder / "hold").unlink()
    return seen, finish(process)


def devices(word):
    """The GPUs a replica may use."""
    return set(filter(None, word["devices"].split(",")))


def test_the_sweep_with_all_kinds_of_places_finishes(seats, folder):
    """Every variant got its places, one after the other or at once."""
    _, (status, out, err) = seats
    assert status == 0, out + err
    assert identities(folder / "run") == planned(folder / "run")


def test_replicas_have_gpus_of_their_own(seats):
    """No two replicas with whole GPUs share one, and none of those that share has a whole one."""
    seen, _ = seats
    whole = [devices(word) for name in ("one", "four") for word in seen[name]]
    shared = [devices(word) for word in seen["half"]]
    assert all(first.isdisjoint(second) for first, second in combinations(whole, 2))
    assert all(first.isdisjoint(second) for first in whole for second in shared)


def test_tensor_parallel_replicas_get_as_many_gpus(seats):
    """The engine's parallel size is the number of GPUs, others get one."""
    seen, _ = seats
    assert [len(devices(word)) for word in seen["four"]] == [4]
    assert {len(devices(word)) for word in seen["one"]} == {1}


def test_replicas_have_the_environment_of_their_variant(seats):
    """What `env` sets is there, as text, and in no other variant."""
    seen, _ = seats
    assert {word["mark"] for word in seen["one"]} == {"1"}
    assert {word["mark"] for name in ("four", "half", "placed") for word in seen[name]} == {None}


def test_replicas_that_take_half_a_gpu_share_one(seats):
    """Two of them sit on the same."""
    seen, _ = seats
    first, second, *_ = [devices(word) for word in seen["half"]]
    assert first == second
    assert len(first) == 1


def test_labels_and_resources_decide_the_node(seats):
    """Replicas that need no GPU still go where the label or the resource is, and see no GPU."""
    seen, _ = seats
    (gpu_node,) = {word["node"] for word in seen["four"]}
    for name in ("labelled", "placed"):
        assert {word["node"] for word in seen[name]} == {gpu_node}
        assert not any(devices(word) for word in seen[name])


def test_what_fits_nowhere_is_refused_before_anything_starts(cluster, gpu_node, command, folder):
    """One sentence names every variant that does not fit, and why; no replica was started."""
    variants = {
        "fits": ({}, {}),
        "sixteen": ({"tensor_parallel_size": 16}, {}),
        "elsewhere": ({}, {"labels": {"card": "real"}}),
        "unknown": ({}, {"resources": {"tape": 1}}),
    }
    run = folder / "refused"
    status, _, err = command.run(
        "submit", write(folder, variants), "--address", cluster.gcs, "--run-dir", run, cwd=folder
    )
    assert status == 2
    assert err.startswith("Error: The Ray cluster cannot fit these replicas: ")
    assert (
        "sixteen: a replica needs 0.5 CPU, 16 GPU on one node; the largest node has 8 CPU, 8 GPU, 1 fast_disk"
        in err
    )
    assert "elsewhere: a replica needs 0.5 CPU, 1 GPU, the label card=real on one node" in err
    assert "unknown: a replica needs 0.5 CPU, 1 GPU, 1 tape on one node" in err
    assert "fits:" not in err
    assert not list((run / "logs").glob("replica-*"))
