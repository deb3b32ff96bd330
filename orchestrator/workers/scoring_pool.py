"""The scoring processes of a replica.

Each gets whole batches, so that a cheap score costs a share of one message; a second one is started when the
first is busy. A sample that takes too long, or that ends its process, becomes an error; a new process then
scores the rest of the batch as if nothing had happened. Tasks that run code of the model have sandboxed
processes of their own.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Pipe
from queue import LifoQueue
from typing import Any

from orchestrator.cluster.processes import temporary_folder
from orchestrator.sweep.tasks import Answered, Scored, TaskSpec
from orchestrator.workers.sandbox import environment
from orchestrator.workers.scoring_process import COUNTER_BYTES, shared_counter

SECONDS_PER_SAMPLE = 60.0
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 5.0
MOST_STARTS = 3  # without a result and without a sample to blame
MOST_BYTES = 1 << 28  # of one message of results
FORGED = (EOFError, OSError, ValueError, TypeError, AttributeError, LookupError)
"""What receiving raises when the process has ended, or sent what the protocol does not know."""
CODE = "from orchestrator.workers.scoring_process import main; main()"
SANDBOXED_CODE = """
import sys
from orchestrator.workers.sandbox import begin
sandbox = begin(sys.argv[3])  # before anything starts a thread
from orchestrator.workers.scoring_process import main
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
        try:
            self._connection.send((task, batch))
            error = self._receive()  # opening a task may take as long as it needs
            if error is not None:
                raise ScoringError(str(error))
            reached, since = 0, time.monotonic()
            while len(results) < len(batch) and time.monotonic() - since <= self._seconds:
                if self._connection.poll(SECONDS_BETWEEN_LOOKS):
                    results += [_result(one) for one in self._receive()]
                if self._counter.value != reached:
                    reached, since = self._counter.value, time.monotonic()
            if len(results) >= len(batch):
                return results, None, None
            reason = f"scoring took longer than {self._seconds:g} s"
        except FORGED:
            reason = "scoring ended its process"
        culprit = min(max(self._counter.value, len(results)), len(batch) - 1)
        begun = self._counter.value >= 0
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

        Raises:
            ScoringError: the task cannot be opened, or no process begins.
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
