"""A replica: a Ray actor with one loaded engine, which writes the answers to each block as a Parquet file.

An engine that needs several nodes has the replica on the first of them, and a *follower* on each other.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
import ray
from pyarrow import Schema, Table

from orchestrator.cluster.processes import end_children_with_this_process
from orchestrator.config.environment import set_library_environment
from orchestrator.config.schema import SamplingConfig
from orchestrator.config.variants import Variant
from orchestrator.engines.base import (
    Engine,
    EngineDiedError,
    EngineEndedError,
    NodeGroup,
    UnfitNodeError,
)
from orchestrator.engines.kind import EngineKind
from orchestrator.retry import retry_storage
from orchestrator.rundir.lease import owner
from orchestrator.rundir.manifest import software_id
from orchestrator.rundir.schema import SoftwareEntry, unlisted_scores
from orchestrator.rundir.store import RunStore, replica_log_name
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import Requests, TaskSpec, set_up_lm_eval
from orchestrator.workers.answer_block import answer_block, put_off_refused
from orchestrator.workers.replica_log import keep_log, say
from orchestrator.workers.sample_rows import samples_table
from orchestrator.workers.scoring_pool import ScoringPool
from orchestrator.workers.software_here import software_here
from orchestrator.workers.stopping import ReportedScores


@dataclass(frozen=True)
class Job:
    """What a replica needs to know of its variant.

    Attributes:
        tasks: leaf tasks by name.
        items: per task, a one-element tuple with the Ray reference to its requests (in a tuple so that Ray
            hands over the reference, not the items).
        owner: the submit it works for; see `lease.owner`.
        software: what the submit runs.
        scoring_processes: most of them at a time.
        think_end_token: text that ends the thinking part of an answer; None without one.
        must_fit: whether a prompt that does not fit is an error; else it is cut.
        deciding_metrics: the "metric,filter" whose scores its reports carry, by task; see `StoppingPolicy`.
    """

    variant: Variant
    sampling: SamplingConfig
    store_url: str
    tasks: dict[str, TaskSpec]
    items: dict[str, tuple[Any]]
    columns: Schema
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
    scores: ReportedScores | None = None
    put_off: tuple[Block, ...] = ()
    ended: EngineEndedError | None = None
    metrics: tuple[str, ...] = ()


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
        self._node = str(ray.get_runtime_context().get_node_id())
        self._store = RunStore(job.store_url, must_answer=False)
        self._items: dict[str, Requests] = {}
        self._scoring = ScoringPool(job.tasks, job.scoring_processes)
        self._engine: Engine | None = None
        self._software: str | None = None
        self._storage_error: str | None = None
        self._end_log = keep_log(self._store, replica_log_name(number, job.variant.name))

    def form_group(self, nodes: int) -> NodeGroup:
        """The group of nodes that this one leads: its followers get it as their argument."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        return nodes, ray.util.get_node_ip_address(), port

    def load(self, group: NodeGroup | None = None) -> Loaded:
        """Load the model.

        Args:
            group: the nodes of the engine, of which this is the first; None if it is the only one.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
            EngineDiedError: it could not be loaded now.
            UnfitNodeError: this node cannot see the run directory or the folder of the model.
        """
        started, job, node = time.monotonic(), self._job, self._node
        with ExitStack() as unless_loaded:
            unless_loaded.callback(self._end_log)  # the replica is then killed, and its last words tell why
            if not retry_storage(self._store.has_run, self._report_storage_error):
                raise UnfitNodeError(
                    f"node {node[:8]} cannot see the run directory {self._store.url}: set --run-dir to a "
                    "folder that all nodes share, or to a URL such as s3://bucket/run"
                )
            if Path(job.variant.model).is_absolute() and not Path(job.variant.model).exists():
                raise UnfitNodeError(f"node {node[:8]} has no model folder {job.variant.model}")
            self._scoring.start()
            kind = job.variant.kind if group is None else _on_this_node(job.variant.kind, group, 0)
            self._engine = kind.load(job.gpus)
            say(f"lldeg: {job.variant.name} loaded in {time.monotonic() - started:.1f} s")
            driver = job.software or {"versions": {}, "commit": None}
            software = software_here(driver, job.variant.kind, gpus=job.gpus, dtype=self._engine.dtype)
            self._software = software_id(software)
            unless_loaded.pop_all()
            return Loaded(self._engine.target_in_flight, node, software)

    def run(self, block: Block) -> BlockReport:
        """Answer, score and write a block; if the engine ends, as much of it as was answered by then.

        Raises:
            EngineDiedError: the engine is gone; nothing of the block is written.
        """
        if self._engine is None:
            raise RuntimeError("run() before load()")
        job, task = self._job, block.task
        if task not in self._items:
            (reference,) = job.items[task]
            self._items[task] = ray.get(reference)
        ends: list[EngineEndedError] = []
        answered = answer_block(
            block,
            partial(self._scoring.score, task),
            self._items[task],
            self._engine,
            job.sampling.of_task(job.tasks[task].sampling),
            think_end_token=job.think_end_token,
            must_fit=job.must_fit,
            on_end=ends.append,
        )
        samples, put_off = put_off_refused(block, answered)
        rows = samples_table(block, samples, job.columns)
        if samples:
            retry_storage(lambda: self._write(block, rows), self._report_storage_error)
        self._storage_error = None
        return BlockReport(
            samples=len(samples),
            errors=len(rows) - rows["error"].null_count,
            prompt_tokens=pc.sum(rows["prompt_tokens"]).as_py() or 0,
            output_tokens=pc.sum(rows["output_tokens"]).as_py() or 0,
            metrics=unlisted_scores(job.columns, rows.schema),
            scores=ReportedScores.of(samples, job.deciding_metrics.get(task)),
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

    def status(self) -> tuple[str, str | None]:
        """Ray's ID of this node, and what keeps answers from coming or being written (None: nothing)."""
        return self._node, self._storage_error or (self._engine.problem if self._engine else None)

    def _report_storage_error(self, reason: str) -> None:
        self._storage_error = f"storage error, retrying: {reason}"
        say(f"lldeg: {self._storage_error}")


class Follower:
    """The workers of an engine on one more node; they take their work from the first node, not from here.

    Args:
        job: that of the replica.
        number: that of the replica.
        rank: which of the replica's nodes this is; the first has 0.
    """

    def __init__(self, job: Job, number: int, rank: int) -> None:
        end_children_with_this_process()
        set_library_environment()
        self._job, self._rank = job, rank
        name = replica_log_name(number, f"{job.variant.name}-node-{rank}")
        self._end_log = keep_log(RunStore(job.store_url, must_answer=False), name)

    def follow(self, group: NodeGroup) -> None:
        """Run the workers for as long as they live.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
            EngineDiedError: they have ended; without them the engine cannot go on.
        """
        try:
            _on_this_node(self._job.variant.kind, group, self._rank).follow(self._job.gpus)
        finally:
            self._end_log()
        raise EngineDiedError(f"its workers on node {ray.get_runtime_context().get_node_id()[:8]} ended")


def _on_this_node(kind: EngineKind, group: NodeGroup, rank: int) -> EngineKind:
    """What this node of a group loads or follows; engines then listen at the address that Ray uses.

    Raises:
        EngineOptionError: the engine cannot be spread over nodes with these options.
    """
    address = ray.util.get_node_ip_address()
    os.environ["VLLM_HOST_IP"] = address
    for interface, held in psutil.net_if_addrs().items():
        if any(one.address == address for one in held):  # gloo's own choice is often a loopback
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    return kind.on_node(group, rank)
