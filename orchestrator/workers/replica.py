"""A replica: a Ray actor with one loaded engine, which writes the answers to each block as a Parquet file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from orchestrator.cluster.process_group import end_children_with_this_process
from orchestrator.config.environment import set_library_environment
from orchestrator.engines import open_engine
from orchestrator.engines.base import UnfitNodeError
from orchestrator.retry import retry_storage
from orchestrator.rundir.lease import owner
from orchestrator.rundir.software import software_id
from orchestrator.rundir.store import RunStore, replica_log_name
from orchestrator.sweep.tasks import set_up_lm_eval
from orchestrator.workers.answer_block import answer_block, put_off_refused
from orchestrator.workers.follower import form_group, on_this_node
from orchestrator.workers.replica_log import keep_log, say
from orchestrator.workers.sample_rows import samples_table
from orchestrator.workers.scoring.pool import ScoringPool
from orchestrator.workers.software_here import software_here
from orchestrator.workers.stopping import ItemScores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyarrow import Table

    from orchestrator.config.schema import SamplingConfig
    from orchestrator.engines.base import Engine, EngineEndedError, EngineSpec, NodeGroup
    from orchestrator.rundir.schema import SampleColumns, SoftwareEntry
    from orchestrator.sweep.blocks import Block
    from orchestrator.sweep.tasks import TaskItems, TaskSpec


@dataclass(frozen=True)
class Job:
    """What a replica needs to know of its variant.

    Attributes:
        tasks: leaf tasks by name.
        items: per task, a one-element tuple with the Ray reference to its `TaskItems` (in a tuple so that Ray
            hands over the reference, not the items).
        owner: the submit it works for; see `lease.owner`.
        software: what the submit runs.
        scoring_processes: most of them at a time.
        think_end_token: text that ends the thinking part of an answer; None without one.
        must_fit: whether a prompt that does not fit is an error; else it is cut.
        deciding_metrics: the "metric,filter" whose scores its reports carry, by task; see `StoppingPolicy`.
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
    software: SoftwareEntry | None = None
    scoring_processes: int = 1
    think_end_token: str | None = None
    must_fit: bool = False
    deciding_metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A model has been loaded.

    Attributes:
        target_in_flight: requests to keep in flight.
        node: Ray's ID of the replica's node, or of its first one.
        software: what it runs, and on what hardware; files that it writes have the ID of this.
    """

    target_in_flight: int
    node: str
    software: SoftwareEntry | None = None


@dataclass(frozen=True)
class BlockReport:
    """A block has been written.

    Attributes:
        samples: rows written.
        errors: rows among them with an error.
        prompt_tokens, output_tokens: over all rows.
        put_off: blocks of samples that were not written, since a server has refused them for the first time,
            or the engine ended before it had answered them.
        ended: why the engine answers no more; None if it does.
        metrics: every "metric,filter" of its rows that the manifest does not list.
        scores: under the task's deciding metric; None if the stopping policy wants none.
    """

    samples: int
    errors: int
    prompt_tokens: int
    output_tokens: int
    scores: ItemScores | None = None
    put_off: tuple[Block, ...] = ()
    ended: EngineEndedError | None = None
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplicaStatus:
    """What keeps a replica from getting answers or writing them; None if nothing does."""

    problem: str | None


class Replica:
    """One loaded engine; `run` may be called from several threads, whose requests share its batches.

    Args:
        job: the variant and its tasks.
        number: counts the replicas of a submit; part of the log's name.
    """

    def __init__(self, job: Job, number: int) -> None:
        end_children_with_this_process()
        set_library_environment()
        set_up_lm_eval()
        self._job = job
        self._store = RunStore(job.store_url, must_answer=False)
        self._items: dict[str, TaskItems] = {}
        self._scoring = ScoringPool(job.tasks, job.scoring_processes)
        self._engine: Engine | None = None
        self._software: str | None = None
        self._storage_error: str | None = None
        self._end_log = keep_log(self._store, replica_log_name(number, job.variant))

    def node(self) -> str:
        """Ray's ID of this node."""
        return str(ray.get_runtime_context().get_node_id())

    def form_group(self, nodes: int) -> NodeGroup:
        """Where the followers of this replica will find it."""
        return form_group(nodes)

    def load(self, group: NodeGroup | None = None) -> Loaded:
        """Load the model.

        Args:
            group: the nodes of the engine, of which this is the first; None if it is the only one.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
            EngineDiedError: it could not be loaded now.
            UnfitNodeError: this node cannot see the run directory or the folder of the model.
        """
        try:
            return self._load(group)
        except BaseException:
            self._end_log()  # the replica is about to be killed, and its last words tell why
            raise

    def _load(self, group: NodeGroup | None) -> Loaded:
        started, node = time.monotonic(), self.node()
        if not retry_storage(self._store.has_run, self._report_storage_error):
            raise UnfitNodeError(
                f"node {node[:8]} cannot see the run directory {self._store.url}: set --run-dir to a folder "
                "that all nodes share, or to a URL such as s3://bucket/run"
            )
        if Path(self._job.engine.model).is_absolute() and not Path(self._job.engine.model).exists():
            raise UnfitNodeError(f"node {node[:8]} has no model folder {self._job.engine.model}")
        self._scoring.start()
        spec = self._job.engine if group is None else on_this_node(self._job.engine, group, 0)
        self._engine = open_engine(spec, gpus=self._job.gpus)
        say(f"lldeg: {self._job.variant} loaded in {time.monotonic() - started:.1f} s")
        driver = self._job.software or {"versions": {}, "commit": None}
        software = software_here(driver, spec, gpus=self._job.gpus, dtype=self._engine.dtype)
        self._software = software_id(software)
        return Loaded(self._engine.target_in_flight, node, software)

    def run(self, block: Block) -> BlockReport:
        """Answer, score and write a block; if the engine ends, as much of it as was answered by then.

        Raises:
            EngineDiedError: the engine is gone; nothing of the block is written.
        """
        if self._engine is None:
            raise RuntimeError("run() before load()")
        score, built = self._scoring.scorer(block.task), self._built(block.task)
        sampling = self._job.sampling.of_task(self._job.tasks[block.task].sampling)
        ends: list[EngineEndedError] = []
        answered = answer_block(
            block,
            score,
            built,
            self._engine,
            sampling,
            think_end_token=self._job.think_end_token,
            must_fit=self._job.must_fit,
            on_end=ends.append,
        )
        samples, put_off = put_off_refused(block, answered)
        rows = samples_table(block, samples, self._job.columns)
        if samples:
            retry_storage(lambda: self._write(block, rows), self._report_storage_error)
        self._storage_error = None
        metric = self._job.deciding_metrics.get(block.task)
        return BlockReport(
            samples=len(samples),
            errors=len(rows) - rows["error"].null_count,
            prompt_tokens=sum(sample.prompt_tokens or 0 for sample in samples),
            output_tokens=sum(sample.output_tokens or 0 for sample in samples),
            metrics=self._job.columns.unlisted(rows.schema),
            scores=ItemScores.of(samples, metric) if metric else None,
            put_off=put_off,
            ended=next((type(end)(str(end)) for end in ends), None),
        )

    def _write(self, block: Block, rows: Table) -> None:
        """Write a block, unless another submit has taken over the run since this replica was started.

        The other submit may have the same samples in another block, and they would be written twice.
        """
        if owner(self._store) != self._job.owner:
            raise RuntimeError(f"another lldeg submit has taken over {self._store.url}")
        self._store.write_block(block.variant, block.task, block.name, rows, self._software)

    def close(self) -> None:
        """Free the model."""
        if self._engine is not None:
            self._engine.close()
        self._scoring.close()
        self._end_log()

    def status(self) -> ReplicaStatus:
        """Whether the storage fails, or the server behind the engine."""
        return ReplicaStatus(self._storage_error or (self._engine.problem if self._engine else None))

    def _report_storage_error(self, reason: str) -> None:
        self._storage_error = f"storage error, retrying: {reason}"
        say(f"lldeg: {self._storage_error}")

    def _built(self, task: str) -> TaskItems:
        """The requests of a task, fetched once."""
        if task not in self._items:
            (reference,) = self._job.items[task]
            self._items[task] = ray.get(reference)
        return self._items[task]
