"""The scoring processes of a replica.

Each gets whole batches, so that a cheap score costs a share of one message; a second one is started when the
first is busy. A sample that takes too long, or that ends its process, becomes an error; a new process then
scores the rest of the batch as if nothing had happened. Tasks that run code of the model have sandboxed
processes of their own.

A process scores in its main thread, because code of tasks (math_verify, lm-eval's own `timeout`) sets alarms,
which Python allows only there. The number of the sample in progress is in memory that the replica can read:
code that never ends may hold the interpreter, and could then say nothing itself. Results are sent as JSON,
since a process that runs code of a model must not be trusted with pickles.
"""

import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import cache
from multiprocessing.connection import Connection, Pipe
from queue import LifoQueue
from typing import Any

from orchestrator.cluster.code_shipping import shipped_tasks
from orchestrator.cluster.processes import temporary_folder
from orchestrator.errors import error_text
from orchestrator.sweep.tasks import Answered, Scored, SweepTask, TaskLibrary, TaskSpec, set_up_lm_eval
from orchestrator.workers.sandbox import Sandbox, environment

SECONDS_PER_SAMPLE = 60.0
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_RESULTS = 0.2
SECONDS_TO_END = 5.0
MOST_STARTS = 3  # without a result and without a sample to blame
MOST_BYTES = 1 << 28  # of one message of results
COUNTER_BYTES = 8
FORGED = (EOFError, OSError, ValueError, TypeError, AttributeError, LookupError)
"""What receiving raises when the process has ended, or sent what the protocol does not know."""
CODE = "from orchestrator.workers.scoring_pool import main; main()"
SANDBOXED_CODE = """
import sys
from orchestrator.workers.sandbox import begin
sandbox = begin(sys.argv[3])  # before anything starts a thread
from orchestrator.workers.scoring_pool import main
main(sandbox)
"""


class ScoringError(Exception):
    """A batch cannot be scored: its task cannot be opened, or scoring processes die before they begin."""


class _Process:
    """One process, started when it is needed."""

    def __init__(self, tasks: Mapping[str, TaskSpec], seconds_per_sample: float, *, sandboxed: bool) -> None:
        self._tasks = dict(tasks)
        self._seconds = seconds_per_sample
        self._sandboxed = sandboxed
        self._until_the_end = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, unless it lives."""
        if self._process is not None and self._process.poll() is None:
            return
        self.end()
        code, further, variables = CODE, [], dict(os.environ)
        if self._sandboxed:
            own = self._until_the_end.enter_context(temporary_folder())
            own.chmod(0o711)  # the sandbox is another user's
            (own / "code").mkdir(mode=0o700)
            code, further = SANDBOXED_CODE, [str(own / "code")]
            variables = environment(further[0])
        ours, theirs = Pipe()
        memory = os.memfd_create("lldeg-scoring")
        os.ftruncate(memory, COUNTER_BYTES)
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and fixed words
            [sys.executable, "-c", code, str(theirs.fileno()), str(memory), *further],
            pass_fds=(theirs.fileno(), memory),
            env={**variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
        )
        self._connection, self._counter = ours, shared_counter(memory)
        theirs.close()
        os.close(memory)
        with suppress(OSError):  # it is dead already, as the first batch will find out
            self._connection.send(self._tasks)

    def score(self, task: str, batch: Sequence[Answered]) -> tuple[list[Scored], str | None, int | None]:
        """Have a batch scored, until it is done or the process ends.

        Returns results of its first samples and, if the process ended early, why and which sample ended it
        (None if none had begun). A task that cannot be opened is a `ScoringError`.
        """
        self.start()
        results: list[Scored] = []
        begun = False
        try:
            self._connection.send((task, batch))
            error = self._receive()  # opening a task may take as long as it needs
            if error is not None:
                raise ScoringError(str(error))
            begun, reached, since = True, 0, time.monotonic()
            while len(results) < len(batch) and time.monotonic() - since <= self._seconds:
                if self._connection.poll(SECONDS_BETWEEN_LOOKS):
                    results += [_result(one) for one in self._receive()]
                if reached < self._counter.value <= len(batch):
                    reached, since = self._counter.value, time.monotonic()
            if len(results) >= len(batch):
                return results, None, None
            reason = f"scoring took longer than {self._seconds:g} s"
        except FORGED:
            reason = "scoring ended its process"
        culprit = min(max(self._counter.value, len(results)), len(batch) - 1)
        self.end()
        return results, reason, culprit if begun else None

    def _receive(self) -> Any:
        return json.loads(self._connection.recv_bytes(MOST_BYTES))

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_TO_END)
            self._process = None
            self._connection.close()
        self._until_the_end.close()


def _result(fields: dict[str, Any]) -> Scored:
    """A result from its message; a forged one must not be more than wrong."""
    if fields.get("reason") is not None:
        return Scored(reason=str(fields["reason"]))
    scores = {str(name): float(score) for name, score in fields["scores"].items()}
    return Scored(**{**fields, "scores": scores})


class ScoringPool:
    """The scoring processes of a replica; its methods may be called from several threads.

    There are at most `size` for the tasks of the variant, and as many for those that run code of a model.
    """

    def __init__(
        self, tasks: Mapping[str, TaskSpec], size: int, seconds_per_sample: float = SECONDS_PER_SAMPLE
    ) -> None:
        self._sandboxed = {name: spec.unsafe_code for name, spec in tasks.items()}
        self._free: dict[bool, LifoQueue[_Process]] = {}  # by sandboxed or not; the last one used is warm
        self._all: list[_Process] = []
        for sandboxed in set(self._sandboxed.values()):
            own = {name: spec for name, spec in tasks.items() if spec.unsafe_code == sandboxed}
            self._free[sandboxed] = LifoQueue()
            for _ in range(size):
                self._all.append(_Process(own, seconds_per_sample, sandboxed=sandboxed))
                self._free[sandboxed].put(self._all[-1])

    def start(self) -> None:
        """Start a process of each kind ahead of the first batch; it opens the tasks meanwhile."""
        for free in self._free.values():
            process = free.get()
            process.start()
            free.put(process)

    def score(self, task: str, batch: Sequence[Answered]) -> list[Scored]:
        """Score a batch, one result for each sample, in spite of samples that end the process.

        A ScoringError if the task cannot be opened, or no process begins.
        """
        if not batch:
            return []
        free = self._free[self._sandboxed[task]]
        results: dict[int, Scored] = {}
        process, fruitless = free.get(), 0
        try:
            while left := [number for number in range(len(batch)) if number not in results]:
                scored, reason, culprit = process.score(task, [batch[number] for number in left])
                results |= zip(left, scored, strict=False)
                if culprit is not None:
                    results[left[culprit]] = Scored(reason=f"ScoringStopped: {reason}")
                fruitless = 0 if scored or culprit is not None else fruitless + 1
                if fruitless == MOST_STARTS:
                    raise ScoringError(f"no process can score task '{task}': {reason}")
        finally:
            free.put(process)
        return [results[number] for number in range(len(batch))]

    def close(self) -> None:
        """End all processes."""
        for process in self._all:
            process.end()


# the process itself -----------------------------------------------------------------------------------------


def shared_counter(descriptor: int) -> ctypes.c_int64:
    """A number in memory that two processes share through a file descriptor."""
    return ctypes.c_int64.from_buffer(mmap.mmap(descriptor, COUNTER_BYTES))


def task_opener(specs: Mapping[str, TaskSpec], stop: Callable[[], bool]) -> Callable[[str], SweepTask]:
    """What opens a task, once, so that it can score; as many as there is time for are opened ahead."""
    library = cache(TaskLibrary)

    @cache
    def opened(name: str) -> SweepTask:
        spec = specs[name]
        return library(spec.include_path, spec.unsafe_code).open(spec)

    for name in specs:
        if stop():
            break
        try:
            opened(name)
        except Exception:  # noqa: BLE001 - code of a task's author; the batch that needs it raises it again
            break
    return opened


def serve(connection: Connection, counter: ctypes.c_int64, sandbox: Sandbox | None) -> None:
    """Score batches until the replica closes the connection or dies.

    Before each batch a message says whether its task can be opened: null, or an error. Results are sent
    together, every now and then.
    """
    set_up_lm_eval()
    specs, shipped = connection.recv(), shipped_tasks()
    if shipped:
        specs = {name: spec.model_copy(update={"include_path": shipped}) for name, spec in specs.items()}
    opened = task_opener(specs, (lambda: False) if sandbox else connection.poll)  # later a sandbox opens none
    while True:
        name, batch = connection.recv()
        try:
            task = opened(name)
        except Exception as error:  # noqa: BLE001 - code of a task's author; the replica gets it as its own error
            _send(connection, error_text(error))
            if sandbox and sandbox.entered:
                return  # another process may be able to
            continue
        readable = {folder for spec in specs.values() for folder in spec.include_path}
        if sandbox and not sandbox.entered and (refused := sandbox.enter(readable)):
            print(  # noqa: T201 - the replica's log
                "lldeg: this system does not allow a sandbox everything: code that the model wrote runs "
                f"without {', '.join(refused)}.",
                flush=True,
            )
        counter.value = 0
        _send(connection, None)
        results: list[dict[str, Any]] = []
        sent, here = time.monotonic(), os.getpid()
        for number, result in enumerate(task.score_each(batch), start=1):
            if os.getpid() != here:  # code has forked, and its copy of this process would go on as this one
                os._exit(1)
            results.append(asdict(result))
            if sandbox:
                sandbox.end_others()
            counter.value = number
            if number == len(batch) or time.monotonic() - sent > SECONDS_BETWEEN_RESULTS:
                _send(connection, results)
                results, sent = [], time.monotonic()


def _send(connection: Connection, message: Any) -> None:
    connection.send_bytes(json.dumps(message).encode())


def main(sandbox: Sandbox | None = None) -> None:
    """Serve on the descriptors that the replica has passed on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the driver, which ends the replicas
    connection, counter = Connection(int(sys.argv[1])), shared_counter(int(sys.argv[2]))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(connection, counter, sandbox)
    sys.stdout.flush()
    os._exit(0)  # threads that a task has left behind must not keep the process
