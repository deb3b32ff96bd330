"""The progress of a sweep: counts that the dispatcher keeps and displays read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isinf
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter

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
        return (work + self._loads_to_come(engines)) / max(1, len(engines))

    def _loads_to_come(self, engines: Sequence[ReplicaProgress]) -> float:
        """Seconds to load the variants that owe samples and have no engine."""
        loads = sum(variant.loads for variant in self.variants.values())
        seconds = sum(variant.load_seconds for variant in self.variants.values())
        at_work = {replica.variant for replica in engines}
        to_load = sum(
            counts.owed > 0 and counts.refusal is None and name not in at_work
            for name, counts in self.variants.items()
        )
        return to_load * seconds / loads if loads else 0.0
