"""How soon a decided variant is withdrawn, and what the looks cost the driver.

Real Ray on this machine, 16 replicas of the tests' stand-in engine, a baseline and 19 variants, ten of which
are clearly worse. The sweep runs twice: with every planned sample, and until degraded. Printed are the time
from the arrival of the block that decides (when its file was written) until the last replica of that variant
has ended, with all requests in it, and the driver's processor time per sample on both sides.

    python benchmarks/stopping.py [--replicas 16] [--variants 20] [--items 600]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from standin.files import GENERATE, questions, write_sweep, write_task  # noqa: E402

SECONDS_BETWEEN_POLLS = 0.05
SECONDS_PER_CALL = 0.5


@dataclass
class Submit:
    """A submit that has ended.

    Attributes:
        cpu: processor time of the driver since the first replica was loaded, in seconds.
        ended: when each process of a replica was last seen, by process.
    """

    cpu: float = 0.0
    seconds: float = 0.0
    ended: dict[int, float] = field(default_factory=dict)


def write_files(folder: Path, options: argparse.Namespace) -> Path:
    """The task and the sweep; returns the path of the latter."""
    write_task(folder / "pack", "task", questions(options.items), **GENERATE)
    pids = folder / "pids"
    variants = {
        f"v{number}": {"engine": {"slips": 0.4 if number % 2 else 0.0, "pids": str(pids / f"v{number}")}}
        for number in range(options.variants)
    }
    return write_sweep(
        folder,
        baseline="v0",
        variants=variants,
        tasks=["task"],
        engine={"kind": "lm-eval:standin.soak:Paced", "pace": SECONDS_PER_CALL},
        sampling={"temperatures": [0.7], "seeds": 4},
        cluster={
            "replicas": options.replicas,
            "cpus_per_replica": (os.cpu_count() or 1) / options.replicas,
        },
    )


def submit(sweep: Path, run: Path, *more: str) -> Submit:
    """Submit, and watch the driver and all replicas."""
    program = "from jobs.cli import main; main()"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done, started, alive = Submit(), time.monotonic(), set[int]()
    events, start = run / "logs" / "events.jsonl", 0.0
    with subprocess.Popen(
        [sys.executable, "-c", program, "submit", str(sweep), "--run-dir", str(run), *more],
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
    ) as process:
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                times = driver.cpu_times()
                if not start and events.exists() and '"loaded"' in events.read_text():
                    start = times.user + times.system
                done.cpu = times.user + times.system - start if start else 0.0
            except psutil.Error:
                break
            known = {int(path.name) for path in (sweep.parent / "pids").glob("v*/[0-9]*")}
            alive = {pid for pid in known - done.ended.keys() if psutil.pid_exists(pid)}
            done.ended |= dict.fromkeys(known - alive - done.ended.keys(), time.time())
            time.sleep(SECONDS_BETWEEN_POLLS)
    if process.returncode:
        raise SystemExit(f"submit ended with status {process.returncode}")
    done.ended |= dict.fromkeys(alive, time.time())
    done.seconds = time.monotonic() - started
    return done


def withdrawals(folder: Path, run: Path, done: Submit) -> dict[str, float]:
    """Seconds from the deciding block's file to the end of the last replica, by variant stopped early."""
    lines = map(json.loads, (run / "logs" / "events.jsonl").read_text().splitlines())
    decided = {event["variant"]: event["time"] for event in lines if event["event"] == "decided"}
    comparisons = json.loads((run / "looks.json").read_text())["comparisons"]
    found = {}
    for name in [one["variant"] for one in comparisons if one["stopped"]]:
        blocks = [p for v in ("v0", name) for p in run.glob(f"samples/variant={v}/task=*/*.parquet")]
        arrived = max(t for p in blocks if (t := p.stat().st_mtime) <= decided[name])
        ended = [done.ended[int(path.name)] for path in (folder / "pids" / name).glob("[0-9]*")]
        late = [moment for moment in ended if moment >= arrived]
        found[name] = max(late, default=arrived) - arrived
    return found


def samples_in(run: Path) -> int:
    """Samples that were written."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in run.glob("samples/*/*/*.parquet"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--items", type=int, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sweep = write_files(folder, options)
        costs = {}
        for name, more in (("fixed", ()), ("stopping", ("--until-degraded",))):
            done = submit(sweep, folder / name, *more)
            count = samples_in(folder / name)
            costs[name] = 1e6 * done.cpu / count
            print(
                f"{name}: {count:,} samples in {done.seconds:.0f} s; driver: {costs[name]:.0f} µs of "
                "processor time per sample while replicas were at work",
                flush=True,
            )
        print(f"ratio of the driver's time per sample: {costs['stopping'] / costs['fixed']:.2f}")
        times = sorted(withdrawals(folder, folder / "stopping", done).values())
        print(
            f"{len(times)} variants stopped early; from the deciding block to the end of the last request: "
            f"median {np.median(times):.2f} s, at most {times[-1]:.2f} s"
        )


if __name__ == "__main__":
    main()
