"""What scoring costs in a process of its own, against scoring in a thread of the replica, as it was before.

The same answers to one of the quickstart's tasks, which is as cheap to score as tasks are, are scored in this
process and by a pool of one process, in turn. Printed are microseconds a sample: until the scores are
there, and of this process's own CPU, which a replica shares with its engine; and the ratios of the medians.

Run: python benchmarks/scoring.py [--rounds 5] [--samples 2048]
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.config.schema import PromptConfig
from orchestrator.sweep.tasks import Answered, TaskLibrary, TaskSpec, set_up_lm_eval
from orchestrator.workers.scoring_pool import ScoringPool

if TYPE_CHECKING:
    from orchestrator.workers.answer_block import Scorer

PACK = Path(__file__).resolve().parent.parent / "configs" / "tasks" / "quickstart"
TASK = "lldeg_sums"


def timed(score: Scorer, batch: list[Answered]) -> tuple[float, float]:
    """Seconds until a batch is scored: by the clock, and of this process's CPUs."""
    clock, cpu = time.perf_counter(), time.process_time()
    results = list(score(batch))
    assert len(results) == len(batch)
    return time.perf_counter() - clock, time.process_time() - cpu


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=2048)
    arguments = parser.parse_args()
    set_up_lm_eval()
    spec = TaskSpec(task=TASK, include_path=(str(PACK),))
    task = TaskLibrary(spec.include_path).open(spec)
    requests = list(task.build(PromptConfig(), None, "plain").values())
    batch = [
        (requests[number % len(requests)], [[f"The answer is {number}"]])
        for number in range(arguments.samples)
    ]
    pool = ScoringPool({TASK: spec}, 1)
    sides = {"thread": task.score_each, "process": partial(pool.score, TASK)}
    for score in sides.values():
        timed(score, batch)  # templates are compiled, and the process has started
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, score in sides.items():
            found[name].append(timed(score, batch))
    pool.close()
    medians = {name: np.median(times, axis=0) * 1e6 / len(batch) for name, times in found.items()}
    for name, (clock, cpu) in medians.items():
        print(f"{name:8} {clock:7.1f} µs a sample, {cpu:7.1f} µs of this process's CPU")
    clock, cpu = medians["process"] / medians["thread"]
    print(f"process / thread: {clock:.2f} until the scores are there, {cpu:.2f} of this process's CPU")


if __name__ == "__main__":
    main()
