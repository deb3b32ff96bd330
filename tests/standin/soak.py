"""Sweeps under random kills on one real Ray cluster: replicas, nodes and drivers, at random moments.

After each, the run has to be what an undisturbed sweep leaves: every key once, no error but those provoked,
and the same final tables.
"""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil
from ray.cluster_utils import Cluster
from standin.engine import DEADLY, StandIn
from standin.files import GENERATE, questions, write_sweep, write_task
from standin.rows import block_files, identities, planned, samples

ITEMS, NODES, CPUS = 96, 2, 2
DEADLY_ITEM = 41
FAULTS = ("replica", "node", "driver")
NODE = {"include_dashboard": False, "object_store_memory": 80_000_000}
SECONDS_OF_WORK = 5.0  # about as long as an undisturbed sweep answers
SECONDS_FOR_A_TRIAL = 600.0
TRIES_FOR_A_NODE = 5


class Paced(StandIn):
    """A stand-in that takes its time, and gives some answers wrong.

    Args:
        pace: seconds a call takes.
        slips: share of the answers that are wrong.
        options: see `StandIn`.
    """

    def __init__(self, model, pace=0.0, slips=0.0, **options):
        super().__init__(model, **options)
        self._pace, self._slips = pace, slips

    def generate_until(self, requests, disable_tqdm=False):
        """Texts that depend on prompt, temperature and seed alone."""
        time.sleep(self._pace)
        texts = super().generate_until(requests, disable_tqdm)
        return ["none" if int(text[-4:], 16) < self._slips * 16**4 else text for text in texts]


def submit(sweep, run, address, log):
    """What a driver's process does."""
    os.setsid()
    output = log.open("a")
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    os.chdir(run.parent)
    sys.argv = ["lldeg", "submit", str(sweep), "--run-dir", str(run), "--address", address]
    from jobs.cli import main

    main()


def analyze(run):
    """The final tables of a run, without what names the run or is a matter of time."""
    from jobs.cli import app
    from orchestrator.rundir.measurements import BY_NAME

    with contextlib.redirect_stdout(None):
        app(["analyze", str(run), "--out", str(run / "analysis")], standalone_mode=False)
    tables = json.loads((run / "analysis" / "verdicts.json").read_text())
    for found in tables["comparisons"]:
        found["changes"] = [one for one in found["changes"] if BY_NAME[one["measurement"]].tested]
    return tables


@dataclass
class Trial:
    """One sweep under faults.

    Attributes:
        done: faults that took effect, in order.
        submits: how often the sweep was submitted.
        problems: what is not as it has to be.
        events: what the drivers noted, counted by kind.
    """

    seed: int
    deadly: bool
    done: list = field(default_factory=list)
    submits: int = 0
    seconds: float = 0.0
    problems: list = field(default_factory=list)
    events: Counter = field(default_factory=Counter)


class Soak:
    """A cluster of a head without work and some nodes, and the sweep to run on it; a context manager.

    Args:
        folder: for runs and logs.

    Attributes:
        faults: what is killed.
        numbers: how many faults a trial has; one is chosen.
        deadly: share of the trials with a prompt that kills engines.
    """

    faults, numbers, deadly = FAULTS, (1, 1, 2, 3), 0.25

    def __init__(self, folder):
        self.folder = folder
        self._drivers = multiprocessing.get_context("forkserver")  # imports what a driver needs only once
        self._drivers.set_forkserver_preload(
            ["jobs.cli", "orchestrator.workers.execute", "orchestrator.sweep.prepare"]
        )

    def __enter__(self):
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
        self._nodes = [self._new_node() for _ in range(NODES)]
        self.sweeps = {deadly: self._write_sweep(deadly=deadly) for deadly in (False, True)}
        self._expected = {}
        return self

    def __exit__(self, *_):
        self._cluster.shutdown()

    def _write_sweep(self, *, deadly):
        folder = self.folder / ("deadly" if deadly else "ordinary")
        docs = questions(ITEMS)
        if deadly:
            docs[DEADLY_ITEM]["question"] = f"{DEADLY} Item {DEADLY_ITEM}"
        write_task(folder / "pack", "first", docs, **GENERATE)
        write_task(folder / "pack", "second", questions(ITEMS), **GENERATE)
        options = {"pace": 0.1, "pids": str(folder / "pids")}
        return write_sweep(
            folder,
            engine={"kind": "lm-eval:standin.soak:Paced", **options},
            variants={"base": {}, "worse": {"engine": {"slips": 0.2, "dies": deadly}}},
            tasks=["first", "second"],
            sampling={"temperatures": [0.0, 0.7], "seeds": 2},
            cluster={"replicas": 3, "cpus_per_replica": 1},
        )

    def _undisturbed(self, *, deadly):
        """The final tables of a sweep that nothing happens to; run once."""
        if deadly not in self._expected:
            trial = Trial(0, deadly)
            run = self._run(trial, random.Random(0), [])
            if trial.problems:
                raise AssertionError(f"undisturbed: {trial.problems}")
            self._expected[deadly] = self.result(run)
        return self._expected[deadly]

    def result(self, run):
        """What has to be the same after any faults."""
        return analyze(run)

    def expected_rows(self, run):
        """How often each sample has to be there."""
        return planned(run)

    def misjudged(self, trial, rows):
        """Samples that are errors and should not be, or the other way round."""
        provoked = {("worse", "first", DEADLY_ITEM)} if trial.deadly else set()
        return sorted(_asked(row for row in rows if row["error"] is not None) ^ (provoked & _asked(rows)))

    def trial(self, seed):
        """Run the sweep under faults that the seed decides; what it leaves goes if all is well."""
        rng = random.Random(seed)
        trial = Trial(seed, deadly=rng.random() < self.deadly)
        run = self._run(trial, rng, rng.choices(self.faults, k=rng.choice(self.numbers)))
        if not trial.problems and self.result(run) != self._undisturbed(deadly=trial.deadly):
            trial.problems.append("the result differs")
        if not trial.problems:
            shutil.rmtree(run.parent)
        return trial

    def _run(self, trial, rng, faults):
        run = self.folder / f"trial-{trial.seed}-{trial.deadly}" / "run"
        run.parent.mkdir()
        started = time.monotonic()
        self._submit(trial, run)
        for fault in faults:
            if rng.random() < 0.8:  # or else while it starts
                self._await_a_block(run)
            self._driver.join(rng.uniform(0, SECONDS_OF_WORK))
            if self._driver.is_alive() and getattr(self, f"_kill_{fault}")(trial, rng, run):
                trial.done.append(fault)
        self._driver.join(SECONDS_FOR_A_TRIAL)
        trial.seconds = time.monotonic() - started
        self._check(trial, run)
        return run

    def _submit(self, trial, run):
        trial.submits += 1
        self._stood = len(block_files(run))
        work = (self.sweeps[trial.deadly], run, self._cluster.address, run.parent / "log")
        self._driver = self._drivers.Process(target=submit, args=work)
        self._driver.start()

    def _await_a_block(self, run):
        until = time.monotonic() + SECONDS_FOR_A_TRIAL
        while self._driver.is_alive() and len(block_files(run)) <= self._stood:
            assert time.monotonic() < until, f"no block was written in {run}"
            time.sleep(0.05)

    def _kill_replica(self, trial, rng, run):
        replicas = sorted(self._engines(trial))
        if not replicas:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(replicas), signal.SIGKILL)
            return True
        return False

    def _engines(self, trial):
        """Processes that loaded an engine for the sweep; those that are gone are forgotten."""
        for path in (self.sweeps[trial.deadly].parent / "pids").glob("[0-9]*"):
            if is_replica(int(path.name)):
                yield int(path.name)
            else:
                path.unlink(missing_ok=True)

    def _kill_node(self, trial, rng, run):
        """A node goes with all that ran on it, and another one comes."""
        node = self._nodes.pop(rng.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._new_node())
        return True

    def _new_node(self):
        """A node; on a busy machine it may not start within the 30 seconds that Ray gives it."""
        for _ in range(TRIES_FOR_A_NODE):
            with contextlib.suppress(Exception):
                return self._cluster.add_node(num_cpus=CPUS, **NODE)
        raise AssertionError("Ray starts no node: the machine is too busy")

    def _kill_driver(self, trial, rng, run):
        self._driver.kill()
        self._driver.join()
        self._submit(trial, run)
        return True

    def _check(self, trial, run):
        """Note what is not as it has to be."""
        if self._driver.exitcode != 0:
            trial.problems.append(f"lldeg submit ended with {self._driver.exitcode}")
            self._driver.kill()
            return
        rows = samples(run)
        if identities(run) != self.expected_rows(run):
            twice = [key for key, count in identities(run).items() if count > 1]
            trial.problems.append(f"{len(rows)} rows, {len(twice)} samples twice: {twice[:3]}")
        if len({row["sample_key"] for row in rows}) != len(rows):
            trial.problems.append("a key stands twice")
        if wrong := self.misjudged(trial, rows):
            trial.problems.append(f"{len(wrong)} samples are not what they have to be: {wrong[:3]}")
        lines = (run / "logs" / "events.jsonl").read_text().splitlines()
        trial.events = Counter(json.loads(line)["event"] for line in lines)


def _asked(rows):
    return {(row["variant"], row["task"], row["item"]) for row in rows}


def is_replica(pid):
    """Whether a process is a replica of this cluster; a number may long be another process's."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        own = process.environ().get("RAY_TMPDIR") == os.environ.get("RAY_TMPDIR")
        return own and process.name().startswith("ray::Replica")
    return False
