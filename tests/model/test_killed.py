"""On real engines: kill -9 of everything in mid-sweep, and of one replica of two.

Where everything is killed, both variants are the same engine, one request at a time and without a prefix
cache, so that what is in a batch cannot change an answer: the same seed must give the same text in each.
"""

from dataclasses import dataclass

import pytest
from standin.command import ROOT, finish, wait_for
from standin.files import write_sweep
from standin.machine import DTYPE
from standin.rows import block_files, contents, events, identities, planned, samples

pytestmark = pytest.mark.model

ITEMS, SEEDS = 6, 2
ENGINE = {
    "dtype": DTYPE,
    "max_model_len": 256,
    "max_num_seqs": 1,
    "enable_prefix_caching": False,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 28,
}


@dataclass(frozen=True)
class History:
    """What was there when everything was killed and at the end, and how the second submit ended."""

    killed: dict
    resumed: dict
    status: int
    err: str
    rows: list


def sums(folder, model_folder, *, items, **keys):
    """A sweep of sums from the quickstart's pack."""
    return write_sweep(
        folder,
        model=str(model_folder),
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": "lldeg_sums", "limit": items}],
        sampling={"temperatures": [0.7], "seeds": SEEDS},
        **keys,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Where the answers are."""
    return tmp_path_factory.mktemp("killed") / "run"


@pytest.fixture(scope="module")
def history(run, model_folder, command):
    """Submit, kill -9 everything after the first block, submit again."""
    folder = run.parent
    path = sums(folder, model_folder, items=ITEMS, engine=ENGINE, variants={"base": {}, "other": {}})
    process = command.start("submit", path, "--run-dir", run, cwd=folder)
    wait_for(lambda: block_files(run), process)
    command.end_all()
    finish(process)
    killed = contents(block_files(run))
    status, _, err = command.run("submit", path, "--run-dir", run, cwd=folder)
    return History(killed, contents(block_files(run)), status, err, samples(run))


def test_it_was_killed_in_mid_sweep(history):
    """Some blocks stood and some were owed."""
    assert 0 < len(history.killed) < len(history.resumed)


def test_the_second_submit_completes_the_run(history, run):
    """Every planned sample stands exactly once, without an error."""
    assert history.status == 0, history.err
    assert identities(run) == planned(run)
    assert len(history.rows) == 2 * ITEMS * SEEDS
    assert all(row["error"] is None for row in history.rows)


def test_no_key_stands_twice(history):
    """Keys are as many as samples."""
    assert len({row["sample_key"] for row in history.rows}) == len(history.rows)


def test_blocks_finished_before_the_kill_are_untouched(history):
    """Bytes and times of change are those of before."""
    assert history.killed.items() <= history.resumed.items()


def test_the_second_submit_removes_what_the_first_left(history, command):
    """Ray's session of the killed driver is gone, and so is its own."""
    assert list(command.ray_folder.iterdir()) == []


def test_the_same_seed_gives_the_same_text(history):
    """Two engines, asked the same with the same seed, say the same."""
    texts = {
        variant: {(r["item"], r["seed"]): r["response"] for r in history.rows if r["variant"] == variant}
        for variant in ("base", "other")
    }
    assert texts["base"] == texts["other"]
    assert len(set(texts["base"].values())) > SEEDS


@pytest.fixture(scope="module")
def halved(tmp_path_factory, llama, command):
    """A run of two replicas, one of which gets SIGKILL when both are loaded; with how the submit ended."""
    folder = tmp_path_factory.mktemp("halved")
    cluster = {"replicas": 2, "cpus_per_replica": 1}
    engine = {**ENGINE, "max_num_seqs": 4}
    path = sums(folder, llama, items=200, engine=engine, variants={"base": {}}, cluster=cluster)
    run = folder / "run"
    process = command.start("submit", path, "--run-dir", run, cwd=folder)
    wait_for(lambda: len(events(run, "loaded")) == 2, process)
    replicas = [one for one in command.alive() if one.name().startswith("ray::Replica")]
    replicas[0].kill()
    return run, len(replicas), finish(process)


def test_one_replica_of_two_may_be_killed(halved):
    """Its blocks are answered by another one: every sample stands once, none as an error."""
    run, replicas, (status, _, err) = halved
    assert (replicas, status) == (2, 0), err
    assert len(events(run, "died")) == 1
    assert identities(run) == planned(run)
    assert [row["error"] for row in samples(run) if row["error"]] == []


def test_no_process_outlives_the_command(history, halved, command):
    """After kills and a resume nothing is left."""
    assert command.left_after(15) == []
