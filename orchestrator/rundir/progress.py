"""The progress of a sweep: counts that the dispatcher keeps, and the heartbeat that writes them for others.

`lldeg status`, `lldeg view` and `lldeg stop` only read and write files of the heartbeat, so they work on any
machine that can reach the run directory.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf, isinf
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter

from orchestrator.errors import error_text
from orchestrator.rundir.store import RunStore

STATUS, STOP, EVENTS = "status.json", "stop", "events.jsonl"
SECONDS_BETWEEN_BEATS = 3.0
LONGEST = 1e10  # seconds, some three hundred years

State = Annotated[str, BeforeValidator(lambda word: "running" if word == "at work" else word)]
"""Of a sweep or a replica; earlier versions had other words, here and for two keys below."""
SECONDS_TO_SETTLE = 2.0  # before that a rate says little
_Infinite = Annotated[
    float, Field(allow_inf_nan=True), PlainSerializer(lambda value: None if isinf(value) else value)
]
Statistic = Annotated[_Infinite, BeforeValidator(lambda value: -inf if value is None else value)]
Boundary = Annotated[_Infinite, BeforeValidator(lambda value: inf if value is None else value)]
"""A statistic, and a boundary that it must reach; infinite (null in JSON) where nothing is tested."""


@dataclass(frozen=True)
class Standing:
    """A variant at one temperature, after its last look, in a sweep that stops early.

    Statistics are on the normal scale; those at a boundary or beyond decide.

    Attributes:
        look: number of the look, from 1 on.
        looks: how many are planned.
        statistic: evidence that the variant is worse.
        boundary: from which on it is degraded.
        certified_statistic: evidence that the drop is below the margin.
        certified_boundary: from which on it is certified; infinite where that is not tested yet.
        verdict: "degraded", "certified" or "inconclusive"; None while it goes on.
    """

    temperature: float
    look: int
    looks: int
    statistic: Statistic
    boundary: Boundary
    certified_statistic: Statistic
    certified_boundary: Boundary
    verdict: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON values; what is infinite is null."""
        values: dict[str, Any] = _STANDING.dump_python(self, mode="json")
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Standing:
        """From what `as_json` gave."""
        return _STANDING.validate_python(values)


_STANDING = TypeAdapter(Standing)


@dataclass
class VariantProgress:
    """Counts of one variant.

    Attributes:
        planned: samples of the sweep.
        found: of these, answered before this submit.
        found_errors: of the rows found, those with an error.
        written: rows written by this submit, errors included.
        errors: of the rows written, those with an error.
        lost: samples left owed because replicas failed on their blocks too often.
        asked_again: samples asked for once more, since a server had refused them or a replica had failed.
        not_needed: samples dropped from the plan because their variant and temperature were decided early.
        prompt_tokens, output_tokens: over the rows written.
        loads: how often the model was loaded.
        load_seconds: time spent loading it.
        busy_seconds: time its engines were loaded, summed over replicas.
        replicas: engines loaded or loading now.
        refusal: why the engine cannot run this variant; None if it can.
        looks: the last one at each temperature, if the sweep stops early.
        first_work, last_work: when the first block was handed out and the last one written, monotonic clock.
    """

    planned: int
    found: int = 0
    found_errors: int = 0
    written: int = 0
    errors: int = 0
    lost: int = 0
    asked_again: int = 0
    not_needed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    busy_seconds: float = 0.0
    replicas: int = 0
    refusal: str | None = None
    looks: tuple[Standing, ...] = ()
    first_work: float | None = None
    last_work: float | None = None

    @property
    def done(self) -> int:
        """Samples in the run directory."""
        return self.found + self.written

    @property
    def owed(self) -> int:
        """Samples that are still to be answered."""
        return self.planned - self.done - self.not_needed

    @property
    def samples_per_second(self) -> float:
        """Rate since the first block was handed out; 0 before anything was written."""
        return self._rate(self.written)

    @property
    def tokens_per_second(self) -> float:
        """Tokens generated per second."""
        return self._rate(self.output_tokens)

    def _rate(self, count: int) -> float:
        if self.first_work is None or self.last_work is None or self.last_work <= self.first_work:
            return 0.0
        return count / (self.last_work - self.first_work)


@dataclass
class ReplicaProgress:
    """One replica.

    Attributes:
        number: counts the replicas of a submit from 1.
        state: "loading" or "running".
        node: Ray's ID of its node; None while it loads.
        samples: rows it has written.
        problem: why it writes none now; None if it has no problem.
        in_flight: samples of the blocks it works on.
        loaded: when its model was loaded, on the monotonic clock; None while it loads.
    """

    number: int
    variant: str
    state: str = "loading"
    node: str | None = None
    samples: int = 0
    problem: str | None = None
    in_flight: int = 0
    loaded: float | None = None


@dataclass
class SweepProgress:
    """Counts of all variants, and messages of the dispatcher.

    Attributes:
        replicas: engines loaded or loading now, by number.
        metrics: scores that answers have and the manifest does not list, by task.
        notes: what was given up, and why.
        heartbeat_error: why the heartbeat cannot be written; None if it can.
        waiting: what all blocks wait for; None if a replica is loaded or loading.
        stop: set to a reason to make the dispatcher stop.
    """

    variants: dict[str, VariantProgress]
    started: float = field(default_factory=time.monotonic)
    replicas: dict[int, ReplicaProgress] = field(default_factory=dict)
    metrics: dict[str, set[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    heartbeat_error: str | None = None
    waiting: str | None = None
    stop: str | None = None

    @property
    def owed(self) -> int:
        """Samples not yet written."""
        return sum(variant.owed for variant in self.variants.values())

    @property
    def problem(self) -> str | None:
        """What keeps answers from being written now; None if nothing does."""
        problems = [replica.problem for replica in list(self.replicas.values())]
        return next(filter(None, [*problems, self.heartbeat_error, self.waiting]), None)

    @property
    def written(self) -> int:
        """Rows written by this submit."""
        return sum(variant.written for variant in self.variants.values())

    def taken_over(self) -> None:
        """Stop, because another submit has taken over the run."""
        self.stop = (
            "another lldeg submit has taken over the run, because this one did not renew its lease in time"
        )

    def seconds_left(self) -> float | None:
        """Estimate from the rate of the engines once loaded, and the loads that are still to come.

        Blocks come back whole, so half of the samples in flight count as done; without that the first
        estimates, when hardly any block has come back, would be several times too long.

        Returns:
            seconds; None before engines have worked for some seconds and written something.
        """
        now = time.monotonic()
        engines = [replica for replica in list(self.replicas.values()) if replica.loaded is not None]
        worked = sum(variant.busy_seconds for variant in self.variants.values())
        worked += sum(now - replica.loaded for replica in engines if replica.loaded is not None)
        if not self.written or worked < SECONDS_TO_SETTLE:
            return None
        in_flight = sum(replica.in_flight for replica in engines) / 2
        work = (self.owed - in_flight) * worked / (self.written + in_flight)
        loads = sum(variant.loads for variant in self.variants.values())
        at_work = {replica.variant for replica in engines}
        to_load = sum(
            counts.owed > 0 and counts.refusal is None and name not in at_work
            for name, counts in self.variants.items()
        )
        load_seconds = sum(variant.load_seconds for variant in self.variants.values()) / max(1, loads)
        return (work + to_load * load_seconds) / max(1, len(engines))


class _StatusPart(BaseModel):
    """A part of the status: what has another type or no sensible size is damaged, other keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False, from_attributes=True)


class VariantStatus(_StatusPart):
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


class ReplicaStatus(_StatusPart):
    """A replica, as `ReplicaProgress` has it."""

    number: int
    variant: str
    state: State
    node: str | None = None
    samples: int = 0
    problem: str | None = Field(default=None, validation_alias=AliasChoices("problem", "trouble"))


class SweepStatus(_StatusPart):
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


def read_status(store: RunStore) -> SweepStatus:
    """The last status written; nothing but defaults if there is none, or it is damaged."""
    try:
        return SweepStatus.model_validate_json(store.read_log(STATUS))
    except (OSError, ValueError):
        return SweepStatus()


def write_status(store: RunStore, progress: SweepProgress, state: str | None = None) -> None:
    """Write the status.

    Args:
        store: the run.
        progress: what to write.
        state: None for how a submit ends; whether samples are missing decides that.

    Raises:
        OSError: the storage does not take it.
    """
    status = SweepStatus(
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
