"""Is a variant with half of the threads shown to be slower, and does an interval cover what a repeat shows?

The quickstart's model answers the quickstart's questions with all cores and with half of them, in runs that
are repeated from nothing. Printed are the variant's samples per second as a multiple of the baseline's, with
the interval over blocks, for each run; then how many of the intervals hold the estimates of the other runs.

Run on a CPU: python -P benchmarks/threads.py [--rounds 3] [--limit 80] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import permutations
from pathlib import Path

import lldeg

ROOT = Path(__file__).resolve().parent.parent
SUBMIT = "from jobs.cli import main; main()"
WORDS = "Answer with one word, and be brief. " * 40  # so that more is computed than one thread can
TASKS = ("number_words", "lookup", "capitals", "elements", "spelling", "sequences", "sums")


def speed(run: Path, limit: int) -> tuple[float, float, float]:
    """A run's ratio of samples per second, and its interval at 95 %."""
    cores = os.cpu_count() or 2
    settings = {
        "baseline": "all",
        "variants": {
            "all": {},
            "half": {"env": {"OMP_NUM_THREADS": str(cores // 2)}},
        },
        "tasks": [{"task": f"lldeg_{name}", "limit": limit} for name in TASKS],
        "prompt.system_instruction": WORDS,
        "engine.max_model_len": 2048,
        "engine.max_num_seqs": 24,  # so that a batch is full in a small sweep, too
        "engine.enable_prefix_caching": False,  # so that there is something to compute
        "engine.env": {"OMP_WAIT_POLICY": "passive"},  # threads that spin slow down whatever runs beside them
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    config = ROOT / "configs" / "quickstart.yaml"
    command = [sys.executable, "-c", SUBMIT, "submit", str(config), "--run-dir", str(run), *words]
    with (run.parent / f"{run.name}.log").open("w") as log:
        subprocess.run(command, cwd=ROOT, check=True, stdout=log, stderr=log)
    (comparison,) = lldeg.analyze(run).comparisons
    found = {change.measurement: change for change in comparison.changes}["samples_per_second"]
    low, high = found.change_interval
    rates = f"{found.baseline_mean:.2f} → {found.variant_mean:.2f} samples/s, {found.items} blocks"
    print(f"{rates}: {1 + found.change:.3f} [{1 + low:.3f}, {1 + high:.3f}]", flush=True)
    return 1 + found.change, 1 + low, 1 + high


def main() -> None:
    """Repeat, and compare the repeats."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=80, help="questions of each task")
    parser.add_argument("--keep", type=Path, help="folder for the runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = [speed(folder / f"run{number}", given.limit) for number in range(given.rounds)]
    covered = [low <= ratio <= high for (_, low, high), (ratio, *_) in permutations(found, 2)]
    slower = sum(high < 1.0 for *_, high in found)
    print(f"slower in {slower} of {len(found)} runs; {sum(covered)} of {len(covered)} repeats covered")


if __name__ == "__main__":
    main()
