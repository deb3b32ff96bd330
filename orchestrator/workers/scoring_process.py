"""The scoring process: opens tasks and scores the answers that a replica sends.

Scoring runs in the main thread, because code of tasks (math_verify, lm-eval's own `timeout`) sets alarms,
which Python allows only there. The number of the sample in progress is in memory that the replica can read:
code that never ends may hold the interpreter, and could then say nothing itself. Results are sent as JSON,
since a process that runs code of a model must not be trusted with pickles.
"""

import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from orchestrator.cluster.code_shipping import shipped_tasks
from orchestrator.errors import error_text
from orchestrator.sweep.tasks import Answered, SweepTask, TaskLibrary, TaskSpec, set_up_lm_eval
from orchestrator.workers.sandbox import Sandbox

SECONDS_BETWEEN_RESULTS = 0.2
COUNTER_BYTES = 8
NOT_BEGUN = -1


class Counter:
    """A number in memory that two processes share through a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, COUNTER_BYTES)
        self.value = NOT_BEGUN

    @property
    def value(self) -> int:
        """The number."""
        return int.from_bytes(self._memory[:], sys.byteorder, signed=True)

    @value.setter
    def value(self, number: int) -> None:
        self._memory[:] = number.to_bytes(COUNTER_BYTES, sys.byteorder, signed=True)


class _Tasks:
    """The tasks of a variant, each opened when it is first needed."""

    def __init__(self, specs: Mapping[str, TaskSpec]) -> None:
        shipped = shipped_tasks()
        moved = {"include_path": shipped} if shipped else {}
        self._specs = {name: spec.model_copy(update=moved) for name, spec in specs.items()}
        self.folders = {folder for spec in self._specs.values() for folder in spec.include_path}
        self._open: dict[str, SweepTask] = {}
        self._library = cache(TaskLibrary)

    def open(self, name: str) -> SweepTask:
        """A task, ready to score."""
        if name not in self._open:
            spec = self._specs[name]
            self._open[name] = self._library(spec.include_path, spec.unsafe_code).open(spec)
        return self._open[name]

    def open_ahead(self, stop: Callable[[], bool]) -> None:
        """Open the tasks, or as many as there is time for."""
        for name in self._specs:
            if stop():
                return
            try:
                self.open(name)
            except Exception:  # noqa: BLE001 - code of a task's author; the batch that needs it raises it again
                return


def serve(connection: Connection, counter: Counter, sandbox: Sandbox | None) -> None:
    """Score batches until the replica closes the connection or dies.

    Before each batch a message says whether its task can be opened: null, or an error.
    """
    set_up_lm_eval()
    tasks = _Tasks(connection.recv())
    tasks.open_ahead((lambda: False) if sandbox else connection.poll)  # later a sandbox can open none
    while True:
        counter.value = NOT_BEGUN
        name, batch = connection.recv()
        try:
            task = tasks.open(name)
        except Exception as error:  # noqa: BLE001 - code of a task's author; the replica gets it as its own error
            _send(connection, error_text(error))
            if sandbox and sandbox.entered:
                return  # another process may be able to
            continue
        if sandbox and not sandbox.entered and (refused := sandbox.enter(tasks.folders)):
            print(  # noqa: T201 - the replica's log
                f"lldeg: this system does not allow a sandbox everything: code that the model wrote runs "
                f"without {', '.join(refused)}.",
                flush=True,
            )
        counter.value = 0
        _send(connection, None)
        _score(task, batch, connection, counter, sandbox)


def _score(
    task: SweepTask,
    batch: Sequence[Answered],
    connection: Connection,
    counter: Counter,
    sandbox: Sandbox | None,
) -> None:
    """Score a batch; results are sent together, every now and then."""
    results: list[dict[str, Any]] = []
    sent = time.monotonic()
    for number, result in enumerate(task.score_each(batch), start=1):
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
    connection, counter = Connection(int(sys.argv[1])), Counter(int(sys.argv[2]))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(connection, counter, sandbox)
    sys.stdout.flush()
    os._exit(0)  # threads that a task has left behind must not keep the process
