"""A sweep as a Ray job, and driven from here, on a cluster that has no lldeg of its own.

One run directory sees all of it: a job that is stopped, one whose watcher leaves, and extensions.
"""

import json
import os
import signal
import time
from dataclasses import dataclass

import pytest
from standin.cluster import SECONDS_TO_WAIT, free_ports
from standin.command import HEARING, ROOT, finish, wait_for
from standin.engine import read_words, write_held_sweep
from standin.files import GENERATE, questions, write_task
from standin.rows import block_files, identities, planned

from jobs.submit.progress import run_status

pytestmark = pytest.mark.ray

SECRETS = {"HF_TOKEN": "hf_plantedplantedplanted", "OPENAI_API_KEY": "sk-plantedplantedplanted"}


@dataclass(frozen=True)
class History:
    """What the commands ended with, (exit status, output, errors) each, and what was seen in between.

    Attributes:
        detached, status, logs, stopped: of the first job and of what was asked of its run directory.
        watched: of the second, whose watcher was interrupted.
        after: the run's status once the second job had ended, and the identities that stood then.
        jobs: the job server's own words on both jobs.
        first, second: where their replicas ran.
    """

    detached: tuple
    status: tuple
    logs: tuple
    stopped: tuple
    watched: tuple
    after: tuple
    jobs: list
    first: dict
    second: dict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the sweep."""
    folder = tmp_path_factory.mktemp("remote")
    write_task(folder / "pack", "asked", questions(40), **GENERATE)
    (folder / "pack" / ".gitignore").write_text("*.jsonl\n")
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """Where the answers are."""
    return folder / "run"


@pytest.fixture(scope="module")
def submit(cluster, command, folder, run):
    """Arguments of a submit to the job server."""
    command.environment.update(SECRETS)
    return ("submit", write_held_sweep(folder), "--address", cluster.jobs, "--run-dir", run)


def submitted(cluster):
    """What the job server tells of the jobs that were submitted to it, which drivers from here are not."""
    return [job for job in cluster.ask("/api/jobs/") if job["type"] == "SUBMISSION"]


def has_a_replica(run):
    """Whether the status tells of a replica that has loaded."""
    return any(replica["node"] for replica in run_status(str(run))["replicas"])


def wait_until(condition):
    """Look twice a second, as each look costs time that the job needs."""
    until = time.monotonic() + SECONDS_TO_WAIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.fixture(scope="module")
def history(cluster, command, folder, run, submit):
    """A detached job that is stopped, and a watched one whose watcher leaves while it works."""
    pids, hold = folder / "pids", folder / "hold"
    hold.touch()
    detached = command.run(*submit, "--detach", cwd=folder)
    wait_until(lambda: block_files(run) and has_a_replica(run))
    status = command.run("status", run, "--format", "json", cwd=folder)
    logs = command.run("logs", run, cwd=folder)
    first = read_words(pids)
    stopped = command.run("stop", run, cwd=folder)

    watcher = command.start(*submit, cwd=folder, program=HEARING)
    wait_for(lambda: len(read_words(pids)) > len(first), watcher)
    os.killpg(watcher.pid, signal.SIGINT)
    watched = finish(watcher)
    hold.unlink()
    wait_until(lambda: run_status(str(run))["state"] != "running")
    after = command.run("status", run, "--format", "json", cwd=folder)
    wait_until(lambda: not {job["status"] for job in submitted(cluster)} & {"PENDING", "RUNNING"})
    jobs = submitted(cluster)
    second = {pid: word for pid, word in read_words(pids).items() if pid not in first}
    return History(detached, status, logs, stopped, watched, (after, identities(run)), jobs, first, second)


def test_a_detached_submit_returns_once_the_job_is_at_work(history, run):
    """It names the job and the commands that watch and end it."""
    status, out, err = history.detached
    assert (status, err) == (0, "")
    assert "The job is running." in out
    assert all(f"lldeg {word} {run}" in out for word in ("status", "logs", "stop"))


def test_status_tells_of_the_job(history):
    """From the run directory alone: at work, how much is owed, and the replica with its node."""
    status, out, _ = history.status
    told = json.loads(out)
    assert (status, told["state"]) == (0, "running")
    assert 0 < told["missing"] <= told["planned"] == 40
    nodes = {replica["node"] for replica in told["replicas"]} - {None}
    assert nodes
    assert nodes <= {word["node"] for word in history.first.values()}


def test_logs_tell_of_the_job(history):
    """The events are in the run directory."""
    status, out, _ = history.logs
    assert status == 0
    assert "replica 1 (base) started" in out
    assert "replica 1 (base) loaded" in out


def test_stop_ends_the_job(history):
    """The command waits until nobody is at work, and the job ends as incomplete."""
    status, out, _ = history.stopped
    assert status == 0
    assert "has stopped" in out
    codes = sorted(job["driver_exit_code"] for job in history.jobs)
    assert codes == [0, 3]


def test_a_watcher_may_leave(history, run):
    """Ctrl-C leaves the job alone, says so, and the job finishes without it."""
    status, out, err = history.watched
    assert status == 3
    assert " is still running." in out
    assert "Traceback" not in out + err
    (ended, told, _), present = history.after
    assert (ended, json.loads(told)["state"]) == (0, "complete")
    assert present == planned(run)


def test_code_and_task_files_were_shipped(history, folder):
    """The replicas ran what Ray unpacked on the node, and not what lies here."""
    for word in (*history.first.values(), *history.second.values()):
        assert not word["code"].startswith(str(ROOT))
        (tasks,) = word["tasks"]
        assert not tasks.startswith(str(folder))


def test_nothing_secret_goes_with_a_job(history, cluster, run):
    """Neither what the job server tells of a job nor anything in the run holds a token."""
    told = json.dumps(history.jobs).encode()
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    for secret in (*SECRETS.values(), cluster.token):
        assert secret.encode() not in told
        assert secret.encode() not in written


def test_a_watched_submit_ends_with_the_status_of_the_job(history, command, submit, folder, run):
    """One more seed, watched to its end."""
    status, out, err = command.run(*submit, "--set", "sampling.seeds=2", cwd=folder)
    assert status == 0, out + err
    assert "is complete: 80 samples, 40 new" in " ".join(out.split())
    assert set(identities(run).values()) == {1}


def test_a_mistake_that_only_the_cluster_can_see_is_told(history, command, submit, folder):
    """The job's one sentence arrives, with its exit status."""
    status, out, err = command.run(*submit, "--set", f"model={folder}/no-such-model", cwd=folder)
    assert status == 2
    assert "Error: sweep.yaml: variants.base: " in out
    assert "Traceback" not in out + err


def test_a_mistake_in_the_file_is_told_before_the_job(command, cluster, folder, submit):
    """No job is made of it."""
    before = len(submitted(cluster))
    status, out, err = command.run(*submit, "--set", "sampling.seeds=-1", cwd=folder)
    assert (status, out) == (2, "")
    assert "sampling.seeds: must be at least 1" in err
    assert len(submitted(cluster)) == before


@pytest.mark.parametrize("way", ["gcs", "client"])
def test_a_sweep_is_driven_from_here(cluster, command, folder, way):
    """Over an address of the cluster or as Ray's client, with code and task files shipped."""
    run, before = folder / way, read_words(folder / "pids")
    status, out, err = command.run(
        "submit", write_held_sweep(folder), "--address", getattr(cluster, way), "--run-dir", run, cwd=folder
    )
    assert status == 0, out + err
    assert identities(run) == planned(run)
    new = [word for pid, word in read_words(folder / "pids").items() if pid not in before]
    assert new
    assert all(not word["code"].startswith(str(ROOT)) and len(word["tasks"]) == 1 for word in new)


@pytest.mark.parametrize("scheme", ["", "ray://", "http://"])
def test_a_cluster_that_is_not_there_is_told_at_once(command, folder, submit, scheme):
    """One sentence with the address; Ray by itself would try for minutes."""
    address = f"{scheme}127.0.0.1:{free_ports(1)[0]}"
    status, _, err = command.run(
        "submit", submit[1], "--address", address, "--run-dir", folder / "elsewhere", cwd=folder, timeout=60
    )
    assert status == 2
    assert err.startswith("Error: ")
    assert address in err
    assert err.count("\n") == 1
