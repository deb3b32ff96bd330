"""The looks of a run, taken from its samples alone."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from jobs.analysis.sequential.run_monitor import RunMonitor
from jobs.analysis.sequential.run_plan import Place, read_run_plan
from jobs.inputs.run_directory.files import RunFiles
from jobs.inputs.run_directory.scan import is_sound, scan
from orchestrator.errors import UserError
from orchestrator.workers.stopping import NO_SEED, ItemScores
from stats.arrays import EvidenceError
from stats.sequential import Course


def replay_run(run: RunFiles) -> dict[Place, Course]:
    """Every comparison of a run that stops early, from its first look to its end or as far as it has come.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
    """
    try:
        return monitor_of(run).courses()
    except EvidenceError as error:
        raise UserError(f"The looks of {run.location} cannot be taken: {error}") from None


def monitor_of(run: RunFiles) -> RunMonitor:
    """The looks of a run as far as its samples allow.

    Raises:
        UserError: the run does not stop early, or something in it is damaged.
        EvidenceError: scores are outside of their metric's range.
    """
    monitor = RunMonitor(read_run_plan(run))
    for task in monitor.plan.tasks:
        for model in run.models:
            for scores in _scores(run, model, task.info.name, task.info.metric):
                monitor.add(model, task.info.name, scores)
    monitor.advance()
    return monitor


def _scores(run: RunFiles, model: str, task: str, metric: str) -> Iterator[ItemScores]:
    files = run.samples(model, task)
    try:
        tables = list(scan(run, files, metric, "prompt_hash"))
    except (pa.ArrowInvalid, OSError):  # a torn or damaged file: its samples are owed again
        tables = list(scan(run, [path for path in files if is_sound(run, path)], metric, "prompt_hash"))
    for table in tables:
        yield ItemScores(
            table.column("item").to_numpy(),
            table.column("temperature").cast(pa.float64()).to_numpy(),
            table.column("seed").fill_null(NO_SEED).to_numpy(),
            table.column("score").cast(pa.float64()).to_numpy().astype(np.float64),
        )
