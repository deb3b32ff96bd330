"""The dispatcher: one loop in the driver that spreads the blocks of a sweep over replicas.

It starts replicas where there is room (`replica_slots`), hands out blocks before engines drain, takes what
comes back, does what `failure_policy` says when something fails, and asks the stopping policy which samples
are still needed. A replica that dies costs only the blocks in flight on it: they are owed again.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

from orchestrator.engines.base import (
    SHARED,
    EngineDiedError,
    EngineEndedError,
    EngineOptionError,
    UnfitNodeError,
)
from orchestrator.errors import counted, error_text
from orchestrator.rundir.progress import SweepProgress
from orchestrator.rundir.schema import SoftwareEntry
from orchestrator.sweep.blocks import Block
from orchestrator.workers import failure_policy
from orchestrator.workers.replica import BlockReport, Loaded
from orchestrator.workers.replica_slots import ReplicaSlot, ReplicaSlots
from orchestrator.workers.stopping import Next, ReportedScores, StoppingPolicy

Watcher = Callable[[SweepProgress], None]
"""Called with the progress after every event, and at least twice a second."""

POLL_SECONDS = 0.5
SECONDS_UNTIL_STATUS = 5.0  # without a result from a replica at work, until it is asked for its status
MOST_TOLD = 10  # nodes that a variant leaves out, beside the log, which tells all
SECONDS_TO_FAIL = 5.0  # of all parts of a replica over several nodes, after the first of them


class Dispatcher:
    """Runs the blocks of a sweep on replicas until none is owed.

    The log of the slots also gets an event for every block that failed, and every temperature of a variant
    that was decided.
    """

    def __init__(
        self,
        slots: ReplicaSlots,
        *,
        give_up: Callable[[Block, str], ReportedScores | None],  # writes error rows, with a reason
        watch: Watcher,
        stopping: StoppingPolicy | None = None,  # which samples are still needed
        record: Callable[[SoftwareEntry], object] = lambda _: None,  # gets what runs, before it gets a block
    ) -> None:
        self._slots, self._work = slots, slots.work
        self._progress, self._log = slots.progress, slots.log
        self._give_up, self._watch, self._record = give_up, watch, record
        self._stopping = stopping or StoppingPolicy()
        scored = (work.job.scored for work in self._work.values())
        self._baseline = next((one[0] for one in scored if one is not None), "")  # whose answers are scored

    def run(self) -> None:
        """Work until nothing more can be answered or the sweep is to stop; no replica is left then."""
        try:
            self._drop_decided()
            self._fill_slots()
            while (self._slots or self._slots.may_find_room()) and not self._progress.stop:
                self._wait()
                self._watch(self._progress)
                self._slots.charge()
                self._slots.settle()
                self._drop_decided()
                self._feed()  # first, so that no replica is started for blocks that others will take
                self._fill_slots()
        finally:
            for slot in self._slots:
                self._slots.close(slot)
            while self._slots.closing:
                self._wait()
            self._slots.end_freed()

    def _fill_slots(self) -> None:
        """Start replicas, and end the variants of which none lives and that no node is left to try."""
        for variant, work in self._work.items():
            loads = work.failed_loads
            if work.queue.ended or not (loads.refusal or loads.left_out) or self._slots.of(variant):
                continue
            if loads.refusal or not self._slots.has_place(work):
                if not loads.refusal and loads.try_again(time.monotonic()):
                    self._log({"event": "tried again", "variant": variant, "nodes": len(loads.failed)})
                else:
                    self._end_variant(variant, loads.reason)
        first = {name: work.queue.first() for name, work in self._work.items() if work.queue}
        lacking = [name for name, block in first.items() if self._lacks_answers(block)]
        waiting = first.keys() - {self._baseline} if self._owes_answers() else ()
        self._slots.fill([*waiting, *(name for name in first if self._is_held_back(first[name]))], lacking)

    def _feed(self) -> None:
        """Hand out what replicas may take, and close those whose variant has nothing left for them.

        One without a result for long is asked whether something keeps it from its blocks.
        """
        now = time.monotonic()
        for slot in self._slots:
            if slot.is_loading:
                continue
            if slot.in_flight and now - slot.last_heard > SECONDS_UNTIL_STATUS and not slot.status_requested:
                slot.status_requested = True
                self._slots.expected[slot.actor.status.remote()] = slot
            queue = slot.work.queue
            while queue and slot.may_take(block := queue.first()):
                if self._lacks_answers(block) or self._is_beyond_budget(block):
                    break
                if self._slots.are_busy and self._is_held_back(block):  # never if nothing else is in flight
                    break
                reference = slot.actor.run.remote(queue.take())
                slot.in_flight[reference] = block
                slot.progress.in_flight += block.samples
                self._slots.expected[reference] = slot
                counts = self._progress.variants[slot.variant]
                counts.first_work = counts.first_work or time.monotonic()
            gives_way = queue and self._lacks_answers(queue.first()) and not self._slots.of(self._baseline)
            if not slot.in_flight and (not queue or gives_way):
                self._slots.close(slot)
                if not queue and not self._slots.of(slot.variant) and not self._progress.is_spent:
                    self._stopping.ended(slot.variant)

    def _is_beyond_budget(self, block: Block) -> bool:
        """Whether a block may cost too much; then no other is handed out, and those in flight come in."""
        if exceeds := self._progress.exceeds_budget(block.samples):
            for work in self._work.values():
                work.queue.end()
        return exceeds

    def _owes_answers(self) -> bool:
        """Whether answers of the baseline that variants are to score are still to come."""
        work = self._work.get(self._baseline)
        if work is None:
            return False
        in_flight = (block for slot in self._slots.of(self._baseline) for block in slot.in_flight.values())
        queued = [work.queue.first()] if work.queue else []
        return not all(block.fidelity for block in (*queued, *in_flight))

    def _lacks_answers(self, block: Block) -> bool:
        """Whether a block is to score answers of which some are still to come."""
        return block.fidelity and self._owes_answers()

    def _is_held_back(self, block: Block) -> bool:
        """Whether the stopping policy holds a block back for now."""
        temperatures = {rerun.temperature for rerun in block.reruns}
        return any(self._stopping.next_for(block.variant, one) is Next.WAIT for one in temperatures)

    def _put_back(self, blocks: Iterable[Block]) -> None:
        """Queue blocks again, as far as they are still needed."""
        for block in blocks:
            queue, counts = self._work[block.variant].queue, self._progress.variants[block.variant]
            waiting = queue.samples
            queue.put_back(block)
            counts.asked_again += queue.samples - waiting
            counts.not_needed = queue.dropped

    def _drop_decided(self) -> None:
        """Drop what the stopping policy no longer needs, and the replicas that have nothing else to do."""
        for variant, work in self._work.items():
            queue, next_for = work.queue, self._stopping.next_for
            decided = [one for one in queue.temperatures if next_for(variant, one) is Next.STOP]
            for temperature in decided:
                facts = {"temperature": temperature, "not_needed": queue.drop(temperature)}
                self._log({"event": "decided", "variant": variant, **facts})
            self._progress.variants[variant].not_needed = queue.dropped
            if decided and not queue.temperatures:
                for slot in self._slots.of(variant):  # whatever it works on
                    if slot.in_flight:
                        self._slots.tell("withdrawn", slot, in_flight=slot.progress.in_flight)
                    self._put_back(slot.in_flight.values())  # drops them
                    self._slots.close(slot)

    def _wait(self) -> None:
        """Take what arrives within `POLL_SECONDS`: first what has been written, so that it counts as such."""
        arrived: list[Any] = []
        if expected := [*self._slots.expected, *self._slots.closing]:
            arrived, others = ray.wait(expected, num_returns=1, timeout=POLL_SECONDS)
            if arrived and others:  # of many replicas several may have finished
                arrived += ray.wait(others, num_returns=len(others), timeout=0)[0]
        else:
            time.sleep(POLL_SECONDS)
        self._slots.end_closed(arrived)
        failed = []
        for reference in arrived:
            if (slot := self._slots.expected.pop(reference, None)) is None:
                continue
            try:
                result = ray.get(reference)
            except RayError as error:
                failed.append((slot, reference, error))
                continue
            slot.last_heard = time.monotonic()
            if isinstance(result, Loaded):
                self._loaded(slot, result)
            elif isinstance(result, BlockReport):
                self._written(slot, slot.taken_back(reference), result)
            else:
                slot.take_status(*result)
        for slot, reference, failure in failed:
            if slot in self._slots:
                self._failed(slot, reference, *_most_telling(reference, failure, slot))

    def _loaded(self, slot: ReplicaSlot, loaded: Loaded) -> None:
        self._record(loaded.software)
        counts = self._progress.variants[slot.variant]
        seconds = time.monotonic() - slot.since
        slot.target_in_flight = loaded.target_in_flight
        slot.shares = loaded.software.get("log_likelihoods") == SHARED
        slot.nodes = slot.place.reserved() or (loaded.node,)
        slot.progress.state = "running"
        slot.since = slot.progress.loaded = time.monotonic()
        counts.loads += 1
        counts.load_seconds += seconds
        further = {"nodes": list(slot.nodes)} if len(slot.nodes) > 1 else {}
        self._slots.tell("loaded", slot, load_seconds=seconds, node=loaded.node, **further)
        for node in slot.nodes:
            slot.work.failed_loads.forget(node)

    def _written(self, slot: ReplicaSlot, block: Block, report: BlockReport) -> None:
        counts = self._progress.variants[slot.variant]
        slot.progress.samples += report.samples
        slot.progress.problem = None
        counts.done += report.samples
        counts.errors += report.errors
        counts.prompt_tokens += report.prompt_tokens
        counts.output_tokens += report.output_tokens
        counts.spent += slot.work.job.variant.cost.tokens(report.prompt_tokens, report.output_tokens)
        counts.keep_pace()
        self._progress.metrics.setdefault(block.task, set()).update(report.metrics)
        if report.ended is not None:
            self._ended(slot, report.ended)  # which then has no more to do than the blocks in flight on it
        self._put_back(report.put_off)
        self._report(block, report.scores)

    def _report(self, block: Block, scores: ReportedScores | None) -> None:
        if scores is None:
            return
        self._stopping.take_scores(block.variant, block.task, scores)
        for variant, looks in self._stopping.last_looks().items():
            counts = self._progress.variants.get(variant)
            if counts is None:  # one of an earlier submit
                continue
            for look in set(looks) - set(counts.looks):
                self._log({"event": "look", "variant": variant, **look.model_dump(mode="json")})
            counts.looks = looks

    def _failed(self, slot: ReplicaSlot, reference: Any, cause: Exception, node: str) -> None:
        if slot.is_loading and slot.in_used_process:  # what is left of another model there may be why
            self._slots.tell("started again", slot, reason=error_text(cause))
            self._kill(slot)
        elif isinstance(cause, EngineOptionError):
            self._refused(slot, str(cause), node)
        elif isinstance(cause, EngineEndedError):
            self._ended(slot, cause)
            for other in self._slots.of(slot.variant):
                self._kill(other)
        elif isinstance(cause, (RayError, EngineDiedError)) or reference not in slot.in_flight:
            self._died(slot, cause, node)
        else:
            self._block_failed(slot.taken_back(reference), error_text(cause))

    def _ended(self, slot: ReplicaSlot, cause: EngineEndedError) -> None:
        """End a variant whose engine refuses its options or is away; once for all blocks that it leaves."""
        if slot.work.queue.ended:
            return
        refused = isinstance(cause, EngineOptionError)
        others = [other for other in self._slots.of(slot.variant) if other is not slot]
        if refused and not all(other.is_loading for other in others):
            self._refused(slot, str(cause), slot.nodes[0])
            return
        self._slots.tell("refused" if refused else "away", slot, reason=str(cause))
        if not refused:
            self._progress.notes.append(f"{slot.variant}: {cause}")
        self._end_variant(slot.variant, str(cause) if refused else None)

    def _refused(self, slot: ReplicaSlot, reason: str, node: str) -> None:
        """An engine refuses its options: on its node only, if another replica of the variant is loaded."""
        self._slots.tell("refused", slot, node=node, reason=reason)
        self._kill(slot)
        if all(other.is_loading for other in self._slots.of(slot.variant)):
            slot.work.failed_loads.refusal = reason
        self._load_failed(slot, node, reason, unfit=True)

    def _died(self, slot: ReplicaSlot, cause: Exception, node: str) -> None:
        """A replica has died, perhaps with a node; while Ray has not said which it has, any lost one counts.

        Ray notices the loss of a node after some seconds. Until then the actors on it are *unavailable*; that
        of a process alone it knows at once.
        """
        own = isinstance(cause, (EngineDiedError, UnfitNodeError))
        reason = str(cause) if own else error_text(cause)
        lost = self._slots.nodes.lost_since(slot.since)
        node_lost = isinstance(cause, ActorUnavailableError) or bool(lost & set(slot.nodes or lost))
        facts = {"node": node, "blocks": len(slot.in_flight), "node_lost": node_lost, "reason": reason}
        self._slots.tell("died", slot, **facts)
        blocks = list(slot.in_flight.values())
        self._slots.close(slot, dead=True)
        if slot.is_loading and not node_lost:
            self._load_failed(slot, node, reason, unfit=isinstance(cause, UnfitNodeError))
        for block in blocks:
            self._put_back(again := failure_policy.after_death(block, node_lost=node_lost))
            if again:
                continue
            try:  # it is given up: its samples become rows with an error
                scores = self._give_up(block, reason)
            except OSError as error:
                self._block_failed(block, error_text(error))
                continue
            counts = self._progress.variants[block.variant]
            counts.done += block.samples
            counts.errors += block.samples
            self._report(block, scores)

    def _load_failed(self, slot: ReplicaSlot, node: str, reason: str, *, unfit: bool) -> None:
        variant, loads = slot.variant, slot.work.failed_loads
        if loads.add(node, reason, time.monotonic(), since=slot.since, unfit=unfit):
            self._log({"event": "left out", "variant": variant, "node": node, "reason": reason})
            note = f"{variant} leaves out node {node[:8] or 'unknown'}: {reason}"
            if len(loads.left_out) <= MOST_TOLD and note not in self._progress.notes:
                self._progress.notes.append(note)

    def _end_variant(self, variant: str, refusal: str | None) -> None:
        """Ask nothing more of a variant; `refusal` is why its engine can never run, None if it may later."""
        self._work[variant].queue.end()
        self._stopping.ended(variant)
        self._progress.variants[variant].refusal = refusal or self._progress.variants[variant].refusal

    def _kill(self, slot: ReplicaSlot) -> None:
        """End a replica; no block of it is suspected."""
        self._put_back(slot.in_flight.values())
        self._slots.close(slot, dead=True)

    def _block_failed(self, block: Block, reason: str) -> None:
        facts = {"variant": block.variant, "task": block.task, "block": block.name, "reason": reason}
        self._log({"event": "failed", **facts})
        if (again := failure_policy.after_failure(block)) is not None:
            self._put_back([again])
            return
        self._work[block.variant].queue.leave(block)
        self._progress.variants[block.variant].lost += block.samples
        missing = f"{counted(block.samples, 'sample')} still missing"
        self._progress.notes.append(f"{block.variant}/{block.task}: {missing}, because {reason}")


def _most_telling(reference: Any, error: RayError, slot: ReplicaSlot) -> tuple[Exception, str]:
    """Why a replica failed, and on which node ("" if it is not known).

    Of several nodes, often the first to fail only lost its connection to another. A refusal tells most, then
    a part that is unavailable with its node, then what came first.
    """
    errors = [(error, slot.parts.index(reference) if reference in slot.parts else 0)]
    if slot.parts:
        done, _ = ray.wait(list(slot.parts), num_returns=len(slot.parts), timeout=SECONDS_TO_FAIL)
        for part in done:
            try:
                ray.get(part)
            except RayError as other:
                errors.append((other, slot.parts.index(part)))
    causes = [(one.cause if isinstance(one, RayTaskError) else one, rank) for one, rank in errors]
    kinds = (EngineOptionError, ActorUnavailableError, Exception)
    cause, rank = next(one for kind in kinds for one in causes if isinstance(one[0], kind))
    return cause, slot.nodes[rank] if rank < len(slot.nodes) else ""
