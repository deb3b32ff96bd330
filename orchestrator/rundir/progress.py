"""How far a sweep is: counts that the dispatcher keeps and whoever watches may read."""

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
        lost: samples given up because the machinery failed too often.
        prompt_tokens, output_tokens: over the rows written.
        loads: how often the model was loaded.
        load_seconds: time spent loading it.
        busy_seconds: time its engines were loaded and at work, summed over replicas.
        replicas: engines loaded or loading now.
        refusal: why the engine cannot run this variant; None if it can.
    """

    planned: int
    found: int = 0
    written: int = 0
    errors: int = 0
    lost: int = 0
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
        """Samples that stand in the run directory."""
        return self.found + self.written

    @property
    def owed(self) -> int:
        """Samples that do not."""
        return self.planned - self.done

    def seconds_at_work(self) -> float:
        """Wall-clock time between the first block fed and the last one written."""
        if self.first_work is None or self.last_work is None:
            return 0.0
        return self.last_work - self.first_work

    @property
    def samples_per_second(self) -> float:
        """Rate since the first block was fed; 0 before anything was written."""
        seconds = self.seconds_at_work()
        return self.written / seconds if seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens written by the model per second."""
        seconds = self.seconds_at_work()
        return self.output_tokens / seconds if seconds > 0 else 0.0


@dataclass
class ReplicaProgress:
    """One engine.

    Attributes:
        number: counts the replicas of a submit from 1.
        node: Ray's name of its node; None while it loads.
        samples: rows it has written.
        trouble: why it writes none now; None if nothing is in its way.
    """

    number: int
    variant: str
    state: str = "loading"
    node: str | None = None
    samples: int = 0
    trouble: str | None = None


@dataclass
class SweepProgress:
    """Counts of all variants, and what the dispatcher has to say.

    Attributes:
        replicas: engines loaded or loading now, by number.
        notes: what was given up, and why.
        silenced: why the run directory cannot be told how it goes; None if it can.
        waiting: what all blocks wait for; None if a replica is loaded or loading.
        stop: set to a reason to make the dispatcher stop.
    """

    variants: dict[str, VariantProgress]
    started: float = field(default_factory=time.monotonic)
    replicas: dict[int, ReplicaProgress] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    silenced: str | None = None
    waiting: str | None = None
    stop: str | None = None

    @property
    def owed(self) -> int:
        """Samples not yet written."""
        return sum(variant.owed for variant in self.variants.values())

    @property
    def trouble(self) -> str | None:
        """What keeps answers from being written now; None if nothing does."""
        reasons = [replica.trouble for replica in list(self.replicas.values())]
        return next(filter(None, [*reasons, self.silenced, self.waiting]), None)

    @property
    def written(self) -> int:
        """Rows written by this submit."""
        return sum(variant.written for variant in self.variants.values())

    def taken_over(self) -> None:
        """Stop, because another submit has taken the run."""
        self.stop = "another lldeg submit has taken the run over while this one could not be heard"

    def seconds_left(self) -> float | None:
        """Estimate from the rate so far, loading included; None before anything was written."""
        if not self.written:
            return None
        return self.owed * (time.monotonic() - self.started) / self.written
