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
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from orchestrator.errors import error_text
from orchestrator.rundir.progress import Standing, SweepProgress
from orchestrator.rundir.store import RunStore

STATUS, STOP, EVENTS = "status.json", "stop", "events.jsonl"
SECONDS_BETWEEN_BEATS = 3.0
LONGEST = 1e10  # seconds, some three hundred years

State = Annotated[str, BeforeValidator(lambda word: "running" if word == "at work" else word)]
"""Of a sweep or a replica; earlier versions had other words, here and for two keys below."""


class _Part(BaseModel):
    """A part of the status: what has another type or no sensible size is damaged, other keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False, from_attributes=True)


class VariantStatus(_Part):
    """Counts of a variant, as `VariantProgress` has them."""

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
    looks: list[Standing] = Field(default_factory=list)


class ReplicaStatus(_Part):
    """A replica, as `ReplicaProgress` has it."""

    number: int
    variant: str
    state: State
    node: str | None = None
    samples: int = 0
    problem: str | None = Field(default=None, validation_alias=AliasChoices("problem", "trouble"))


class Status(_Part):
    """status.json: how far the submit is, or was, by its last heartbeat.

    Attributes:
        state: "running", "incomplete" or "complete".
        last_heartbeat: when it was written, in seconds since 1970.
        seconds: since the submit began.
        seconds_left: an estimate; None if there is none yet.
        problem: what keeps answers from being written; None if nothing does.
        notes: what was given up, and why.
    """

    state: State | None = None
    last_heartbeat: float | None = Field(
        default=None, validation_alias=AliasChoices("last_heartbeat", "time")
    )
    host: str | None = None
    pid: int | None = None
    seconds: float | None = None
    seconds_left: float | None = Field(default=None, ge=0, le=LONGEST)
    variants: dict[str, VariantStatus] = Field(default_factory=dict)
    replicas: list[ReplicaStatus] = Field(default_factory=list)
    problem: str | None = Field(default=None, validation_alias=AliasChoices("problem", "trouble"))
    notes: list[str] = Field(default_factory=list)


def read_status(store: RunStore) -> Status:
    """The last status written; nothing but defaults if there is none, or it is damaged."""
    try:
        return Status.model_validate_json(store.read_log(STATUS))
    except (OSError, ValueError):
        return Status()


def write_status(store: RunStore, progress: SweepProgress, state: str | None = None) -> None:
    """Write the status.

    Args:
        store: the run.
        progress: what to write.
        state: None for how a submit ends; whether samples are missing decides that.

    Raises:
        OSError: the storage does not take it.
    """
    status = Status(
        state=state or ("incomplete" if progress.owed else "complete"),
        last_heartbeat=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
        seconds=time.monotonic() - progress.started,
        seconds_left=progress.seconds_left(),
        variants={name: VariantStatus.model_validate(one) for name, one in progress.variants.items()},
        replicas=[ReplicaStatus.model_validate(one) for one in list(progress.replicas.values())],
        problem=progress.problem,
        notes=list(progress.notes),
    )
    store.write_log(STATUS, status.model_dump_json(indent=1).encode())


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
        with suppress(OSError):  # the samples decide what is missing
            write_status(self._store, self._progress)

    def log(self, event: dict[str, Any]) -> None:
        """Append an event to the log; if the storage fails, only this event is lost."""
        with suppress(OSError):
            self._store.append_log(EVENTS, json.dumps({"time": time.time(), **event}))

    def _beat_until_the_end(self) -> None:
        while not self._ended.is_set():
            try:
                write_status(self._store, self._progress, "running")
                self._store.send_logs()
                if self._store.read_log(STOP):
                    self._progress.stop = "requested by lldeg stop"
                self._progress.heartbeat_error = None
            except OSError as error:
                self._progress.heartbeat_error = f"storage error, retrying: {error_text(error)}"
            self._ended.wait(SECONDS_BETWEEN_BEATS)


def forget_stop(store: RunStore) -> None:
    """Drop a request that was meant for an earlier submit."""
    with suppress(OSError):
        store.remove_log(STOP)


def request_stop(store: RunStore) -> None:
    """Ask the submit that is running in a run directory to stop."""
    store.write_log(STOP, b"stop\n")
