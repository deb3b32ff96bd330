"""A replica: a Ray actor with one loaded engine, which writes the answers to each block as a Parquet file.

When its variant is answered, its process may become the replica of another and need not import all again.
An engine that needs several nodes has the replica on the first of them, and a follower on each other.
"""

import ctypes
import gc
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import psutil
import pyarrow.compute as pc
import ray
from pyarrow import Schema

from orchestrator.cluster.processes import end_children_with_this_process
from orchestrator.cluster.resources import ReplicaResources
from orchestrator.config.environment import set_library_environment
from orchestrator.config.load import Variant
from orchestrator.config.schema import PromptConfig, SamplingConfig
from orchestrator.engines import base
from orchestrator.engines.base import Engine, EngineDiedError, EngineEndedError, NodeGroup, UnfitNodeError
from orchestrator.engines.kind import EngineKind
from orchestrator.retry import retry_storage
from orchestrator.rundir.identity import digest
from orchestrator.rundir.lease import owner
from orchestrator.rundir.manifest import package_versions, software_id
from orchestrator.rundir.schema import BlockSpeed, HardwareEntry, SoftwareEntry, unlisted_scores
from orchestrator.rundir.store import RunStore, replica_log_name
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import Requests, TaskSpec, set_up_lm_eval
from orchestrator.workers.answer_block import (
    answer_block,
    put_off_refused,
    rows_of,
    score_answers,
    write_rows,
)
from orchestrator.workers.scoring_pool import ScoringPool
from orchestrator.workers.stopping import ReportedScores, reported_scores

SECONDS_BETWEEN_SENDS = 10.0
MAX_LOG_BYTES = 1 << 20  # of a log that has to be sent; its end is what matters
SECONDS_TO_ANSWER = 30
MOST_LEFT_GIB = 3.0
"""Memory of a process without a model, beyond which it is not used again: its libraries take 1 GiB."""
ASK = ("nvidia-smi", "--query-gpu=name,driver_version,memory.used", "--format=csv,noheader,nounits")
"""The driver's own tool: asking torch would take memory of the GPU for a process that does not compute."""


@dataclass(frozen=True)
class Job:
    """What a replica needs to know of its variant."""

    variant: Variant
    resources: ReplicaResources
    sampling: SamplingConfig
    prompt: PromptConfig
    store_url: str
    owner: str  # the submit it works for; see `lease.owner`
    tasks: Mapping[str, TaskSpec]  # leaf tasks
    items: Mapping[str, tuple[Any]]  # by task: Ray's reference to its requests; bare, Ray would fetch it
    columns: Schema
    software: SoftwareEntry  # what the submit runs
    deciding_metrics: Mapping[str, str]  # by task, whose scores reports carry; see `StoppingPolicy`
    scored: tuple[str, int] | None = None  # whose answers it scores by how many likeliest tokens, if any


@dataclass(frozen=True)
class Loaded:
    """A model has been loaded: requests to keep in flight, Ray's ID of its node, and what runs there."""

    target_in_flight: int
    node: str
    software: SoftwareEntry


@dataclass(frozen=True)
class BlockReport:
    """A block has been written."""

    samples: int  # rows written
    errors: int  # rows among them with an error
    prompt_tokens: int
    output_tokens: int
    scores: ReportedScores | None = None  # if the stopping policy wants them
    put_off: tuple[Block, ...] = ()  # of samples not written: see `put_off_refused`
    ended: EngineEndedError | None = None  # why the engine answers no more, if it does not
    metrics: tuple[str, ...] = ()  # every "metric,filter" of its rows that the manifest does not list


class Replica:
    """One loaded engine; `run` may be called from several threads, whose requests share its batches.

    Replicas of a submit are numbered. A *follower*, whose rank is not 0, has the workers of such an engine on
    one more node; they take their work from the first node, not from here.
    """

    def __init__(self, job: Job, number: int, rank: int = 0) -> None:
        end_children_with_this_process()
        set_library_environment()
        if not rank:
            set_up_lm_eval()
        self._rank, self._node = rank, str(ray.get_runtime_context().get_node_id())
        self._take(job, number)

    def _take(self, job: Job, number: int) -> None:
        """Become the replica of this number."""
        self._job, self._store = job, RunStore(job.store_url, must_answer=False)
        self._items: dict[str, Requests] = {}
        self._began, self._load_seconds, self._gpu_gib = time.monotonic(), 0.0, 0.0
        self._id, self._in_flight = uuid4().hex[:12], list[Block]()
        taken = job.resources  # of which beside a GPU half of the CPUs score; else they run the engine
        self._scoring = ScoringPool(job.tasks, max(1, int(taken.cpus) // 2) if taken.gpus else 1)
        self._engine: Engine | None = None
        self._software: str | None = None
        self._storage_error: str | None = None
        name = f"{job.variant.name}-node-{self._rank}" if self._rank else job.variant.name
        self._end_log = keep_log(self._store, replica_log_name(number, name))

    def form_group(self) -> NodeGroup:
        """The group of nodes that this one leads: its followers get it as their argument."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        return self._job.resources.nodes, ray.util.get_node_ip_address(), port

    def load(self, group: NodeGroup | None = None) -> Loaded:
        """Load the model, in a group of nodes of which this is the first; None if it is the only one.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
            EngineDiedError: it could not be loaded now.
            UnfitNodeError: this node cannot see the run directory or the folder of the model.
        """
        job, model = self._job, self._job.variant.model
        with ExitStack() as unless_loaded:
            unless_loaded.callback(self._end_log)  # the replica is then killed, and its last words tell why
            if not retry_storage(self._store.has_run, self._report_storage_error):
                raise UnfitNodeError(
                    f"node {self._node[:8]} cannot see the run directory {self._store.url}: set --run-dir to "
                    "a folder that all nodes share, or to a URL such as s3://bucket/run"
                )
            if Path(model).is_absolute() and not Path(model).exists():
                raise UnfitNodeError(f"node {self._node[:8]} has no model folder {model}")
            self._scoring.start()
            kind = job.variant.kind if group is None else self._on_this_node(group)
            kind.prepare(job.resources.gpus)
            began = time.monotonic()
            self._engine = kind.load(job.resources.gpus)
            self._load_seconds = time.monotonic() - began
            say(f"lldeg: {job.variant.name} loaded in {self._load_seconds:.1f} s")
            software, self._gpu_gib = software_here(job, self._engine)
            self._software = software_id(software)
            unless_loaded.pop_all()
            return Loaded(self._engine.target_in_flight, self._node, software)

    def load_next(self, job: Job, number: int) -> Loaded:
        """Load another model after `close`, as the replica of another number; raises as `load`."""
        self._take(job, number)
        return self.load()

    def run(self, block: Block) -> BlockReport:
        """Answer, score and write a block; if the engine ends, as much of it as was answered by then.

        An EngineDiedError says that it is gone; nothing of the block is written.
        """
        if self._engine is None:
            raise RuntimeError("run() before load()")
        job, task = self._job, block.task
        if task not in self._items:
            (reference,) = job.items[task]
            self._items[task] = ray.get(reference)
        ends: list[EngineEndedError] = []
        score, sampling = partial(self._scoring.score, task), job.sampling.of_task(job.tasks[task].sampling)
        engine, built, prompt = self._engine, self._items[task], job.prompt
        self._in_flight.append(block)
        try:
            if block.fidelity and job.scored is not None:
                baseline, top = job.scored
                given = self._store.read_answers(baseline, task, [item.item for item in block.items])
                answered = score_answers(block, given, top, built, engine, prompt=prompt, on_end=ends.append)
            else:
                answered = answer_block(
                    block, score, built, engine, sampling, prompt=prompt, on_end=ends.append
                )
        finally:
            self._in_flight.remove(block)
        ended, others = time.monotonic() - self._began, list(self._in_flight)
        shares = engine.log_likelihoods == base.SHARED
        requests = sum(one.samples * (1 if shares else one.choices) for one in others)
        full = 2 * requests >= engine.target_in_flight and not any(one.fidelity for one in others)
        samples, put_off = put_off_refused(block, answered)
        rows = rows_of(block, samples, job.columns)
        prompted = pc.sum(rows["prompt_tokens"]).as_py() or 0
        written = 0 if block.fidelity else pc.sum(rows["output_tokens"]).as_py() or 0
        taken, answers = job.resources, rows["error"].null_count
        speed: BlockSpeed = {
            "replica": self._id,
            "ended": ended,
            "full": full,
            "samples": answers,
            "prompt_tokens": prompted,
            "output_tokens": written,
            "load_seconds": self._load_seconds,
            "peak_gib": self._gpu_gib or resident_gib(),
            "gpus": taken.gpus * taken.nodes,
            "cpus": taken.cpus * taken.nodes,
        }

        def write() -> None:
            if owner(self._store) != job.owner:  # which may write the same samples in another block
                raise RuntimeError(f"another lldeg submit has taken over {self._store.url}")
            write_rows(self._store, block, rows, self._software, speed)

        if samples:
            retry_storage(write, self._report_storage_error)
        self._storage_error = None
        return BlockReport(
            samples=len(samples),
            errors=len(rows) - answers,
            prompt_tokens=prompted,
            output_tokens=written,
            scores=reported_scores(samples, job.deciding_metrics.get(task)),
            put_off=put_off,
            ended=next((type(end)(str(end)) for end in ends), None),
            metrics=() if block.fidelity else unlisted_scores(job.columns, rows.schema),
        )

    def close(self) -> bool:
        """Free the model; whether this process may load another, as hardly anything of this one is left."""
        if self._engine is not None:
            self._engine.close()
        self._engine, self._items = None, {}
        self._scoring.close()
        gc.collect()
        with suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)  # what it keeps for itself would count as the next model's
        left = psutil.Process().memory_info().rss / 2**30
        say(f"lldeg: {self._job.variant.name} freed, {left:.1f} GiB are left")
        self._end_log()
        torch = sys.modules.get("torch")
        own = torch is not None and torch.cuda.is_initialized()  # it holds memory of a GPU until it ends
        return not own and left < MOST_LEFT_GIB

    def status(self) -> tuple[str, str | None]:
        """Ray's ID of this node, and what keeps answers from coming or being written (None: nothing)."""
        return self._node, self._storage_error or (self._engine.problem if self._engine else None)

    def _report_storage_error(self, reason: str) -> None:
        self._storage_error = f"storage error, retrying: {reason}"
        say(f"lldeg: {self._storage_error}")

    def follow(self, group: NodeGroup) -> None:
        """Run the workers of this node for as long as they live.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
            EngineDiedError: they have ended; without them the engine cannot go on.
        """
        try:
            self._on_this_node(group).follow(self._job.resources.gpus)
        finally:
            self._end_log()
        raise EngineDiedError(f"its workers on node {self._node[:8]} ended")

    def _on_this_node(self, group: NodeGroup) -> EngineKind:
        """What this node of a group loads or follows; engines then listen at the address that Ray uses."""
        address = ray.util.get_node_ip_address()
        os.environ["VLLM_HOST_IP"] = address
        for interface, held in psutil.net_if_addrs().items():
            if any(one.address == address for one in held):  # gloo's own choice is often a loopback
                os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        return self._job.variant.kind.on_node(group, self._rank)


# its log, without which it continues if that cannot be written ----------------------------------------------


def keep_log(store: RunStore, name: str) -> Callable[[], None]:
    """Redirect what this process prints from now on, native libraries included, to a log of the run.

    On a disk it is written at once. For an object store it is kept on this node's disk, and the end of it is
    sent every few seconds, and once more when what is returned is called.
    """

    def print_to(stream: IO[bytes]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)

    if store.local_folder is not None:
        with suppress(OSError), store.open_log(name) as stream:
            print_to(stream)
        return lambda: None
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
    ended = threading.Event()

    def send() -> None:
        sent, last = 0, False
        while not last:
            last = ended.wait(SECONDS_BETWEEN_SENDS)
            if (size := os.fstat(spool.fileno()).st_size) != sent:
                with suppress(OSError):
                    end = os.pread(spool.fileno(), MAX_LOG_BYTES, max(0, size - MAX_LOG_BYTES))
                    store.write_log(name, end)
                    sent = size

    def end_log() -> None:
        ended.set()
        thread.join(timeout=SECONDS_BETWEEN_SENDS)

    thread = threading.Thread(target=send, name="send-log", daemon=True)
    print_to(spool)
    thread.start()
    return end_log


def say(text: str) -> None:
    """Print a line; if the disk under the log is full, the line is lost."""
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201 - the replica's own log


# what it runs, and on what ----------------------------------------------------------------------------------


def resident_gib() -> float:
    """Memory of this process and its children."""
    own, size = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended
            size += process.memory_info().rss
    return size / 2**30


def software_here(job: Job, engine: Engine) -> tuple[SoftwareEntry, float]:
    """What this process runs for a job, and where; GiB in use on its GPUs, 0 where that is not known."""
    versions, kind = package_versions(), job.variant.kind
    if "lldeg" in job.software["versions"]:  # which is sent to all nodes
        versions["lldeg"] = job.software["versions"]["lldeg"]
    host, used = digest(socket.gethostname())[:12], 0.0
    hardware: HardwareEntry = {"host": host, "device": None, "cuda": None, "driver": None}
    hardware["dtype"] = engine.dtype
    if kind.runs_on_cpu(job.resources.gpus) and not kind.served:  # the server's hardware is its own
        named = None
        with suppress(OSError):
            named = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"))
        hardware["device"] = named[1] if named else platform.machine()
    elif not kind.served:
        hardware["device"], hardware["driver"], used = _gpus()
        built_for = getattr(sys.modules.get("torch"), "version", None)  # CUDA or ROCm, if it uses torch
        hardware["cuda"] = getattr(built_for, "cuda", None) or getattr(built_for, "hip", None)
    commit, way = job.software.get("commit"), engine.log_likelihoods
    entry: SoftwareEntry = {"versions": versions, "commit": commit, "hardware": hardware}
    return {**entry, "log_likelihoods": way}, used


def _gpus() -> tuple[str | None, str | None, float]:
    """The models of the GPUs that this process sees, the version of their driver, and GiB in use on them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    command = [*ASK, *([f"--id={visible}"] if visible and "MIG" not in visible else [])]
    models: set[str] = set()
    drivers: set[str] = set()
    used = 0.0
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True)  # noqa: S603 - fixed words, and Ray's numbers
        parts = [[part.strip() for part in line.rsplit(", ", 2)] for line in ran.stdout.splitlines()]
        names, versions, sizes = zip(*parts, strict=True)
        models, drivers = set(names), set(versions)
        used = sum(int(size) for size in sizes if size.isdecimal()) / 1024  # some tell none
    except (OSError, subprocess.SubprocessError, ValueError):  # not of NVIDIA
        torch = sys.modules.get("torch")  # whose names serve where it computes in this process already
        if torch is not None and torch.cuda.is_initialized():
            models = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
    return ", ".join(sorted(models)) or None, ", ".join(sorted(drivers)) or None, used
