"""The scoring process: opens tasks and scores the answers that a replica sends.

Scoring runs in the main thread, because code of tasks (math_verify, lm-eval's own `timeout`) sets alarms,
which Python allows only there. The number of the sample in progress is in memory that the replica can read:
code that never ends may hold the interpreter, and could then say nothing itself.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from orchestrator.cluster.code_shipping import shipped_tasks
from orchestrator.errors import error_text
from orchestrator.sweep.tasks import TaskLibrary, set_up_lm_eval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.sweep.tasks import Answered, Scored, SweepTask, TaskSpec, Unscorable

    Results = list[Scored | Unscorable]

SECONDS_BETWEEN_RESULTS = 0.2
COUNTER_BYTES = 8
NOT_BEGUN = -1


@dataclass(frozen=True)
class Opened:
    """The task of a batch is open, or cannot be opened; scoring begins."""

    error: str | None = None


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
        self._specs = specs
        self._open: dict[str, SweepTask] = {}
        self._libraries: dict[tuple[tuple[str, ...], bool], TaskLibrary] = {}

    def open(self, name: str) -> SweepTask:
        """A task, ready to score."""
        if name not in self._open:
            spec = self._specs[name]
            spec = replace(spec, include_path=shipped_tasks() or spec.include_path)
            library = self._libraries.setdefault(
                (spec.include_path, spec.unsafe_code), TaskLibrary(spec.include_path, spec.unsafe_code)
            )
            self._open[name] = library.open(spec)
        return self._open[name]

    def open_ahead(self, connection: Connection) -> None:
        """Open the tasks until the first batch arrives."""
        for name in self._specs:
            if connection.poll():
                return
            try:
                self.open(name)
            except Exception:  # noqa: BLE001 - code of a task's author; the batch that needs it raises it again
                return


def serve(connection: Connection, counter: Counter) -> None:
    """Score batches until the replica closes the connection or dies."""
    set_up_lm_eval()
    tasks = _Tasks(connection.recv())
    tasks.open_ahead(connection)
    while True:
        counter.value = NOT_BEGUN
        name, batch = connection.recv()
        try:
            task = tasks.open(name)
        except Exception as error:  # noqa: BLE001 - code of a task's author; the replica gets it as its own error
            connection.send(Opened(error_text(error)))
            continue
        counter.value = 0
        connection.send(Opened())
        _score(task, batch, connection, counter)


def _score(task: SweepTask, batch: Sequence[Answered], connection: Connection, counter: Counter) -> None:
    """Score a batch; results are sent together, every now and then."""
    results: Results = []
    sent = time.monotonic()
    for number, result in enumerate(task.score_each(batch), start=1):
        results.append(result)
        counter.value = number
        if time.monotonic() - sent > SECONDS_BETWEEN_RESULTS:
            connection.send(results)
            results, sent = [], time.monotonic()
    if results:
        connection.send(results)


def main() -> None:
    """Serve on the descriptors that the replica has passed on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the driver, which ends the replicas
    connection, counter = Connection(int(sys.argv[1])), Counter(int(sys.argv[2]))
    try:
        serve(connection, counter)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.stdout.flush()
        os._exit(0)  # threads that a task has left behind must not keep the process
