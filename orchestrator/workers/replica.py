"""A replica: a Ray actor that holds one loaded engine and turns blocks into Parquet files."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import ray

from orchestrator.cluster.code_shipping import shipped_tasks
from orchestrator.engines import open_engine
from orchestrator.engines.base import EngineOptionError
from orchestrator.library_environment import be_quiet
from orchestrator.retry import patiently
from orchestrator.rundir.lease import owner
from orchestrator.rundir.store import RunStore
from orchestrator.sweep.tasks import SweepTask, TaskItems, TaskLibrary
from orchestrator.workers.answer_block import answer_block
from orchestrator.workers.replica_log import keep_log, log_name, say
from orchestrator.workers.sample_rows import samples_table

if TYPE_CHECKING:
    from pyarrow import Table

    from orchestrator.config.schema import SamplingConfig
    from orchestrator.engines.base import Engine, EngineSpec
    from orchestrator.rundir.schema import SampleColumns
    from orchestrator.sweep.blocks import Block
    from orchestrator.sweep.tasks import TaskSpec


@dataclass(frozen=True)
class Job:
    """What a replica needs to know of its variant.

    Attributes:
        tasks: leaf tasks by name.
        items: per task, a one-element tuple with the Ray reference to its `TaskItems` (in a tuple so that Ray
            hands over the reference, not the items).
        owner: the submit it works for; see `lease.owner`.
    """

    variant: str
    engine: EngineSpec
    sampling: SamplingConfig
    store_url: str
    tasks: dict[str, TaskSpec]
    items: dict[str, tuple[Any]]
    columns: SampleColumns
    gpus: float
    owner: str


@dataclass(frozen=True)
class Loaded:
    """What became of a load.

    Attributes:
        appetite: requests to keep in flight.
        node: Ray's name of the replica's node.
    """

    appetite: int
    node: str


@dataclass(frozen=True)
class BlockReport:
    """What became of a block.

    Attributes:
        samples: rows written.
        errors: rows among them with an error.
        prompt_tokens, output_tokens: over all rows.
    """

    samples: int
    errors: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Trouble:
    """Why a replica cannot get answers or cannot write them; None if it can."""

    reason: str | None


class Replica:
    """One loaded engine; `run` may be called from several threads, the engine mixes their work.

    Args:
        job: the variant and its tasks.
        number: counts the replicas of a sweep; names the log.
    """

    def __init__(self, job: Job, number: int) -> None:
        be_quiet()
        self._job = job
        self._store = RunStore(job.store_url)
        self._library: dict[tuple[tuple[str, ...], bool], TaskLibrary] = {}
        self._tasks: dict[str, tuple[SweepTask, TaskItems]] = {}
        self._tasks_lock = Lock()
        self._engine: Engine | None = None
        self._trouble: str | None = None
        self._end_log = keep_log(self._store, log_name(number, job.variant))

    def load(self) -> Loaded:
        """Load the model.

        Raises:
            EngineOptionError: the engine refuses its options or its model, or this node does not see the run
                directory.
        """
        started = time.monotonic()
        node = ray.get_runtime_context().get_node_id()
        if not patiently(self._store.has_run, self._refused):
            raise EngineOptionError(
                f"node {node[:8]} does not see the run directory {self._store.url}: give --run-dir a folder "
                "that all nodes share, or a URL such as s3://bucket/run"
            )
        Thread(target=self._open_tasks, name="open-tasks", daemon=True).start()
        self._engine = open_engine(self._job.engine, gpus=self._job.gpus)
        say(f"lldeg: {self._job.variant} loaded in {time.monotonic() - started:.1f} s")
        return Loaded(self._engine.appetite, node)

    def run(self, block: Block) -> BlockReport:
        """Answer, score and write a block.

        Raises:
            EngineDiedError: the engine is gone, and with it the block.
        """
        if self._engine is None:
            raise RuntimeError("run() before load()")
        task, built = self._task(block.task)
        samples = answer_block(block, task, built, self._engine, self._job.sampling)
        rows = samples_table(block, samples, self._job.columns)
        patiently(lambda: self._write(block, rows), self._refused)
        self._trouble = None
        return BlockReport(
            samples=len(samples),
            errors=sum(sample.error is not None for sample in samples),
            prompt_tokens=sum(sample.prompt_tokens or 0 for sample in samples),
            output_tokens=sum(sample.output_tokens or 0 for sample in samples),
        )

    def _write(self, block: Block, rows: Table) -> None:
        """Write a block, unless this replica has outlived its submit and the run is another's by now.

        That one may owe the same samples in another block, and they would stand twice.
        """
        if owner(self._store) != self._job.owner:
            raise RuntimeError(f"another lldeg submit has taken over {self._store.url}")
        self._store.write_block(block.variant, block.task, block.name, rows)

    def close(self) -> None:
        """Free the model."""
        if self._engine is not None:
            self._engine.close()
        self._end_log()

    def trouble(self) -> Trouble:
        """Whether the storage takes what is answered, and a server answers."""
        return Trouble(self._trouble or (self._engine.trouble if self._engine else None))

    def _refused(self, reason: str) -> None:
        self._trouble = f"the storage refuses: {reason}"
        say(f"lldeg: the storage refuses, trying again: {reason}")

    def _open_tasks(self) -> None:
        """Open the tasks while the model loads, so that the engine need not wait for them afterwards."""
        for name in self._job.tasks:
            try:
                self._task(name)
            except Exception:  # noqa: BLE001 - the block that needs the task will meet it again, and report it
                return

    def _task(self, name: str) -> tuple[SweepTask, TaskItems]:
        if name in self._tasks:
            return self._tasks[name]
        with self._tasks_lock:
            if name not in self._tasks:
                spec = self._job.tasks[name]
                spec = replace(spec, include_path=shipped_tasks() or spec.include_path)
                library = self._library.setdefault(
                    (spec.include_path, spec.unsafe_code), TaskLibrary(spec.include_path, spec.unsafe_code)
                )
                (reference,) = self._job.items[name]
                self._tasks[name] = library.open(spec), ray.get(reference)
            return self._tasks[name]
