"""What lies between two variants: from the last block of one until the model of the next is loaded.

`lldeg submit` runs two variants of the quickstart one after the other, in turn with the second in the process
of the first, as lldeg does, and in a new one. Printed are the seconds between the two, from the log of the
run, and those of the whole command, with the ratios of their medians.

Run: python -P benchmarks/loading.py [--rounds 3] [--limit 40]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "quickstart.yaml"
VARIANTS = {"bf16": {}, "int8": {"model": "~/.cache/lldeg/SmolLM2-135M-Instruct-int8"}}
SUBMIT = "from jobs.cli import main; main()"
APART = "from orchestrator.workers.replica_slots import VariantWork as w; w.process = None; "


def submitted(limit: int, *, shares: bool) -> tuple[float, float]:
    """Seconds between the variants, and of the whole command."""
    tasks = [{"task": "lldeg_quickstart", "limit": limit}]
    with tempfile.TemporaryDirectory() as folder:
        code = SUBMIT if shares else APART + SUBMIT
        command = [sys.executable, "-P", "-c", code, "submit", str(CONFIG), "--run-dir", folder]
        for name, value in (("variants", VARIANTS), ("tasks", tasks)):
            command += ["--set", f"{name}={json.dumps(value)}"]
        started = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        whole = time.monotonic() - started
        events = map(json.loads, (Path(folder) / "logs" / "events.jsonl").read_text().splitlines())
        times = [(event["event"], event["time"]) for event in events]
    closed, loaded = ([moment for kind, moment in times if kind == one] for one in ("closed", "loaded"))
    return loaded[1] - closed[0], whole


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each way is measured")
    parser.add_argument("--limit", type=int, default=40, help="items per task")
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append([submitted(arguments.limit, shares=shares) for shares in (True, False)])
        (gap, whole), (gap_apart, whole_apart) = rounds[-1]
        print(
            f"between the variants: {gap:.1f} s, in a new process {gap_apart:.1f} s; "
            f"whole: {whole:.0f} s and {whole_apart:.0f} s",
            flush=True,
        )
    shared, apart = np.median(rounds, axis=0)
    print("medians, one process / a new one: between {:.2f}, whole {:.2f}".format(*(shared / apart)))


if __name__ == "__main__":
    main()
