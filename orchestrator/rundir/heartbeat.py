"""What a sweep at work tells its run directory every few seconds, and whether it was asked to stop.

Everything outside (`lldeg status`, `lldeg view`, `lldeg stop`) goes through these two files, so it works
wherever the run directory can be reached, whichever machine does the work.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from orchestrator.errors import error_text

if TYPE_CHECKING:
    from orchestrator.rundir.progress import SweepProgress, VariantProgress
    from orchestrator.rundir.store import RunStore

STATUS, STOP, EVENTS = "status.json", "stop", "events.jsonl"
SECONDS_BETWEEN_BEATS = 3.0


class Heartbeat:
    """Beats while a sweep is at work; a context manager.

    Args:
        store: the run.
        progress: what to tell; its `stop` is set when the run directory holds a request to stop.
    """

    def __init__(self, store: RunStore, progress: SweepProgress) -> None:
        self._store = store
        self._progress = progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_the_end, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=SECONDS_BETWEEN_BEATS)
        with suppress(OSError):  # what stands there tells the next submit enough
            self._tell(state="complete" if not self._progress.owed else "incomplete")

    def log(self, event: dict[str, Any]) -> None:
        """Note what happened; a storage that is away loses the note and nothing else."""
        with suppress(OSError):
            self._store.append_log(EVENTS, json.dumps({"time": time.time(), **event}))

    def _beat_until_the_end(self) -> None:
        while not self._ended.is_set():
            try:
                self._tell(state="at work")
                if self._store.read_log(STOP):
                    self._progress.stop = "it was asked to, by lldeg stop"
                self._progress.silenced = None
            except OSError as error:
                self._progress.silenced = f"the storage refuses: {error_text(error)}"
            self._ended.wait(SECONDS_BETWEEN_BEATS)

    def _tell(self, *, state: str) -> None:
        self._store.write_log(STATUS, json.dumps(_status(self._progress, state), indent=1).encode())
        self._store.send_logs()


def _status(progress: SweepProgress, state: str) -> dict[str, Any]:
    return {
        "state": state,
        "time": time.time(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "seconds": time.monotonic() - progress.started,
        "seconds_left": progress.seconds_left(),
        "variants": {name: _counts(counts) for name, counts in progress.variants.items()},
        "replicas": [asdict(replica) for replica in list(progress.replicas.values())],
        "trouble": progress.trouble,
        "notes": list(progress.notes),
    }


def _counts(counts: VariantProgress) -> dict[str, Any]:
    return {
        "planned": counts.planned,
        "done": counts.done,
        "errors": counts.errors,
        "lost": counts.lost,
        "loads": counts.loads,
        "replicas": counts.replicas,
        "refusal": counts.refusal,
        "samples_per_second": counts.samples_per_second,
        "tokens_per_second": counts.tokens_per_second,
    }


def read_status(store: RunStore) -> dict[str, Any] | None:
    """What the last beat told; None if there was none."""
    try:
        status = json.loads(store.read_log(STATUS) or "null")
    except ValueError:
        return None
    return status if isinstance(status, dict) else None


def forget_stop(store: RunStore) -> None:
    """Drop a request that was meant for a submit that is over."""
    with suppress(OSError):
        store.remove_log(STOP)


def request_stop(store: RunStore) -> None:
    """Ask the submit that is at work in a run to stop."""
    store.write_log(STOP, b"stop\n")
