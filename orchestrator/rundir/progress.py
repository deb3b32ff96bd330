"""The progress of a sweep: counts that the dispatcher keeps and displays read."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class VariantProgress:
    """Counts of one variant.

    Attributes:
        planned: samples of the sweep.
        found: of these, answered before this submit.
        written: rows written by this submit, errors included.
        errors: of the rows written, those with an error.
        lost: samples left owed because replicas failed on their blocks too often.
        not_needed: samples dropped from the plan because their variant and temperature were decided early.
        prompt_tokens, output_tokens: over the rows written.
        loads: how often the model was loaded.
        load_seconds: time spent loading it.
        busy_seconds: time its engines were loaded, summed over replicas.
        replicas: engines loaded or loading now.
        refusal: why the engine cannot run this variant; None if it can.
        first_work, last_work: when the first block was handed out and the last one written, monotonic clock.
    """

    planned: int
    found: int = 0
    written: int = 0
    errors: int = 0
    lost: int = 0
    not_needed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    busy_seconds: float = 0.0
    replicas: int = 0
    refusal: str | None = None
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

    def seconds_at_work(self) -> float:
        """Wall-clock time between the first block handed out and the last one written."""
        if self.first_work is None or self.last_work is None:
            return 0.0
        return self.last_work - self.first_work

    @property
    def samples_per_second(self) -> float:
        """Rate since the first block was handed out; 0 before anything was written."""
        seconds = self.seconds_at_work()
        return self.written / seconds if seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens generated per second."""
        seconds = self.seconds_at_work()
        return self.output_tokens / seconds if seconds > 0 else 0.0


@dataclass
class ReplicaProgress:
    """One replica.

    Attributes:
        number: counts the replicas of a submit from 1.
        state: "loading" or "at work".
        node: Ray's ID of its node; None while it loads.
        samples: rows it has written.
        problem: why it writes none now; None if it has no problem.
    """

    number: int
    variant: str
    state: str = "loading"
    node: str | None = None
    samples: int = 0
    problem: str | None = None


@dataclass
class SweepProgress:
    """Counts of all variants, and messages of the dispatcher.

    Attributes:
        replicas: engines loaded or loading now, by number.
        notes: what was given up, and why.
        heartbeat_error: why the heartbeat cannot be written; None if it can.
        waiting: what all blocks wait for; None if a replica is loaded or loading.
        stop: set to a reason to make the dispatcher stop.
    """

    variants: dict[str, VariantProgress]
    started: float = field(default_factory=time.monotonic)
    replicas: dict[int, ReplicaProgress] = field(default_factory=dict)
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
        self.stop = "another lldeg submit has taken over the run, whose lease this one did not renew in time"

    def seconds_left(self) -> float | None:
        """Estimate from the rate so far, loading times included; None before anything was written."""
        if not self.written:
            return None
        return self.owed * (time.monotonic() - self.started) / self.written
