"""Feeding replicas: blocks are handed out before engines drain, and as the stopping policy allows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.workers.stopping import Next

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.rundir.progress import SweepProgress
    from orchestrator.sweep.blocks import Block
    from orchestrator.workers.replica_slots import ReplicaSlot, ReplicaSlots, VariantWork
    from orchestrator.workers.stopping import StoppingPolicy

SECONDS_UNTIL_STATUS = 5.0  # without a result from a replica at work, until it is asked for its status


class Feeder:
    """Hands blocks to replicas.

    Args:
        work: the blocks of all variants.
        slots: the replicas.
        stopping: what comes next for a variant at a temperature.
        progress: counts to keep.
    """

    def __init__(
        self,
        work: Mapping[str, VariantWork],
        slots: ReplicaSlots,
        stopping: StoppingPolicy,
        progress: SweepProgress,
    ) -> None:
        self._work = work
        self._slots = slots
        self._stopping = stopping
        self._progress = progress
        self._decided: set[tuple[str, float]] = set()

    def drop_decided(self) -> list[tuple[str, float, int]]:
        """Drop what the stopping policy no longer needs, and withdraw replicas that have nothing else to do.

        Returns:
            variant, temperature and number of queued samples of what has been decided since the last call.
        """
        found = []
        for name, work in self._work.items():
            for temperature in work.load.owed:
                key = name, temperature
                if key not in self._decided and self._stopping.next_for(*key) is Next.STOP:
                    self._decided.add(key)
                    found.append((*key, work.queue.drop(temperature)))
            self._progress.variants[name].not_needed = work.queue.dropped
        for name in {name for name, _, _ in found}:
            if all((name, temperature) in self._decided for temperature in self._work[name].load.owed):
                self._withdraw(name)
        return found

    def _withdraw(self, variant: str) -> None:
        """End the replicas of a variant that is decided, whatever they work on."""
        for slot in self._slots:
            if slot.variant == variant:
                if slot.in_flight:
                    self._slots.log("withdrawn", slot, in_flight=slot.progress.in_flight)
                for block in slot.in_flight.values():
                    self.put_back(block)  # drops it
                self._slots.close(slot)

    def put_back(self, block: Block) -> None:
        """Queue a block again, as far as it is still needed."""
        work, counts = self._work[block.variant], self._progress.variants[block.variant]
        waiting = work.queue.samples
        work.put_back(block)
        counts.asked_again += work.queue.samples - waiting
        counts.not_needed = work.queue.dropped

    def feed(self) -> None:
        """Hand out what replicas may take, and close those whose variant has nothing left for them."""
        for slot in self._slots:
            if slot.is_loading:
                continue
            queue = self._work[slot.variant].queue
            while queue and slot.may_take(queue.first()) and not self._must_wait(queue.first()):
                self._hand(slot, queue.take())
            if not queue and not slot.in_flight:
                self._slots.close(slot)
                if all(other.variant != slot.variant for other in self._slots):
                    self._stopping.ended(slot.variant)

    def leave(self, block: Block) -> None:
        """Leave a block to a later submit."""
        self._work[block.variant].queue.leave(block)

    def held_back(self) -> list[str]:
        """Variants whose next block the stopping policy holds back."""
        queues = {name: work.queue for name, work in self._work.items()}
        return [name for name, queue in queues.items() if queue and self._is_held_back(queue.first())]

    def _must_wait(self, block: Block) -> bool:
        """Whether to hold a block back for now; never if nothing else is in flight."""
        return self._slots.are_busy and self._is_held_back(block)

    def _is_held_back(self, block: Block) -> bool:
        temperatures = {rerun.temperature for rerun in block.reruns}
        return any(self._stopping.next_for(block.variant, one) is Next.WAIT for one in temperatures)

    def _hand(self, slot: ReplicaSlot, block: Block) -> None:
        reference = slot.actor.run.remote(block)
        slot.hand_out(reference, block)
        self._slots.expect(reference, slot)
        counts = self._progress.variants[slot.variant]
        counts.first_work = counts.first_work or time.monotonic()

    def request_statuses(self) -> None:
        """Ask replicas without a result for long whether something keeps them from their blocks."""
        now = time.monotonic()
        for slot in self._slots:
            overdue = slot.in_flight and now - slot.last_heard > SECONDS_UNTIL_STATUS
            if overdue and not slot.status_requested:
                slot.status_requested = True
                self._slots.expect(slot.actor.status.remote(), slot)
