"""What a replica and its engine print, kept in the run's own logs."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.store import RunStore

SECONDS_BETWEEN_SENDS = 10.0
MOST_BYTES = 1 << 20  # of a log that has to be sent; its end is what matters


def log_name(number: int, variant: str) -> str:
    """Name of a replica's log under logs/."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in variant)
    return f"replica-{number:03d}-{name}.log"


def keep_log(store: RunStore, name: str) -> None:
    """Send what this process prints from now on, in any language, to a log of the run.

    On a disk it is written there at once. For an object store it is kept on this node's disk, and the end of
    it is sent every few seconds.
    """
    folder = store.local_folder
    logs = folder / "logs" if folder is not None else Path(tempfile.mkdtemp(prefix="lldeg-"))
    logs.mkdir(parents=True, exist_ok=True)
    stream = (logs / name).open("a", buffering=1)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    if folder is None:
        threading.Thread(target=_send, args=(store, logs / name), name="send-log", daemon=True).start()


def _send(store: RunStore, path: Path) -> None:
    pause, sent = threading.Event(), 0
    while not pause.wait(SECONDS_BETWEEN_SENDS):
        size = path.stat().st_size
        if size == sent:
            continue
        with path.open("rb") as stream, suppress(OSError):
            stream.seek(max(0, size - MOST_BYTES))
            store.write_log(path.name, stream.read())
            sent = size
