"""The progress of a sweep: counts that the dispatcher keeps, and the heartbeat that writes them for others.

`lldeg status`, `lldeg view` and `lldeg stop` only read and write files of the heartbeat, so they work on any
machine that can reach the run directory.
"""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from math import inf, isinf
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from orchestrator.errors import error_text
from orchestrator.rundir.store import RunStore

STATUS, STOP, EVENTS = "status.json", "stop", "events.jsonl"
SECONDS_BETWEEN_BEATS = 3.0
SECONDS_TO_SETTLE = 2.0  # before that a rate says little
LONGEST = 1e10  # seconds, some three hundred years

State = Annotated[str, BeforeValidator(lambda word: "running" if word == "at work" else word)]
"""Of a sweep or a replica; earlier versions had other words, here and for two keys below."""
Problem = Annotated[str | None, Field(validation_alias=AliasChoices("problem", "trouble"))]
_Infinite = Annotated[
    float, Field(allow_inf_nan=True), PlainSerializer(lambda value: None if isinf(value) else value)
]
Statistic = Annotated[_Infinite, BeforeValidator(lambda value: -inf if value is None else value)]
Boundary = Annotated[_Infinite, BeforeValidator(lambda value: inf if value is None else value)]
"""A statistic, and a boundary that it must reach; infinite (null in JSON) where nothing is tested."""


class StatusPart(BaseModel):
    """A part of the status: what has another type or no sensible size is damaged, other keys are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)


class Standing(StatusPart):
    """A variant at one temperature, after its last look, in a sweep that stops early.

    Statistics are on the normal scale; those at a boundary or beyond decide.
    """

    model_config = ConfigDict(frozen=True)

    temperature: float
    look: int  # its number, from 1 on
    looks: int  # how many are planned
    statistic: Statistic  # evidence that the variant is worse
    boundary: Boundary  # from which on it is degraded
    certified_statistic: Statistic  # evidence that the drop is below the margin
    certified_boundary: Boundary  # from which on it is certified; infinite where that is not tested yet
    verdict: str | None = None  # "degraded", "certified" or "inconclusive"; None while it goes on


class VariantProgress(StatusPart):
    """Counts of one variant."""

    planned: int = 0  # samples of the sweep
    done: int = 0  # of these, rows in the run directory
    errors: int = 0  # of the rows that this submit wrote, those with an error
    lost: int = 0  # samples left missing because replicas failed on their blocks too often
    not_needed: int = Field(default=0, ge=0)  # dropped: their variant and temperature were decided early
    loads: int = 0  # how often the model was loaded
    replicas: int = 0  # engines loaded or loading now
    refusal: str | None = None  # why the engine cannot run this variant; None if it can
    prompt_tokens: int = Field(default=0, ge=0, lt=2**63)  # over the rows that this submit wrote
    output_tokens: int = Field(default=0, ge=0, lt=2**63)
    spent: float = Field(default=0.0, ge=0)  # by all submits, at the prices of their time
    samples_per_second: float = 0.0  # since the first block was handed out; 0 before anything was written
    tokens_per_second: float = 0.0
    looks: tuple[Standing, ...] = ()  # the last one at each temperature, if the sweep stops early

    found: int = Field(default=0, exclude=True)  # rows that were there before this submit
    found_errors: int = Field(default=0, exclude=True)
    asked_again: int = Field(default=0, exclude=True)  # samples that a server refused or a replica failed on
    load_seconds: float = Field(default=0.0, exclude=True)  # time spent loading the model
    busy_seconds: float = Field(default=0.0, exclude=True)  # of its engines once loaded, over all replicas
    first_work: float | None = Field(default=None, exclude=True)  # monotonic clock, of the first block

    @property
    def written(self) -> int:
        """Rows written by this submit, errors included."""
        return self.done - self.found

    @property
    def owed(self) -> int:
        """Samples that are still to be answered."""
        return self.planned - self.done - self.not_needed

    def keep_pace(self) -> None:
        """Take the rates when a block has been written."""
        if self.first_work is not None and (seconds := time.monotonic() - self.first_work) > 0:
            self.samples_per_second = self.written / seconds
            self.tokens_per_second = self.output_tokens / seconds


class ReplicaProgress(StatusPart):
    """One replica."""

    number: int  # counts the replicas of a submit from 1
    variant: str
    state: State = "loading"  # or "running"
    node: str | None = None  # Ray's ID of it; None while the model loads
    samples: int = 0  # rows that it has written
    problem: Problem = None  # why it writes none now; None if it has no problem

    in_flight: int = Field(default=0, exclude=True)  # samples of the blocks it works on
    loaded: float | None = Field(default=None, exclude=True)  # when, on the monotonic clock


class SweepStatus(StatusPart):
    """status.json: how far the submit is, or was, by its last heartbeat."""

    state: State | None = None  # "running", "incomplete" or "complete"
    last_heartbeat: float | None = Field(
        default=None, validation_alias=AliasChoices("last_heartbeat", "time")
    )  # when it was written, in seconds since 1970
    host: str | None = None
    pid: int | None = None
    seconds: float | None = None  # since the submit began
    seconds_left: float | None = Field(default=None, ge=0, le=LONGEST)  # an estimate; None without one
    variants: dict[str, VariantProgress] = Field(default_factory=dict)
    replicas: list[ReplicaProgress] = Field(default_factory=list)
    problem: Problem = None  # what keeps answers from being written; None if nothing does
    notes: list[str] = Field(default_factory=list)  # what was given up, and why


class SweepProgress:
    """Counts of all variants, and messages of the dispatcher."""

    def __init__(self, variants: dict[str, VariantProgress], budget: float | None = None) -> None:
        self.variants, self.budget = variants, budget
        self.is_spent = False  # whether the budget allows no further block
        self.started = time.monotonic()
        self.replicas: dict[int, ReplicaProgress] = {}  # engines loaded or loading now, by number
        self.metrics: dict[str, set[str]] = {}  # scores of answers that the manifest does not list, by task
        self.notes: list[str] = []  # what was given up, and why
        self.heartbeat_error: str | None = None  # why the heartbeat cannot be written; None if it can
        self.waiting: str | None = None  # what all blocks wait for; None if a replica is loaded or loading
        self.stop: str | None = None  # a reason that makes the dispatcher stop

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

    @property
    def spent(self) -> float:
        """What all submits have cost."""
        return sum(variant.spent for variant in self.variants.values())

    def exceeds_budget(self, samples: int) -> bool:
        """Whether so many more, and those in flight, would exceed the budget at the mean price so far."""
        if self.budget is not None and not self.is_spent:
            ahead = samples + sum(replica.in_flight for replica in list(self.replicas.values()))
            done = sum(variant.done for variant in self.variants.values())
            self.is_spent = self.spent * (1.0 + ahead / done if done else 1.0) >= self.budget
            if self.is_spent:
                used = f"the budget of {self.budget:,g} allows no more answers, after {self.spent:,.2f}"
                self.notes.append(f"{used}: a larger one, as with --set budget=…, lets the sweep go on")
        return self.is_spent

    def taken_over(self) -> None:
        """Stop, because another submit has taken over the run."""
        self.stop = (
            "another lldeg submit has taken over the run, because this one did not renew its lease in time"
        )

    def seconds_left(self) -> float | None:
        """Estimate from the rate of the engines once loaded, and the loads that are still to come.

        Blocks come back whole, so half of the samples in flight count as done; without that the first
        estimates, when hardly any block has come back, would be several times too long. In seconds; None
        before engines have worked for some seconds and written something.
        """
        now, variants = time.monotonic(), self.variants
        engines = [replica for replica in list(self.replicas.values()) if replica.loaded is not None]
        worked = sum(counts.busy_seconds for counts in variants.values())
        worked += sum(now - replica.loaded for replica in engines if replica.loaded is not None)
        if not self.written or worked < SECONDS_TO_SETTLE:
            return None
        in_flight = sum(replica.in_flight for replica in engines) / 2
        work = (self.owed - in_flight) * worked / (self.written + in_flight)
        at_work = {replica.variant for replica in engines}
        waiting = [counts for name, counts in variants.items() if counts.owed > 0 and name not in at_work]
        to_load = sum(counts.refusal is None for counts in waiting)
        loads = max(1, sum(counts.loads for counts in variants.values()))
        load_seconds = sum(counts.load_seconds for counts in variants.values()) / loads
        return (work + to_load * load_seconds) / max(1, len(engines))


def read_status(store: RunStore) -> SweepStatus:
    """The last status written; nothing but defaults if there is none, or it is damaged."""
    try:
        return SweepStatus.model_validate_json(store.read_log(STATUS))
    except (OSError, ValueError):
        return SweepStatus()


def write_status(store: RunStore, progress: SweepProgress, state: str | None = None) -> None:
    """Write the status, by default how a submit ends; an OSError if the storage does not take it."""
    status = SweepStatus(
        state=state or ("incomplete" if progress.owed else "complete"),
        last_heartbeat=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
        seconds=time.monotonic() - progress.started,
        seconds_left=progress.seconds_left(),
        variants=progress.variants,
        replicas=list(progress.replicas.values()),
        problem=progress.problem,
        notes=progress.notes,
    )
    store.write_log(STATUS, status.model_dump_json(indent=1).encode())


class Heartbeat:
    """Writes the status for as long as the context lasts, and hears requests to stop."""

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
