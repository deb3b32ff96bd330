"""The heartbeat of a running sweep: its status, written every few seconds, and requests to stop it.

`lldeg status`, `lldeg view` and `lldeg stop` only read and write these files, so they work on any machine
that can reach the run directory.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import error_text

if TYPE_CHECKING:
    from orchestrator.rundir.progress import ReplicaProgress, SweepProgress, VariantProgress
    from orchestrator.rundir.store import RunStore

STATUS, STOP, EVENTS = "status.json", "stop", "events.jsonl"
SECONDS_BETWEEN_BEATS = 3.0
LONGEST = 1e10  # seconds, some three hundred years


class Heartbeat:
    """Writes the status for as long as the context lasts.

    Args:
        store: the run.
        progress: what to write; its `stop` is set when the run directory contains a request to stop.
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
        with suppress(OSError):
            self._store.send_logs()
        write_status(self._store, self._progress)

    def log(self, event: dict[str, Any]) -> None:
        """Append an event to the log; if the storage fails, only this event is lost."""
        with suppress(OSError):
            self._store.append_log(EVENTS, json.dumps({"time": time.time(), **event}))

    def _beat_until_the_end(self) -> None:
        while not self._ended.is_set():
            try:
                _write(self._store, self._progress, "at work")
                self._store.send_logs()
                if self._store.read_log(STOP):
                    self._progress.stop = "requested by lldeg stop"
                self._progress.heartbeat_error = None
            except OSError as error:
                self._progress.heartbeat_error = f"storage error, retrying: {error_text(error)}"
            self._ended.wait(SECONDS_BETWEEN_BEATS)


def write_status(store: RunStore, progress: SweepProgress) -> None:
    """Write what a submit ends with, if the storage takes it: the samples decide what is owed."""
    with suppress(OSError):
        _write(store, progress, "incomplete" if progress.owed else "complete")


def _write(store: RunStore, progress: SweepProgress, state: str) -> None:
    store.write_log(STATUS, json.dumps(_status(progress, state), indent=1).encode())


def _status(progress: SweepProgress, state: str) -> dict[str, Any]:
    return {
        "state": state,
        "time": time.time(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "seconds": time.monotonic() - progress.started,
        "seconds_left": progress.seconds_left(),
        "variants": {name: _counts(counts) for name, counts in progress.variants.items()},
        "replicas": [_replica(replica) for replica in list(progress.replicas.values())],
        "trouble": progress.problem,
        "notes": list(progress.notes),
    }


def _counts(counts: VariantProgress) -> dict[str, Any]:
    return {
        "planned": counts.planned,
        "done": counts.done,
        "errors": counts.errors,
        "lost": counts.lost,
        "not_needed": counts.not_needed,
        "loads": counts.loads,
        "replicas": counts.replicas,
        "refusal": counts.refusal,
        "prompt_tokens": counts.prompt_tokens,
        "output_tokens": counts.output_tokens,
        "samples_per_second": counts.samples_per_second,
        "tokens_per_second": counts.tokens_per_second,
        "looks": [standing.as_json() for standing in counts.standing],
    }


def _replica(replica: ReplicaProgress) -> dict[str, Any]:
    return {
        "number": replica.number,
        "variant": replica.variant,
        "state": replica.state,
        "node": replica.node,
        "samples": replica.samples,
        "trouble": replica.problem,
    }


class _Read(BaseModel):
    """What may be read: values of the right type and of a sensible size; other keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)


class _ReadLook(_Read):
    temperature: float
    look: int
    looks: int
    statistic: float | None
    boundary: float | None
    certified_statistic: float | None
    certified_boundary: float | None
    verdict: str | None = None


class _ReadCounts(_Read):
    planned: int = 0
    done: int = 0
    errors: int = 0
    lost: int = 0
    not_needed: int = Field(default=0, ge=0)
    loads: int = 0
    replicas: int = 0
    refusal: str | None = None
    prompt_tokens: int = Field(default=0, ge=0, lt=2**63)
    output_tokens: int = Field(default=0, ge=0, lt=2**63)
    samples_per_second: float = 0.0
    tokens_per_second: float = 0.0
    looks: list[_ReadLook] = Field(default_factory=list)


class _ReadReplica(_Read):
    number: int
    variant: str
    state: str
    node: str | None = None
    samples: int = 0
    trouble: str | None = None


class _ReadStatus(_Read):
    state: str | None = None
    seconds: float | None = None
    time: float | None = None
    host: str | None = None
    pid: int | None = None
    seconds_left: float | None = Field(default=None, ge=0, le=LONGEST)
    variants: dict[str, _ReadCounts] = Field(default_factory=dict)
    replicas: list[_ReadReplica] = Field(default_factory=list)
    trouble: str | None = None
    notes: list[str] = Field(default_factory=list)


def read_status(store: RunStore) -> dict[str, Any] | None:
    """The last status written; None if there is none, or it is damaged."""
    try:
        return _ReadStatus.model_validate_json(store.read_log(STATUS)).model_dump()
    except (OSError, ValueError):
        return None


def forget_stop(store: RunStore) -> None:
    """Drop a request that was meant for an earlier submit."""
    with suppress(OSError):
        store.remove_log(STOP)


def request_stop(store: RunStore) -> None:
    """Ask the submit that is running in a run directory to stop."""
    store.write_log(STOP, b"stop\n")
