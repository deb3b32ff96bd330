"""The answers of a run, read from its samples, for the looks to be taken again."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from jobs.analysis.sequential.run_monitor import RunMonitor
from jobs.analysis.sequential.run_plan import read_run_plan
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import scan
from orchestrator.workers.stopping import NO_SEED, ItemScores


def monitor_of(run: RunFiles) -> RunMonitor:
    """All answers of a run; `advance` takes the looks that they allow.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
    """
    monitor = RunMonitor(read_run_plan(run))
    for task in monitor.plan.tasks:
        for model in run.models:
            for scores in _scores(run, model, task.info.name, task.info.metric):
                monitor.add(model, task.info.name, scores)
    return monitor


def _scores(run: RunFiles, model: str, task: str, metric: str) -> Iterator[ItemScores]:
    damaged: list[str] = []  # which a submit has removed and an analysis named
    for table in scan(run, run.samples(model, task), metric, "prompt_hash", damaged):
        yield ItemScores(
            table.column("item").to_numpy(),
            table.column("temperature").cast(pa.float64()).to_numpy(),
            table.column("seed").fill_null(NO_SEED).to_numpy(),
            table.column("score").cast(pa.float64()).to_numpy().astype(np.float64),
        )
