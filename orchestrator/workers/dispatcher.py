"""Spreading blocks over replicas.

The dispatcher runs in the driver. It starts a replica in each free place for the variant with most work
left, keeps each one fed so that its engine never drains, and gives the place away when the variant has no
work left. A replica that dies costs only the blocks it held: they are owed again. A block held at a death is
from then on run alone; if its replica dies again it is halved, until the sample that kills engines is found
and becomes a row with an error.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from orchestrator.engines.base import EngineAwayError, EngineDiedError, EngineOptionError
from orchestrator.errors import error_text
from orchestrator.rundir.progress import ReplicaProgress, SweepProgress
from orchestrator.workers.block_queue import BlockQueue
from orchestrator.workers.replica import Loaded, Replica, Trouble
from orchestrator.workers.replica_slots import Seat, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from orchestrator.cluster.resources import Footprint, Seated
    from orchestrator.sweep.blocks import Block
    from orchestrator.workers.replica import BlockReport
    from orchestrator.workers.replica_slots import Workload

    Watcher = Callable[[SweepProgress], None]
    """Sees the progress after everything that happens, and at least twice a second."""

    Event = dict[str, Any]
    """What happened, as JSON values; "event" says which kind."""

    Room = Callable[[Footprint, Sequence[Seated]], bool]
    """Whether the cluster has room for one more replica beside those that sit there."""

MOST_THREADS = 64  # blocks a replica works on at once
MOST_FAILED_LOADS = 3  # in a row, per variant
MOST_FAILURES = 3  # of one block whose replica lived
DEATHS_UNTIL_SPLIT = 2
DEATHS_OF_A_SAMPLE = 3  # by itself; bad luck rarely strikes the same one so often
POLL_SECONDS = 0.5
SECONDS_TO_CLOSE = 15.0
SECONDS_OF_SILENCE = 5.0  # of a replica at work, until it is asked what keeps it
SECONDS_WITHOUT_ROOM = 600.0


class Dispatcher:
    """Runs the blocks of a sweep on replicas until none is owed.

    Args:
        workloads: one per variant that owes something.
        most: replicas that may run at once; None for as many as there is room for.
        room: whether the cluster has room for one more.
        progress: counts to keep.
        give_up: writes the rows of a block that cannot be answered, with the reason.
        watch: called whenever something happened.
        log: gets an event for every replica started, loaded, lost or closed and every block that failed.
        lost_since: the nodes of the cluster that were found lost since a moment of the monotonic clock.
    """

    def __init__(
        self,
        workloads: Iterable[Workload],
        *,
        most: int | None,
        room: Room,
        progress: SweepProgress,
        give_up: Callable[[Block, str], None],
        watch: Watcher,
        log: Callable[[Event], None],
        lost_since: Callable[[float], Collection[str]],
    ) -> None:
        self._work = {
            load.job.variant: Work(load, BlockQueue(load.blocks, progress.variants[load.job.variant].owed))
            for load in workloads
        }
        self._most = most
        self._room = room
        self._progress = progress
        self._give_up = give_up
        self._watch = watch
        self._log = log
        self._lost_since = lost_since
        self._seats: dict[Any, Seat] = {}  # by the reference whose arrival concerns them
        self._replicas: list[Seat] = []
        self._closing: dict[Any, tuple[Seat, float]] = {}  # by reference, with when to wait no longer
        self._last_seat = time.monotonic()  # when a replica last sat somewhere
        self._number = 0

    def run(self) -> None:
        """Work until nothing is owed that can be had or the sweep is to stop; no replica is left then."""
        try:
            self._fill_places()
            while (self._replicas or self._may_find_room()) and self._progress.stop is None:
                self._wait()
                self._watch(self._progress)
                self._ask_the_silent()
                self._feed()  # first, so that no replica is started for blocks that those at hand will take
                self._fill_places()
        finally:
            for seat in list(self._replicas):
                self._leave(seat)
            while self._closing:
                self._wait()

    # places ---------------------------------------------------------------------------------------------

    def _fill_places(self) -> None:
        """Start replicas where there is room, for the variants with most work left per replica."""
        while self._most is None or len(self._seated()) < self._most:
            count = Counter(seat.variant for seat in self._replicas)
            loading = Counter(seat.variant for seat in self._replicas if seat.appetite is None)
            shares = {
                name: work.blocks.samples / (1 + count[name])
                for name, work in self._work.items()
                if work.wants_more(count[name], loading[name])
            }
            seated = [(seat.progress.node, seat.size) for seat in self._seated()]
            sizes = {self._work[name].load.size for name in shares}
            roomy = {size for size in sizes if self._room(size, seated)}
            fitting = [name for name in shares if self._work[name].load.size in roomy]
            if not fitting:
                break
            self._start(max(fitting, key=lambda name: shares[name]))

    def _may_find_room(self) -> bool:
        """Whether blocks wait for room, which a replica that is closing or a node that joins may give."""
        sizes = {str(work.load.size) for work in self._work.values() if work.blocks}
        self._progress.waiting = None
        if not sizes:
            return False
        if time.monotonic() - self._last_seat < SECONDS_WITHOUT_ROOM:
            if not self._closing:
                wanted = " or ".join(sorted(sizes))
                self._progress.waiting = (
                    f"no node of the cluster has room for a replica, which needs {wanted}"
                )
            return True
        self._progress.notes.append(
            f"for {SECONDS_WITHOUT_ROOM / 60:.0f} minutes no node of the cluster had room for a replica"
        )
        return False

    def _seated(self) -> list[Seat]:
        """Replicas that take up room, those that are closing included."""
        return [*self._replicas, *(seat for seat, _ in self._closing.values())]

    def _start(self, variant: str) -> None:
        load = self._work[variant].load
        self._number += 1
        threads = MOST_THREADS + 1  # one to say what keeps the others
        options = {**load.size.actor_options(), "max_concurrency": threads}
        actor = ray.remote(Replica).options(**options).remote(load.job, self._number)
        state = ReplicaProgress(self._number, variant)
        seat = Seat(actor, load.size, state, time.monotonic())
        self._replicas.append(seat)
        self._progress.replicas[state.number] = state
        self._progress.waiting = None
        self._seats[actor.load.remote()] = seat
        self._progress.variants[variant].replicas += 1
        self._log_seat("started", seat)

    def _leave(self, seat: Seat, *, dead: bool = False) -> None:
        counts = self._progress.variants[seat.variant]
        self._replicas.remove(seat)
        self._seats = {reference: other for reference, other in self._seats.items() if other is not seat}
        counts.replicas -= 1
        del self._progress.replicas[seat.progress.number]
        if seat.appetite is not None:
            seconds = time.monotonic() - seat.since
            counts.busy_seconds += seconds
            self._log_seat("closed", seat, samples=seat.progress.samples, busy_seconds=seconds)
        if not dead and seat.appetite is not None and not seat.held:
            self._closing[seat.actor.close.remote()] = seat, time.monotonic() + SECONDS_TO_CLOSE
        else:
            ray.kill(seat.actor)
        self._last_seat = time.monotonic()

    def _log_seat(self, event: str, seat: Seat, **facts: float | str) -> None:
        self._log({"event": event, "replica": seat.progress.number, "variant": seat.variant, **facts})

    # blocks ---------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        for seat in list(self._replicas):
            if seat.appetite is None:
                continue
            blocks = self._work[seat.variant].blocks
            while blocks and self._may_take(seat, blocks.first()):
                self._hand(seat, blocks.take())
            if not blocks and not seat.held:
                self._leave(seat)

    @staticmethod
    def _may_take(seat: Seat, block: Block) -> bool:
        if not seat.held:
            return True
        hungry = (
            seat.appetite is not None
            and seat.samples - max(b.samples for b in seat.held.values()) < seat.appetite
        )
        return hungry and not block.deaths and not seat.alone and len(seat.held) < MOST_THREADS

    def _hand(self, seat: Seat, block: Block) -> None:
        reference = seat.actor.run.remote(block)
        seat.held[reference] = block
        seat.progress.held = seat.samples
        self._seats[reference] = seat
        counts = self._progress.variants[seat.variant]
        counts.first_work = counts.first_work or time.monotonic()

    def _ask_the_silent(self) -> None:
        """Find out what keeps replicas that are long over their blocks."""
        now = time.monotonic()
        for seat in self._replicas:
            if seat.held and not seat.asked and now - seat.heard > SECONDS_OF_SILENCE:
                seat.asked = True
                self._seats[seat.actor.trouble.remote()] = seat

    # what comes back ------------------------------------------------------------------------------------

    def _wait(self) -> None:
        waiting = [*self._seats, *self._closing]
        if waiting:
            arrived, others = ray.wait(waiting, num_returns=1, timeout=POLL_SECONDS)
            if arrived and others:  # among many replicas more than one may have something
                arrived += ray.wait(others, num_returns=len(others), timeout=0)[0]
        else:
            arrived = []
            time.sleep(POLL_SECONDS)
        self._end_closed(arrived)
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

    def _end_closed(self, arrived: Sequence[Any]) -> None:
        """End the processes of replicas that have freed their model, or take too long over it."""
        for reference, (seat, until) in list(self._closing.items()):
            if reference in arrived or time.monotonic() > until:
                del self._closing[reference]
                ray.kill(seat.actor)

    def _arrived(self, seat: Seat, reference: Any, result: Loaded | Trouble | BlockReport) -> None:
        counts = self._progress.variants[seat.variant]
        seat.heard = time.monotonic()
        if isinstance(result, Trouble):
            seat.progress.trouble = result.reason
            seat.asked = False
            return
        if isinstance(result, Loaded):
            seat.appetite = result.appetite
            seat.progress.node = result.node
            seat.progress.state = "at work"
            counts.loads += 1
            seconds = time.monotonic() - seat.since
            counts.load_seconds += seconds
            self._log_seat("loaded", seat, load_seconds=seconds, node=result.node)
            seat.since = seat.progress.loaded = time.monotonic()
            self._work[seat.variant].failed_loads = 0
            return
        del seat.held[reference]
        seat.progress.held = seat.samples
        seat.progress.samples += result.samples
        seat.progress.trouble = None
        counts.written += result.samples
        counts.errors += result.errors
        counts.prompt_tokens += result.prompt_tokens
        counts.output_tokens += result.output_tokens
        counts.last_work = time.monotonic()

    def _failed(self, seat: Seat, reference: Any, error: RayError) -> None:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, EngineOptionError):
            self._refuse(seat, str(cause))
        elif isinstance(cause, EngineAwayError):
            self._progress.notes.append(f"{seat.variant}: {cause}")
            self._end_variant(seat, "away", str(cause))
        elif isinstance(cause, (RayError, EngineDiedError)) or reference not in seat.held:
            self._died(seat, cause)
        else:
            failed = seat.held.pop(reference)
            seat.progress.held = seat.samples
            self._block_failed(failed, error_text(cause))

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
            self._work[block.variant].blocks.put_back(replace(block, failures=block.failures + 1))
            return
        self._progress.variants[block.variant].lost += block.samples
        self._progress.notes.append(
            f"{block.variant}/{block.task}: {block.samples} samples given up for now: {reason}"
        )

    def _refuse(self, seat: Seat, reason: str) -> None:
        """The engine will never run this variant."""
        self._progress.variants[seat.variant].refusal = reason
        self._end_variant(seat, "refused", reason)

    def _end_variant(self, seat: Seat, event: str, reason: str) -> None:
        """Its blocks stay owed, the other variants go on."""
        self._log_seat(event, seat, reason=reason)
        self._work[seat.variant].blocks.clear()
        for other in [other for other in self._replicas if other.variant == seat.variant]:
            self._leave(other, dead=True)

    def _died(self, seat: Seat, cause: BaseException) -> None:
        reason = error_text(cause)
        self._log_seat("died", seat, blocks=len(seat.held), reason=reason)
        work = self._work[seat.variant]
        lost = self._lost_since(seat.since)
        with_its_node = seat.progress.node in lost if seat.progress.node is not None else bool(lost)
        if seat.appetite is None and not with_its_node:
            work.failed_loads += 1
        held = list(seat.held.values())
        self._leave(seat, dead=True)
        if work.failed_loads >= MOST_FAILED_LOADS:
            self._progress.variants[
                seat.variant
            ].refusal = f"its model failed to load {MOST_FAILED_LOADS} times: {reason}"
            work.blocks.clear()
            return
        for block in held:
            if with_its_node:  # no fault of the block's
                work.blocks.put_back(block)
            else:
                self._owe_again(work.blocks, replace(block, deaths=block.deaths + 1), reason)

    def _owe_again(self, blocks: BlockQueue, block: Block, reason: str) -> None:
        if block.samples == 1 and block.deaths >= DEATHS_OF_A_SAMPLE:
            try:
                self._give_up(block, reason)
            except OSError as error:
                self._block_failed(block, error_text(error))
                return
            counts = self._progress.variants[block.variant]
            counts.written += 1
            counts.errors += 1
        elif block.samples > 1 and block.deaths >= DEATHS_UNTIL_SPLIT:
            for half in block.halves():
                blocks.put_back(replace(half, deaths=1))
        else:
            blocks.put_back(block)
