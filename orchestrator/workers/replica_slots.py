"""Placing replicas: which variant gets the next slot, whether the Ray cluster has room, and closing.

The blocks that no replica works on wait in the `BlockQueue` of their variant.
"""

import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import attrgetter
from shlex import quote
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.cluster.resources import Nodes, Placement, ReplicaResources
from orchestrator.config.environment import library_variables
from orchestrator.config.load import Variant
from orchestrator.rundir.progress import ReplicaProgress, SweepProgress
from orchestrator.sweep.blocks import Block
from orchestrator.workers.failure_policy import FailedLoads
from orchestrator.workers.replica import Job, Replica

MAX_BLOCKS_IN_FLIGHT = 64  # per replica
SECONDS_TO_CLOSE = 15.0
SECONDS_WITHOUT_ROOM = 600.0
SECONDS_TO_RESERVE = 60.0  # several nodes; longer than Ray takes to notice that one is lost


class BlockQueue:
    """Blocks in order: first those never handed out, made only when they are needed, then those put back.

    Of a sweep that stops early, both kinds of one look come before those of the next. `owed` is how many
    samples the fresh blocks hold at each temperature.
    """

    def __init__(self, fresh: Iterable[Block], owed: Mapping[float, int]) -> None:
        self._fresh = self._all_needed(fresh)
        self._made: deque[Block] = deque()
        self._put_back: deque[Block] = deque()
        self._waiting = Counter({temperature: count for temperature, count in owed.items() if count})
        self._left: Counter[float] = Counter()  # samples that this submit asks no more
        self._not_needed: set[float] = set()
        self.temperatures = list(owed)  # that have not been dropped
        self.dropped = 0  # samples, with their temperature
        self.ended = False  # whether no block is to be handed out any more

    def __bool__(self) -> bool:
        return bool(self._made or self._put_back) or self.holds(1)

    @property
    def samples(self) -> int:
        """Samples of all blocks in the queue."""
        return self._waiting.total()

    def holds(self, count: int) -> bool:
        """Whether there are at least so many blocks; makes them."""
        while (missing := count - len(self._made) - len(self._put_back)) > 0:
            if (block := next(self._fresh, None)) is None:
                break
            self._made.append(block)
        return missing <= 0

    def first(self) -> Block:
        """The next block, which stays; there must be one."""
        return self._next()[0]

    def take(self) -> Block:
        """The next block, which leaves; there must be one."""
        block = self._next().popleft()
        self._count(block, -1)
        return block

    def _next(self) -> deque[Block]:
        """Where the next block is: what was put back comes last, but before the blocks of later looks."""
        if not self._made and (block := next(self._fresh, None)) is not None:
            self._made.append(block)
        if self._made and self._put_back and self._put_back[0].look < self._made[0].look:
            return self._put_back
        return self._made or self._put_back

    def put_back(self, block: Block) -> None:
        """Queue a block again, without the samples that are no longer needed."""
        if self.ended:
            self.leave(block)
        elif kept := self._drop_from(block):
            insort(self._put_back, kept, key=attrgetter("look"))
            self._count(kept, 1)

    def leave(self, block: Block) -> None:
        """Leave a block to a later submit: its samples stay owed until their temperature is dropped."""
        if kept := self._drop_from(block):
            for rerun in kept.reruns:
                self._left[rerun.temperature] += len(kept.items)

    def drop(self, temperature: float) -> int:
        """Drop all samples at a temperature, also of blocks that come later; returns how many left."""
        self.temperatures = [one for one in self.temperatures if one != temperature]
        self._not_needed.add(temperature)
        self._made = deque(self._all_needed(self._made))
        self._put_back = deque(self._all_needed(self._put_back))
        dropped = self._waiting.pop(temperature, 0) + self._left.pop(temperature, 0)
        self.dropped += dropped
        return dropped

    def end(self) -> None:
        """Leave all blocks to a later submit, also those that come back."""
        self.ended = True
        self._fresh = iter(())
        self._made.clear()
        self._put_back.clear()
        self._left += self._waiting
        self._waiting.clear()

    def _all_needed(self, blocks: Iterable[Block]) -> Iterator[Block]:
        return (kept for block in blocks if (kept := block.without(self._not_needed)))

    def _drop_from(self, block: Block) -> Block | None:
        """The samples of a block that are still needed; the others count as dropped."""
        kept = block.without(self._not_needed)
        self.dropped += block.samples - (kept.samples if kept else 0)
        return kept

    def _count(self, block: Block, sign: int) -> None:
        for rerun in block.reruns:
            self._waiting[rerun.temperature] += sign * len(block.items)
            if not self._waiting[rerun.temperature]:
                del self._waiting[rerun.temperature]


@dataclass
class VariantWork:
    """What replicas of a variant must know, the blocks that none works on, and where loads have failed."""

    job: Job
    queue: BlockQueue
    failed_loads: FailedLoads = field(default_factory=FailedLoads)

    def wants_replica(self, replicas: int, loading: int) -> bool:
        """Whether another load pays: more blocks wait than the replicas still loading will take at once."""
        if self.job.variant.kind.served and replicas:  # one keeps a server busy
            return False
        return self.failed_loads.allow_another(time.monotonic()) and self.queue.holds(loading + 1)

    @property
    def process(self) -> Any:
        """What two variants must have in common for one process to load them in turn; None if it may not."""
        variant, resources = self.job.variant, self.job.resources
        if (key := variant.kind.process) is None or resources.nodes > 1:
            return None
        return key, resources, runtime_environment(variant)

    @property
    def next_place(self) -> ReplicaResources:
        """What its next replica takes, and where that is not to be."""
        avoided = self.failed_loads.avoided(time.monotonic()) - {""}
        return replace(self.job.resources, avoided=avoided) if avoided else self.job.resources


def runtime_environment(variant: Variant) -> dict[str, Any]:
    """What Ray is told of a replica's process: its Python or its image, and its variables."""
    environment: dict[str, Any] = {"env_vars": variant.environment} if variant.environment else {}
    if variant.python is not None:
        environment["py_executable"] = quote(variant.python)
    if variant.image is not None and not variant.kind.served:  # which takes no variables but Ray's with it
        environment |= {"image_uri": variant.image, "env_vars": library_variables() | variant.environment}
    return environment


class ReplicaSlot:
    """A replica, which it starts, in the process of another one whose model is freed or in one of its own.

    It is also what the dispatcher knows of it.
    """

    def __init__(self, work: VariantWork, number: int, freed: "ReplicaSlot | None" = None) -> None:
        self.work, self.variant = work, work.job.variant.name
        self.progress = ReplicaProgress(number=number, variant=self.variant)
        self.in_used_process = freed is not None
        self.followers: Sequence[Any] = ()
        self.parts: Sequence[Any] = ()  # if there are several, what fails when the engine does on one of them
        self.nodes: Sequence[str] = ()  # Ray's IDs by rank, once it has chosen them
        self.place: Placement
        self.actor: Any
        if freed is None:
            self.results = self._start()
        else:
            self.place, self.actor, self.nodes = freed.place, freed.actor, freed.nodes
            self.progress.node = freed.progress.node
            self.results = (self.actor.load_next.remote(work.job, number),)
        self.started = time.monotonic()
        self.since = self.last_heard = self.started  # it began to load or, once loaded, to work
        self.target_in_flight: int | None = None  # requests that the engine wants; None while its model loads
        self.shares = False  # whether one request may have all choices of a question
        self.in_flight: dict[Any, Block] = {}  # by the references that will return their reports
        self.status_requested = False

    def _start(self) -> Sequence[Any]:
        """Start its processes; what they will return when its model is loaded."""
        work, number = self.work, self.progress.number
        self.place = place = Placement(work.next_place)
        environment = runtime_environment(work.job.variant)
        shared = {"runtime_env": environment} if environment else {}
        threads = MAX_BLOCKS_IN_FLIGHT + 1  # one to answer `status`
        options = {**place.actor_options(0), **shared, "max_concurrency": threads}
        self.actor = ray.remote(Replica).options(**options).remote(work.job, number)
        self.followers = [
            ray.remote(Replica).options(**place.actor_options(rank), **shared).remote(work.job, number, rank)
            for rank in range(1, place.resources.nodes)
        ]
        if self.followers:
            group = self.actor.form_group.remote()
            loads = (self.actor.load, *(one.follow for one in self.followers))
            self.parts = [load.remote(group) for load in loads]
        return self.parts or (self.actor.status.remote(), self.actor.load.remote())

    @property
    def is_loading(self) -> bool:
        """Whether its model is not loaded yet."""
        return self.target_in_flight is None

    def taken_back(self, reference: Any) -> Block:
        """The block of a result, which is in flight no more."""
        block = self.in_flight.pop(reference)
        self.progress.in_flight -= block.samples
        return block

    def take_status(self, node: str, problem: str | None) -> None:
        """Note where its engine is and what keeps it from its blocks; see `Replica.status`."""
        self.status_requested, self.progress.problem = False, problem
        if len(self.nodes) < 2:  # also where the model was loaded before this came
            self.nodes, self.progress.node = (node,), node

    def kill(self) -> None:
        """End its processes and give its place back."""
        try:
            for actor in (*self.followers, self.actor):
                ray.kill(actor)
        finally:
            self.place.free()

    def may_take(self, block: Block) -> bool:
        """Whether it should work on one more block now.

        It gets the next block while the others in flight, without the largest of them, are fewer requests
        than the engine wants, so that the engine does not drain when the largest ends. A block that was in
        flight when a replica died runs alone.
        """
        if self.target_in_flight is None or not self.in_flight:
            return not self.is_loading
        requests = [held.samples * (1 if self.shares else held.choices) for held in self.in_flight.values()]
        if sum(requests) - max(requests) >= self.target_in_flight:
            return False
        suspects = block.deaths or any(held.deaths for held in self.in_flight.values())
        return not suspects and len(self.in_flight) < MAX_BLOCKS_IN_FLIGHT


class ReplicaSlots:
    """The replicas of a sweep, from their start to the end of their processes."""

    def __init__(
        self,
        work: Iterable[VariantWork],  # of each variant that owes something
        *,
        max_replicas: int | None,  # that may run at once; None for as many as there is room for
        nodes: Nodes,  # which may have room for one more
        progress: SweepProgress,  # to keep
        log: Callable[[dict[str, Any]], None],  # gets events as JSON values; "event" names the kind
    ) -> None:
        self.work = {one.job.variant.name: one for one in work}
        self.nodes, self.progress, self.log = nodes, progress, log
        self.expected: dict[Any, ReplicaSlot] = {}  # by the references of results to come
        self.closing: dict[Any, tuple[ReplicaSlot, float]] = {}  # likewise, with when to wait no longer
        self.freed: list[ReplicaSlot] = []  # closed ones, whose processes may load another model
        self._max_replicas = max_replicas
        self._slots: list[ReplicaSlot] = []
        self._last_occupied = self._charged = time.monotonic()
        self._number = 0

    def __iter__(self) -> Iterator[ReplicaSlot]:
        return iter(list(self._slots))

    def __bool__(self) -> bool:
        return bool(self._slots)

    def of(self, variant: str) -> list[ReplicaSlot]:
        """The replicas of a variant."""
        return [slot for slot in self._slots if slot.variant == variant]

    @property
    def are_busy(self) -> bool:
        """Whether a model is loading or a block is in flight."""
        return any(slot.is_loading or slot.in_flight for slot in self._slots)

    def fill(self, held_back: Collection[str], lacking: Collection[str] = ()) -> None:
        """Start replicas where there is room, for the variants with the most work left per replica.

        Variants whose blocks are held back wait for the others, which get a first replica before them; those
        that are lacking what they need get none. Processes whose model is freed load another or end.
        """
        while True:
            occupied = [*self._slots, *(slot for slot, _ in self.closing.values())]  # what takes up resources
            if self._max_replicas is not None and len(occupied) >= self._max_replicas:
                break
            count = Counter(slot.variant for slot in self._slots)
            loading = Counter(slot.variant for slot in self._slots if slot.is_loading)
            places = {
                name: one.next_place
                for name, one in self.work.items()
                if name not in lacking and one.wants_replica(count[name], loading[name])
            }
            placed = [(slot.nodes, slot.place.resources) for slot in occupied]
            room = {place for place in set(places.values()) if self.nodes.have_room(place, placed)}
            left = {name: self.work[name].queue.samples / (1 + count[name]) for name in places}
            roomy = [name for name, place in places.items() if place in room]
            if not roomy:
                break
            leading = [name for name in roomy if held_back and name not in held_back and not count[name]]
            chosen = max(leading or roomy, key=lambda name: left[name])
            self._number += 1
            if (freed := self._freed_for(self.work[chosen])) is None:
                self.end_freed()
            slot = ReplicaSlot(self.work[chosen], self._number, freed)
            self._slots.append(slot)
            self.expected |= dict.fromkeys(slot.results, slot)
            self.progress.replicas[self._number], self.progress.waiting = slot.progress, None
            self.progress.variants[chosen].replicas += 1
            self.tell("started", slot, **({"process_of": freed.progress.number} if freed else {}))
        self.end_freed()

    def _freed_for(self, work: VariantWork) -> ReplicaSlot | None:
        """A replica whose process may load the model of a variant."""
        process, avoided = work.process, work.next_place.avoided
        for slot in self.freed if process is not None else ():
            if slot.work.process == process and not {*slot.nodes} & avoided:
                self.freed.remove(slot)
                return slot
        return None

    def end_freed(self) -> None:
        """Kill the processes that have freed their model."""
        while self.freed:
            self.freed.pop().kill()

    def charge(self) -> None:
        """Count what the hours of all replicas cost, also while their models load."""
        before, self._charged = self._charged, time.monotonic()
        for slot in self._slots:
            taken, counts = slot.place.resources, self.progress.variants[slot.variant]
            price = slot.work.job.variant.cost.hour(taken.gpus * taken.nodes, taken.cpus * taken.nodes)
            counts.spent += price * (self._charged - max(before, slot.started)) / 3600.0

    def has_place(self, work: VariantWork) -> bool:
        """Whether a variant may be tried somewhere, now or when it is free."""
        left_out = work.failed_loads.left_out
        return "" not in left_out and self.nodes.have_room(replace(work.job.resources, avoided=left_out), ())

    def settle(self) -> None:
        """Note which nodes Ray has reserved, and withdraw the replicas for which it has found too few.

        There seems to be room on a lost node, too, until Ray notices the loss; and a node that was to be
        avoided may be the only one that is left. If it is busy, a replica may still wait for another.
        """
        for slot in self:
            slot.nodes = slot.nodes or slot.place.reserved()
            may_wait_for_ever = slot.followers or slot.place.resources.avoided
            if slot.nodes or not may_wait_for_ever:
                continue
            has_node = self.nodes.have_room(slot.place.resources, ())
            patience = SECONDS_WITHOUT_ROOM if has_node and not slot.followers else SECONDS_TO_RESERVE
            if time.monotonic() - slot.since > patience:
                self.tell("not placed", slot)
                self.close(slot, dead=True)

    def may_find_room(self) -> bool:
        """Whether blocks wait for room, which a replica that is closing or a node that joins may give."""
        wanted = {str(one.next_place) for one in self.work.values() if one.queue}
        self.progress.waiting = None
        if not wanted:
            return False
        if time.monotonic() - self._last_occupied < SECONDS_WITHOUT_ROOM:
            if not self.closing:
                needs = " or ".join(sorted(wanted))
                self.progress.waiting = f"the Ray cluster has no room for a replica, which needs {needs}"
            return True
        self.progress.notes.append(
            f"the Ray cluster had no room for a replica for {SECONDS_WITHOUT_ROOM / 60:.0f} minutes"
        )
        return False

    def close(self, slot: ReplicaSlot, *, dead: bool = False) -> None:
        """End a replica: one with nothing in flight may free its model first, the others are killed."""
        counts = self.progress.variants[slot.variant]
        self._slots.remove(slot)
        self.expected = {reference: one for reference, one in self.expected.items() if one is not slot}
        counts.replicas -= 1
        del self.progress.replicas[slot.progress.number]
        if not slot.is_loading:
            seconds = time.monotonic() - slot.since
            counts.busy_seconds += seconds
            self.tell("closed", slot, samples=slot.progress.samples, busy_seconds=seconds)
        if dead or slot.is_loading or slot.in_flight:
            slot.kill()
        else:
            self.closing[slot.actor.close.remote()] = slot, time.monotonic() + SECONDS_TO_CLOSE
        self._last_occupied = time.monotonic()

    def end_closed(self, arrived: Sequence[Any]) -> None:
        """Leave the processes that have freed their model to `fill`; kill those that have not, or not yet."""
        for reference, (slot, until) in list(self.closing.items()):
            if reference in arrived or time.monotonic() > until:
                del self.closing[reference]
                is_free = False
                with suppress(RayError):  # it has died
                    is_free = reference in arrived and ray.get(reference)
                if is_free:
                    self.freed.append(slot)
                else:
                    slot.kill()

    def tell(self, event: str, slot: ReplicaSlot, **facts: object) -> None:
        """Log an event of a replica."""
        self.log({"event": event, "replica": slot.progress.number, "variant": slot.variant, **facts})
