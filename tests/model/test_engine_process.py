"""vLLM in processes of its own, as on GPUs: what is left of a killed replica, and why a load failed."""

import time
from contextlib import suppress

import psutil
import pytest
from standin.command import ROOT, wait_for
from standin.files import write_sweep
from standin.rows import events, samples

pytestmark = pytest.mark.model

SECONDS_TO_DIE = 5
OWN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": 1}
BY_ITSELF = {"LLDEG_NOT_PRELOADED": "from multiprocessing.spawn"}
"""A forked process would leave the group of the one that it stands for."""
ENGINE = {
    "dtype": "float32",
    "max_model_len": 256,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 1 << 26,
}


def sums(folder, model, engine, env, items=60, variants=("base",), seeds=20):
    """A sweep of sums from the quickstart's pack."""
    return write_sweep(
        folder,
        model=str(model),
        include_path=str(ROOT / "configs" / "tasks" / "quickstart"),
        tasks=[{"task": "lldeg_sums", "limit": items}],
        engine={**ENGINE, **engine},
        variants={name: {"env": env} for name in variants},
        sampling={"temperatures": [0.7], "seeds": seeds},
    )


def living(processes):
    """Those that have not ended."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
    return found


def test_nothing_is_left_of_a_killed_replica(tmp_path, llama, command, monkeypatch):
    """Neither vLLM's engine process nor its workers, also where Ray does not see to that."""
    monkeypatch.setenv("RAY_process_group_cleanup_enabled", "0")
    workers = {"distributed_executor_backend": "mp"}
    sweep, run = sums(tmp_path, llama, workers, OWN_PROCESS | BY_ITSELF), tmp_path / "run"
    process = command.start("submit", sweep, "--run-dir", run, cwd=tmp_path)
    wait_for(lambda: events(run, "loaded"), process, seconds=500)
    (replica,) = [one for one in command.alive() if one.name().startswith("ray::Replica")]
    children = replica.children(recursive=True)
    started = {child.name().split("_")[0] for child in children}
    replica.kill()
    until = time.monotonic() + SECONDS_TO_DIE
    while (left := living(children)) and time.monotonic() < until:
        time.sleep(0.1)
    command.end_all()
    process.communicate()
    assert len(children) >= 3, started
    assert left == []


def test_a_refusal_is_shown_in_the_engines_own_words_and_once(tmp_path, llama, command):
    """The parent of the engine process learns only that it failed."""
    path = sums(tmp_path, llama, {"kv_cache_memory_bytes": 1 << 12}, OWN_PROCESS)
    status, _, err = command.run("submit", path, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert status == 2
    assert "ValueError: " in " ".join(err.split())
    assert "cache" in err
    assert len(events(tmp_path / "run", "started")) == 1


def test_a_process_that_has_ended_its_engine_starts_the_next(tmp_path, llama, command):
    """As if it were a new one: asked the same with the same seed, both say the same."""
    alone = {"max_num_seqs": 1, "enable_prefix_caching": False}
    path = sums(tmp_path, llama, alone, OWN_PROCESS, items=12, variants=("base", "other"), seeds=1)
    status, _, err = command.run("submit", path, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert status == 0, err
    assert [one.get("process_of") for one in events(tmp_path / "run", "started")] == [None, 1]
    texts = {one: {} for one in ("base", "other")}
    for row in samples(tmp_path / "run"):
        texts[row["variant"]][row["item"]] = row["response"]
    assert texts["base"] == texts["other"]
    assert len(texts["base"]) == 12
