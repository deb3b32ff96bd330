"""What a million samples over 16 replicas cost the driver, and what a thousand replicas would.

Real Ray on this machine and the tests' stand-in engine, five tasks of 2,000 items each. A run of one seed
(10,000 samples) and one of a hundred (1,000,000) are submitted, the large one twice: the second time nothing
is left to do. The replicas wait until all of them are loaded, so that the work is measured without their
start. Printed are the driver's memory (resident, and its own) and its processor time. At the end the
dispatcher alone feeds a thousand simulated replicas.

    python benchmarks/scale.py [--seeds 100] [--replicas 16] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from standin.engine import KIND  # noqa: E402 - the tests' folder has to be known first
from standin.fake_ray import FakeRay, FakeReplica, work_of  # noqa: E402
from standin.files import GENERATE, questions, write_sweep, write_task  # noqa: E402

TASKS, ITEMS = 5, 2_000
MIB = 1 << 20
SECONDS_BETWEEN_LOOKS = 0.5
CROWD, CROWD_VARIANTS, CROWD_BLOCKS = 1_000, 20, 5_000


@dataclass(frozen=True)
class Look:
    """The driver at one moment: memory in MiB, processor seconds, the share of the samples that is there."""

    when: float
    resident: float
    own: float
    cpu: float
    done: float
    threads: int


@dataclass(frozen=True)
class Submit:
    """A submit that has ended: how often it was looked at, and when all its replicas were at work."""

    samples: int
    wall: float
    looks: list[Look]
    begun: float = 0.0

    def at(self, share: float) -> Look:
        """The first look that found so much done."""
        return next((look for look in self.looks if look.done >= share), self.looks[-1])

    @property
    def peak(self) -> Look:
        """The look at the largest memory."""
        return max(self.looks, key=lambda look: look.resident)

    @property
    def per_sample(self) -> float:
        """Microseconds of the driver's processor time per sample while the replicas were at work."""
        start = next(look for look in self.looks if look.when >= self.begun)
        return 1e6 * (self.at(1.0).cpu - start.cpu) / self.samples


def write_files(folder: Path, replicas: int) -> Path:
    """The tasks and the sweep; returns the path of the latter."""
    tasks = [write_task(folder / "pack", f"task{i}", questions(ITEMS), **GENERATE) for i in range(TASKS)]
    return write_sweep(
        folder,
        variants={"base": {}},
        tasks=tasks,
        engine={"kind": KIND, "hold": str(folder / "hold")},
        sampling={"temperatures": [0.7]},
        cluster={"replicas": replicas, "cpus_per_replica": (os.cpu_count() or 1) / replicas},
    )


def submit(sweep: Path, run: Path, seeds: int, replicas: int) -> Submit:
    """Submit, watch the driver, and let the replicas answer once all of them are loaded."""
    hold = sweep.parent / "hold"
    hold.touch()
    program = "from jobs.cli import main; main()"
    arguments = ["submit", str(sweep), "--run-dir", str(run), "--set", f"sampling.seeds={seeds}"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    started, looks, begun = time.monotonic(), [], 0.0
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
    ) as process:
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                looks.append(look(driver, run))
            except psutil.Error:
                break  # it has just ended
            if not begun and loaded(run) >= replicas:
                hold.unlink()
                begun = time.monotonic()
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise SystemExit(f"submit ended with status {process.returncode}")
    return Submit(TASKS * ITEMS * seeds, time.monotonic() - started, looks, begun)


def look(driver: psutil.Process, run: Path) -> Look:
    """Look at the driver."""
    memory, cpu = driver.memory_full_info(), driver.cpu_times()
    when, threads = time.monotonic(), driver.num_threads()
    return Look(when, memory.rss / MIB, memory.uss / MIB, cpu.user + cpu.system, share_done(run), threads)


def share_done(run: Path) -> float:
    """How much of the run stands in its directory, as its heartbeat tells."""
    try:
        counts = json.loads((run / "logs" / "status.json").read_text())["variants"]["base"]
    except (OSError, ValueError):
        return 0.0
    return float(counts["done"] / counts["planned"])


def loaded(run: Path) -> int:
    """Replicas that have been loaded so far."""
    events = run / "logs" / "events.jsonl"
    return events.read_text().count('"loaded"') if events.exists() else 0


# a thousand simulated replicas ---------------------------------------------------------------------------


class Crowd(FakeRay):
    """Replicas on nodes of eight GPUs, of which one after the other has done its block."""

    def __init__(self, nodes: list[str]) -> None:
        super().__init__(target_in_flight=1)
        self.on_node = Counter(dict.fromkeys(nodes, 0))
        self.turn = 0

    def options(self, **_: Any) -> Any:
        """Take any resources."""
        return super().options(max_concurrency=1_000, num_cpus=1, num_gpus=1)

    def wait(self, references: list[Any], timeout: float | None = None, **_: Any) -> Any:
        """One result has arrived; prime steps reach all of them."""
        if timeout == 0:
            return [], references
        self.turn += 7_919
        chosen = self.turn % len(references)
        return [references[chosen]], references[:chosen] + references[chosen + 1 :]

    def kill(self, replica: FakeReplica) -> None:
        """End a replica."""
        super().kill(replica)
        self.on_node[replica.place] -= 1

    def node_for(self, _: object) -> str:
        """The emptiest node."""
        emptiest = min(self.on_node, key=lambda node: self.on_node[node])
        self.on_node[emptiest] += 1
        return emptiest


def dispatch_to_a_crowd() -> float:
    """Milliseconds of the dispatcher's own work per block, starting and ending all replicas included."""
    from orchestrator.cluster.resources import Node, ReplicaResources, has_room
    from orchestrator.rundir.identity import Item, Rerun
    from orchestrator.rundir.progress import SweepProgress, VariantProgress
    from orchestrator.sweep.blocks import Block
    from orchestrator.workers.dispatcher import Dispatcher
    from orchestrator.workers.replica_slots import ReplicaSlots, VariantWork

    nodes = [Node(f"node-{i}", {"CPU": 64, "GPU": 8}, {}) for i in range(CROWD // 8)]
    crowd = Crowd([node.name for node in nodes])
    each = CROWD_BLOCKS // CROWD_VARIANTS
    variants = [f"variant-{i}" for i in range(CROWD_VARIANTS)]

    def work(variant: str) -> VariantWork:
        blocks = [Block(variant, "t", "c", (Item(i, "", ""),), (Rerun(0.0),)) for i in range(each)]
        return work_of(variant, blocks, ReplicaResources(4, 1))

    crowd.install()
    progress = SweepProgress({variant: VariantProgress(planned=each) for variant in variants})
    started = time.perf_counter()
    slots = ReplicaSlots(
        [work(variant) for variant in variants],
        max_replicas=None,
        nodes=SimpleNamespace(have_room=partial(has_room, nodes), lost_since=lambda _: set()),
        progress=progress,
        log=lambda _: None,
    )
    Dispatcher(slots, give_up=lambda *_: None, watch=lambda _: None).run()
    if progress.owed or crowd.most_alive != CROWD:
        raise SystemExit(f"{progress.owed} blocks are owed, {crowd.most_alive} replicas were at work")
    return 1e3 * (time.perf_counter() - started) / CROWD_BLOCKS


def tell(name: str, done: Submit) -> None:
    """Print what a submit cost."""
    early, late = done.at(0.1), done.at(1.0)
    print(
        f"{name}: {done.samples:,} samples in {done.wall:.0f} s; driver: {done.per_sample:.1f} µs of "
        f"processor time per sample at work, {late.cpu:.1f} s in all, {done.peak.threads} threads\n"
        f"  memory (resident / own): {early.resident:.0f} / {early.own:.0f} MiB at 10 %, "
        f"{late.resident:.0f} / {late.own:.0f} MiB at the end, at most {done.peak.resident:.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="of the large run; 10,000 samples each")
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to keep the runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        sweep = write_files(folder, options.replicas)
        tell("small", submit(sweep, folder / "small", 1, options.replicas))
        tell("large", submit(sweep, folder / "large", options.seeds, options.replicas))
        again = submit(sweep, folder / "large", options.seeds, options.replicas)
        print(f"large, submitted again: {again.wall:.1f} s, at most {again.peak.resident:.0f} MiB")
    print(f"dispatching to {CROWD:,} replicas: {dispatch_to_a_crowd():.1f} ms per block")


if __name__ == "__main__":
    main()
