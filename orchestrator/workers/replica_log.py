"""The log of a replica: everything that it and its engine print.

A replica never fails because of its log: if it cannot be written, the replica continues without it.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from orchestrator.rundir.store import RunStore

SECONDS_BETWEEN_SENDS = 10.0
MAX_BYTES = 1 << 20  # of a log that has to be sent; its end is what matters


def keep_log(store: RunStore, name: str) -> Callable[[], None]:
    """Redirect what this process prints from now on, native libraries included, to a log of the run.

    On a disk it is written at once. For an object store it is kept on this node's disk, and the end of it is
    sent every few seconds.

    Returns:
        what to call at the end, so that the last lines are sent too.
    """
    if store.local_folder is None:
        return _keep_sent(store, name)
    with suppress(OSError), store.open_log(name) as stream:
        _print_to(stream)
    return lambda: None


def say(text: str) -> None:
    """Print a line; if the disk under the log is full, the line is lost."""
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201 - the replica's own log


def _print_to(stream: IO[bytes]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)


def _keep_sent(store: RunStore, name: str) -> Callable[[], None]:
    """Copy the end of what is printed to a log on an object store, now and then and at the end."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
    ended = threading.Event()

    def send() -> None:
        sent, last = 0, False
        while not last:
            last = ended.wait(SECONDS_BETWEEN_SENDS)
            if (size := os.fstat(spool.fileno()).st_size) != sent:
                with suppress(OSError):
                    store.write_log(name, os.pread(spool.fileno(), MAX_BYTES, max(0, size - MAX_BYTES)))
                    sent = size

    def end() -> None:
        ended.set()
        thread.join(timeout=SECONDS_BETWEEN_SENDS)

    thread = threading.Thread(target=send, name="send-log", daemon=True)
    _print_to(spool)
    thread.start()
    return end
