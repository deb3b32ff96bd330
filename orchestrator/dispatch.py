"""Spreading blocks over replicas.

The dispatcher runs in the driver. It starts a replica in each free place for the variant with most work
left, keeps each one fed so that its engine never drains, and gives the place away when the variant has no
work left. A replica that dies costs only the blocks it held: they are owed again. A block held at a death is
from then on run alone; if its replica dies again it is halved, until the sample that kills engines is found
and becomes a row with an error.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from orchestrator.engines.base import EngineDiedError, EngineOptionError, error_text
from orchestrator.progress import SweepProgress
from orchestrator.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.blocks import Block
    from orchestrator.cluster import Footprint
    from orchestrator.replica import BlockReport, Job

Watcher = Callable[[SweepProgress], None]
"""Sees the progress after everything that happens, and at least twice a second."""

Event = dict[str, Any]
"""What happened, as JSON values; "event" says which kind."""

MOST_THREADS = 64  # blocks a replica works on at once
MOST_FAILED_LOADS = 3  # in a row, per variant
MOST_FAILURES = 3  # of one block whose replica lived
DEATHS_UNTIL_SPLIT = 2
POLL_SECONDS = 0.5


@dataclass
class _Seat:
    """A replica in its place."""

    number: int
    variant: str
    actor: Any
    started: float  # loading or, once loaded, working
    samples_done: int = 0
    appetite: int | None = None  # None while the model loads
    held: dict[Any, Block] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(block.samples for block in self.held.values())

    @property
    def alone(self) -> bool:
        return any(block.deaths for block in self.held.values())


@dataclass
class _Work:
    """A variant's blocks that no replica holds."""

    job: Job
    footprint: Footprint
    blocks: deque[Block]
    failed_loads: int = 0


class Dispatcher:
    """Runs the blocks of a sweep on replicas until none is owed.

    Args:
        jobs: per variant, what its replicas need, what one takes of the cluster, and its blocks in order.
        places: replicas that may run at once.
        progress: counts to keep.
        give_up: writes the rows of a block that cannot be answered, with the reason.
        watch: called whenever something happened.
        log: gets an event for every replica started, loaded, lost or closed and every block that failed.
    """

    def __init__(
        self,
        jobs: Iterable[tuple[Job, Footprint, Iterable[Block]]],
        *,
        places: int,
        progress: SweepProgress,
        give_up: Callable[[Block, str], None],
        watch: Watcher,
        log: Callable[[Event], None],
    ) -> None:
        self._work = {job.variant: _Work(job, size, deque(blocks)) for job, size, blocks in jobs}
        self._places = places
        self._progress = progress
        self._give_up = give_up
        self._watch = watch
        self._log = log
        self._seats: dict[Any, _Seat] = {}  # by the reference whose arrival concerns them
        self._replicas: list[_Seat] = []
        self._number = 0

    def run(self) -> None:
        """Work until nothing is owed that can be had; replicas are gone afterwards, whatever happened."""
        try:
            self._fill_places()
            while self._replicas:
                self._wait()
                self._watch(self._progress)
                self._feed()  # first, so that no replica is started for blocks that those at hand will take
                self._fill_places()
        finally:
            for seat in list(self._replicas):
                self._leave(seat)

    # places ---------------------------------------------------------------------------------------------

    def _fill_places(self) -> None:
        """Start replicas in free places, for the variants with most work left per replica."""
        while len(self._replicas) < self._places:
            waiting = {
                name: sum(b.samples for b in work.blocks) for name, work in self._work.items() if work.blocks
            }
            shares = {
                name: left / (1 + self._count(name))
                for name, left in waiting.items()
                if self._wants_more(name)
            }
            if not shares:
                break
            self._start(max(shares, key=lambda name: shares[name]))

    def _count(self, variant: str) -> int:
        return sum(seat.variant == variant for seat in self._replicas)

    def _wants_more(self, variant: str) -> bool:
        """Another load pays only where blocks wait that the replicas still loading will not take at once."""
        loading = sum(seat.variant == variant and seat.appetite is None for seat in self._replicas)
        return len(self._work[variant].blocks) > loading

    def _start(self, variant: str) -> None:
        work = self._work[variant]
        self._number += 1
        options = {
            "num_cpus": work.footprint.cpus,
            "num_gpus": work.footprint.gpus,
            "max_concurrency": MOST_THREADS,
        }
        actor = ray.remote(Replica).options(**options).remote(work.job, self._number)
        seat = _Seat(self._number, variant, actor, time.monotonic())
        self._replicas.append(seat)
        self._seats[actor.load.remote()] = seat
        self._progress.variants[variant].replicas += 1
        self._log_seat("started", seat)

    def _leave(self, seat: _Seat, *, dead: bool = False) -> None:
        counts = self._progress.variants[seat.variant]
        self._replicas.remove(seat)
        self._seats = {reference: other for reference, other in self._seats.items() if other is not seat}
        counts.replicas -= 1
        if seat.appetite is not None:
            seconds = time.monotonic() - seat.started
            counts.busy_seconds += seconds
            self._log_seat("closed", seat, samples=seat.samples_done, busy_seconds=seconds)
        if not dead and seat.appetite is not None and not seat.held:
            ray.wait([seat.actor.close.remote()], timeout=10)
        ray.kill(seat.actor)

    def _log_seat(self, event: str, seat: _Seat, **facts: float | str) -> None:
        self._log({"event": event, "replica": seat.number, "variant": seat.variant, **facts})

    # blocks ---------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        for seat in list(self._replicas):
            if seat.appetite is None:
                continue
            blocks = self._work[seat.variant].blocks
            while blocks and self._may_take(seat, blocks[0]):
                self._hand(seat, blocks.popleft())
            if not blocks and not seat.held:
                self._leave(seat)

    @staticmethod
    def _may_take(seat: _Seat, block: Block) -> bool:
        if not seat.held:
            return True
        hungry = (
            seat.appetite is not None
            and seat.samples - max(b.samples for b in seat.held.values()) < seat.appetite
        )
        return hungry and not block.deaths and not seat.alone and len(seat.held) < MOST_THREADS

    def _hand(self, seat: _Seat, block: Block) -> None:
        reference = seat.actor.run.remote(block)
        seat.held[reference] = block
        self._seats[reference] = seat
        counts = self._progress.variants[seat.variant]
        counts.first_work = counts.first_work or time.monotonic()

    # what comes back ------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if not self._seats:
            return
        arrived, _ = ray.wait(list(self._seats), num_returns=1, timeout=POLL_SECONDS)
        for reference in arrived:
            seat = self._seats.pop(reference, None)
            if seat is None:
                continue
            try:
                result = ray.get(reference)
            except RayError as error:
                self._failed(seat, reference, error)
            else:
                self._arrived(seat, reference, result)

    def _arrived(self, seat: _Seat, reference: Any, result: int | BlockReport) -> None:
        counts = self._progress.variants[seat.variant]
        if isinstance(result, int):
            seat.appetite = result
            counts.loads += 1
            seconds = time.monotonic() - seat.started
            counts.load_seconds += seconds
            self._log_seat("loaded", seat, load_seconds=seconds)
            seat.started = time.monotonic()
            self._work[seat.variant].failed_loads = 0
            return
        del seat.held[reference]
        seat.samples_done += result.samples
        counts.written += result.samples
        counts.errors += result.errors
        counts.prompt_tokens += result.prompt_tokens
        counts.output_tokens += result.output_tokens
        counts.last_work = time.monotonic()

    def _failed(self, seat: _Seat, reference: Any, error: RayError) -> None:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, EngineOptionError):
            self._refuse(seat, str(cause))
        elif isinstance(cause, (RayActorError, EngineDiedError)) or reference not in seat.held:
            self._died(seat, cause)
        else:
            self._block_failed(seat.held.pop(reference), error_text(cause))

    def _block_failed(self, block: Block, reason: str) -> None:
        """The replica lives, but could not finish a block: its storage or its task's files failed, say."""
        self._log(
            {
                "event": "failed",
                "variant": block.variant,
                "task": block.task,
                "block": block.name,
                "reason": reason,
            }
        )
        if block.failures + 1 < MOST_FAILURES:
            self._work[block.variant].blocks.append(replace(block, failures=block.failures + 1))
            return
        self._progress.variants[block.variant].lost += block.samples
        self._progress.notes.append(
            f"{block.variant}/{block.task}: {block.samples} samples given up for now: {reason}"
        )

    def _refuse(self, seat: _Seat, reason: str) -> None:
        """The engine will never run this variant: its blocks stay owed, the other variants go on."""
        self._progress.variants[seat.variant].refusal = reason
        self._log_seat("refused", seat, reason=reason)
        self._work[seat.variant].blocks.clear()
        for other in [other for other in self._replicas if other.variant == seat.variant]:
            self._leave(other, dead=True)

    def _died(self, seat: _Seat, cause: BaseException) -> None:
        reason = error_text(cause)
        self._log_seat("died", seat, blocks=len(seat.held), reason=reason)
        work = self._work[seat.variant]
        if seat.appetite is None:
            work.failed_loads += 1
        held = list(seat.held.values())
        self._leave(seat, dead=True)
        if work.failed_loads >= MOST_FAILED_LOADS:
            self._progress.variants[
                seat.variant
            ].refusal = f"its model failed to load {MOST_FAILED_LOADS} times: {reason}"
            work.blocks.clear()
            return
        self._owe_again(held, reason)

    def _owe_again(self, held: list[Block], reason: str) -> None:
        for block in held:
            work = self._work[block.variant]
            block = replace(block, deaths=block.deaths + 1)  # noqa: PLW2901
            if block.deaths < DEATHS_UNTIL_SPLIT:
                work.blocks.append(block)
            elif block.samples > 1:
                work.blocks.extend(replace(half, deaths=1) for half in block.halves())
            else:
                self._give_up(block, reason)
                counts = self._progress.variants[block.variant]
                counts.written += 1
                counts.errors += 1
