"""Placing replicas: which variant gets the next slot, whether the Ray cluster has room, and closing."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from orchestrator.cluster.code_shipping import replica_environment
from orchestrator.cluster.resources import Nodes, Placement, ReplicaResources
from orchestrator.rundir.progress import ReplicaProgress, SweepProgress
from orchestrator.sweep.blocks import Block
from orchestrator.workers.block_queue import BlockQueue
from orchestrator.workers.failure_policy import FailedLoads
from orchestrator.workers.replica import Follower, Job, Replica

Event = dict[str, Any]
"""An event as JSON values; "event" names its kind."""

MAX_BLOCKS_IN_FLIGHT = 64  # per replica
SECONDS_TO_CLOSE = 15.0
SECONDS_WITHOUT_ROOM = 600.0
SECONDS_TO_RESERVE = 60.0  # several nodes; longer than Ray takes to notice that one is lost


@dataclass
class VariantWork:
    """A variant's blocks that no replica works on, and what its replicas need.

    Attributes:
        job: what they need to know.
        resources: what one of them takes of the Ray cluster.
        queue: the blocks.
        max_replicas: replicas of it that may run at once; None for as many as there is room for.
        failed_loads: where loads of its model have failed.
    """

    job: Job
    resources: ReplicaResources
    queue: BlockQueue
    max_replicas: int | None = None
    failed_loads: FailedLoads = field(default_factory=FailedLoads)

    def wants_replica(self, replicas: int, loading: int) -> bool:
        """Whether another load pays: more blocks wait than the replicas still loading will take at once."""
        if self.max_replicas is not None and replicas >= self.max_replicas:
            return False
        return self.failed_loads.allow_another(time.monotonic()) and self.queue.holds(loading + 1)

    @property
    def next_place(self) -> ReplicaResources:
        """What its next replica takes, and where that is not to be."""
        avoided = self.failed_loads.avoided(time.monotonic()) - {""}
        return replace(self.resources, avoided=avoided) if avoided else self.resources


@dataclass
class ReplicaSlot:
    """A replica and what the dispatcher knows of it."""

    actor: Any
    place: Placement
    progress: ReplicaProgress
    since: float  # loading or, once loaded, working
    followers: Sequence[Any] = ()  # its actors on other nodes
    parts: Sequence[Any] = ()  # with followers, what fails when the engine does on one of its nodes
    nodes: Sequence[str] = ()  # by rank; empty until Ray has chosen them
    target_in_flight: int | None = None  # None while the model loads
    in_flight: dict[Any, Block] = field(default_factory=dict)  # by the reference that will return the report
    last_heard: float = field(default_factory=time.monotonic)
    status_requested: bool = False

    @property
    def variant(self) -> str:
        """The variant whose engine it holds."""
        return self.progress.variant

    @property
    def is_loading(self) -> bool:
        """Whether its model is not loaded yet."""
        return self.target_in_flight is None

    def kill(self) -> None:
        """End its processes and give its place back."""
        try:
            for actor in (*self.followers, self.actor):
                ray.kill(actor)
        finally:
            self.place.free()

    def may_take(self, block: Block) -> bool:
        """Whether it should work on one more block now.

        It gets the next block while the others in flight, without the largest of them, are fewer samples than
        the engine wants, so that the engine does not drain when the largest ends. A block that was in flight
        when a replica died runs alone.
        """
        if self.target_in_flight is None or not self.in_flight:
            return not self.is_loading
        largest = max(held.samples for held in self.in_flight.values())
        if self.progress.in_flight - largest >= self.target_in_flight:
            return False
        suspects = block.deaths or any(held.deaths for held in self.in_flight.values())
        return not suspects and len(self.in_flight) < MAX_BLOCKS_IN_FLIGHT


class ReplicaSlots:
    """The replicas of a sweep, from their start to the end of their processes.

    Args:
        max_replicas: how many may run at once; None for as many as there is room for.
        nodes: of the Ray cluster, which may have room for one more.
        progress: counts to keep.
        log: gets an event for every replica started or closed.

    Attributes:
        expected: replicas by the references of results to come.
        closing: those whose end is to come, each with when to wait no longer.
    """

    def __init__(
        self,
        *,
        max_replicas: int | None,
        nodes: Nodes,
        progress: SweepProgress,
        log: Callable[[Event], None],
    ) -> None:
        self._max_replicas = max_replicas
        self._nodes = nodes
        self._progress = progress
        self._log = log
        self._slots: list[ReplicaSlot] = []
        self.expected: dict[Any, ReplicaSlot] = {}
        self.closing: dict[Any, tuple[ReplicaSlot, float]] = {}
        self._last_occupied = time.monotonic()
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

    # starting -------------------------------------------------------------------------------------------

    def fill(self, work: Mapping[str, VariantWork], held_back: Collection[str]) -> None:
        """Start replicas where there is room, for the variants with the most work left per replica.

        Args:
            work: all variants.
            held_back: variants whose blocks wait for those of others, which get a first replica before them.
        """
        while self._max_replicas is None or len(self._occupied()) < self._max_replicas:
            count = Counter(slot.variant for slot in self._slots)
            loading = Counter(slot.variant for slot in self._slots if slot.is_loading)
            places = {
                name: one.next_place
                for name, one in work.items()
                if one.wants_replica(count[name], loading[name])
            }
            placed = [(slot.nodes, slot.place.resources) for slot in self._occupied()]
            room = {place for place in set(places.values()) if self._nodes.have_room(place, placed)}
            shares = {
                name: work[name].queue.samples / (1 + count[name])
                for name, place in places.items()
                if place in room
            }
            if not shares:
                break
            leading = [name for name in shares if held_back and name not in held_back and not count[name]]
            self._start(work[max(leading or shares, key=lambda name: shares[name])])

    def _occupied(self) -> list[ReplicaSlot]:
        """Replicas that take up resources, those that are closing included."""
        return [*self._slots, *(slot for slot, _ in self.closing.values())]

    def has_place(self, work: VariantWork) -> bool:
        """Whether a variant may be tried somewhere, now or when it is free."""
        left_out = work.failed_loads.left_out
        return "" not in left_out and self._nodes.have_room(replace(work.resources, avoided=left_out), ())

    def _start(self, work: VariantWork) -> None:
        self._number += 1
        variant, number, place = work.job.variant, self._number, Placement(work.next_place)
        environment = replica_environment(variant)
        shared = {"runtime_env": environment} if environment else {}
        threads = MAX_BLOCKS_IN_FLIGHT + 1  # one to answer `status`
        options = {**place.actor_options(0), **shared, "max_concurrency": threads}
        actor = ray.remote(Replica).options(**options).remote(work.job, number)
        followers = [
            ray.remote(Follower).options(**place.actor_options(rank), **shared).remote(work.job, number, rank)
            for rank in range(1, place.resources.nodes)
        ]
        state = ReplicaProgress(number=number, variant=variant.name)
        slot = ReplicaSlot(actor, place, state, time.monotonic(), followers)
        self._slots.append(slot)
        self._progress.replicas[number] = state
        self._progress.waiting = None
        if followers:
            group = actor.form_group.remote(place.resources.nodes)
            slot.parts = [one.remote(group) for one in (actor.load, *(other.follow for other in followers))]
        self.expected |= dict.fromkeys(slot.parts or (actor.status.remote(), actor.load.remote()), slot)
        self._progress.variants[variant.name].replicas += 1
        self.log("started", slot)

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
            has_node = self._nodes.have_room(slot.place.resources, ())
            patience = SECONDS_WITHOUT_ROOM if has_node and not slot.followers else SECONDS_TO_RESERVE
            if time.monotonic() - slot.since > patience:
                self.log("not placed", slot)
                self.close(slot, dead=True)

    def may_find_room(self, work: Iterable[VariantWork]) -> bool:
        """Whether blocks wait for room, which a replica that is closing or a node that joins may give."""
        wanted = {str(one.next_place) for one in work if one.queue}
        self._progress.waiting = None
        if not wanted:
            return False
        if time.monotonic() - self._last_occupied < SECONDS_WITHOUT_ROOM:
            if not self.closing:
                needs = " or ".join(sorted(wanted))
                self._progress.waiting = f"the Ray cluster has no room for a replica, which needs {needs}"
            return True
        self._progress.notes.append(
            f"the Ray cluster had no room for a replica for {SECONDS_WITHOUT_ROOM / 60:.0f} minutes"
        )
        return False

    # closing --------------------------------------------------------------------------------------------

    def close(self, slot: ReplicaSlot, *, dead: bool = False) -> None:
        """End a replica: one with nothing in flight may free its model first, the others are killed."""
        counts = self._progress.variants[slot.variant]
        self._slots.remove(slot)
        self.expected = {reference: one for reference, one in self.expected.items() if one is not slot}
        counts.replicas -= 1
        del self._progress.replicas[slot.progress.number]
        if not slot.is_loading:
            seconds = time.monotonic() - slot.since
            counts.busy_seconds += seconds
            self.log("closed", slot, samples=slot.progress.samples, busy_seconds=seconds)
        if dead or slot.is_loading or slot.in_flight:
            slot.kill()
        else:
            self.closing[slot.actor.close.remote()] = slot, time.monotonic() + SECONDS_TO_CLOSE
        self._last_occupied = time.monotonic()

    def end_closed(self, arrived: Sequence[Any]) -> None:
        """Kill the replicas that have freed their model, or take too long over it."""
        for reference, (slot, until) in list(self.closing.items()):
            if reference in arrived or time.monotonic() > until:
                del self.closing[reference]
                slot.kill()

    def log(self, event: str, slot: ReplicaSlot, **facts: object) -> None:
        """Log an event of a replica."""
        self._log({"event": event, "replica": slot.progress.number, "variant": slot.variant, **facts})
