"""The scoring process: opens tasks and scores the answers that a replica sends.

Scoring runs in the main thread, because code of tasks (math_verify, lm-eval's own `timeout`) sets alarms,
which Python allows only there. The number of the sample in progress is in memory that the replica can read:
code that never ends may hold the interpreter, and could then say nothing itself. Results are sent as JSON,
since a process that runs code of a model must not be trusted with pickles.
"""

import ctypes
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from orchestrator.cluster.code_shipping import shipped_tasks
from orchestrator.errors import error_text
from orchestrator.sweep.tasks import SweepTask, TaskLibrary, TaskSpec, set_up_lm_eval
from orchestrator.workers.sandbox import Sandbox

SECONDS_BETWEEN_RESULTS = 0.2
COUNTER_BYTES = 8
NOT_BEGUN = -1


def shared_counter(descriptor: int) -> ctypes.c_int64:
    """A number in memory that two processes share through a file descriptor; it begins as `NOT_BEGUN`."""
    counter = ctypes.c_int64.from_buffer(mmap.mmap(descriptor, COUNTER_BYTES))
    counter.value = NOT_BEGUN
    return counter


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
        counter.value = NOT_BEGUN
        name, batch = connection.recv()
        try:
            task = opened(name)
        except Exception as error:  # noqa: BLE001 - code of a task's author; the replica gets it as its own error
            _send(connection, error_text(error))
            if sandbox and sandbox.entered:
                return  # another process may be able to
            continue
        if sandbox and not sandbox.entered:
            _enter(sandbox, {folder for spec in specs.values() for folder in spec.include_path})
        counter.value = 0
        _send(connection, None)
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


def _enter(sandbox: Sandbox, readable: Iterable[str]) -> None:
    if refused := sandbox.enter(readable):
        print(  # noqa: T201 - the replica's log
            f"lldeg: this system does not allow a sandbox everything: code that the model wrote runs without "
            f"{', '.join(refused)}.",
            flush=True,
        )


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
