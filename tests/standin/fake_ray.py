"""Ray's calls that the dispatcher makes, in this process and one after the other.

Replicas answer blocks by noting their samples; which loads and blocks end in what is the test's to say.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from orchestrator.cluster.resources import NODE_ID, Node, has_room
from orchestrator.config.load import Variant
from orchestrator.config.schema import PromptConfig, ReplicaConfig, SamplingConfig
from orchestrator.rundir.schema import sample_schema
from orchestrator.workers import dispatcher, replica_slots
from orchestrator.workers.replica import BlockReport, Job, Loaded
from orchestrator.workers.replica_slots import BlockQueue, VariantWork
from orchestrator.workers.stopping import NO_SEED, SCORES


def work_of(name, blocks, resources, metrics=None):
    """The work of a variant."""
    eager = {"enforce_eager": True}
    variant = Variant("m", None, eager, name=name, cluster=ReplicaConfig(), skip_if_unsupported=False)
    settings = SamplingConfig(), PromptConfig(), "store", "submit", {}, {}, sample_schema()
    scored = ("base", 1) if any(block.fidelity for block in blocks) else None
    job = Job(variant, resources, *settings, {"versions": {}}, metrics or {}, scored)
    owed = Counter(rerun.temperature for block in blocks for rerun in block.reruns for _ in block.items)
    return VariantWork(job, BlockQueue(blocks, owed))


@dataclass
class FakeRay:
    """A cluster of one thread.

    Args:
        on_load: called with a replica when it loads; may raise.
        on_block: called with a replica and a block before the block counts as answered; may raise, or return
            why the engine ends after the first item of the block.
        choose: picks which of several results arrives first, as an index.
        target_in_flight: requests a replica wants in flight.
        log_likelihoods: which way its engine comes to them.
        together: whether all results under way arrive at the same moment.
        problem: what keeps replicas from writing.
        on_close: called with a replica that is closed; whether its process may load another model.
        score: called with a replica, an item and a rerun for each score that is wanted.
        nodes: names of the nodes, each with room for one replica; a node for each replica if left out.
    """

    on_load: object = lambda _: None
    on_block: object = lambda _, __: None
    choose: object = lambda _: 0
    target_in_flight: int = 64
    log_likelihoods: str | None = None
    together: bool = False
    problem: str | None = None
    on_close: object = lambda _: False
    score: object = lambda *_: 1.0
    nodes: tuple = ()
    answered: Counter = field(default_factory=Counter)
    loads: list = field(default_factory=list)
    most_alive: int = 0
    most_held: int = 0
    alive: list = field(default_factory=list)

    def install(self, patch=setattr):
        """Take the place of Ray."""
        for module in (dispatcher, replica_slots):
            patch(module, "ray", self)

    def remote(self, _class):
        """Take an actor class."""
        return self

    def options(self, *, max_concurrency, num_cpus, num_gpus, label_selector=None):
        """Take its resources."""
        assert max_concurrency > replica_slots.MAX_BLOCKS_IN_FLIGHT
        node = self.node_for(label_selector)

        class Maker:
            @staticmethod
            def remote(job, number):
                return FakeReplica(self, job, number, node or f"node-of-{number}")

        return Maker

    def node_for(self, selector):
        """The node that a replica gets; None makes one for it."""
        taken = {replica.place for replica in self.alive} | avoided(selector)
        node = next((node for node in self.nodes if node not in taken), None)
        assert node or not self.nodes, "there is no room"
        return node

    def room(self, wanted, placed):
        """Whether there is room for one more replica."""
        taken = [((replica.place,), wanted) for replica in self.alive if placed]
        return has_room([Node(name, {"CPU": 1.0}, {}) for name in self.nodes], wanted, taken)

    def wait(self, references, num_returns=1, timeout=None):
        """One result has arrived, or all of them where they arrive together."""
        if timeout == 0:
            return (references, []) if self.together else ([], references)
        self.most_held = max(
            self.most_held, *(sum(r.replica is one for r in references) for one in self.alive), 0
        )
        assert references, "nothing is under way that could arrive"
        chosen = references[self.choose(len(references)) % len(references)]
        return [chosen], [other for other in references if other is not chosen]

    def get(self, reference):
        """Do now what was asked for."""
        return reference.result()

    def kill(self, replica):
        """End a replica."""
        replica.dead = True
        if replica in self.alive:
            self.alive.remove(replica)


def avoided(selector):
    """The nodes that a selector of labels rules out."""
    return set((selector or {}).get(NODE_ID, "").removeprefix("!in(").removesuffix(")").split(","))


class FakeReplica:
    """One loaded engine."""

    def __init__(self, ray, job, number, node):
        self.ray, self.job, self.variant, self.number, self.dead = ray, job, job.variant.name, number, False
        self.place, self.used = node, False
        ray.alive.append(self)
        ray.most_alive = max(ray.most_alive, len(ray.alive))
        actions = (self._load, self._load_next, self._run, self._close, self._status)
        methods = (Method(self, one) for one in actions)
        self.load, self.load_next, self.run, self.close, self.status = methods

    def _load(self):
        self.ray.loads.append(self.variant)
        self.ray.on_load(self)
        software = {"versions": {"replica": str(self.number)}, "commit": None}
        if self.ray.log_likelihoods:
            software["log_likelihoods"] = self.ray.log_likelihoods
        return Loaded(self.ray.target_in_flight, self.place, software)

    def _load_next(self, job, number):
        self.job, self.variant, self.number, self.used = job, job.variant.name, number, True
        return self._load()

    def _run(self, block):
        ended = self.ray.on_block(self, block)
        later = (replace(block, items=block.items[1:]),) if ended and block.items[1:] else ()
        block = replace(block, items=block.items[:1]) if ended else block
        for item in block.items:
            for rerun in block.reruns:
                self.ray.answered[block.variant, block.task, item.item, rerun] += 1
        return BlockReport(block.samples, 0, 0, 0, self._scores(block), put_off=later, ended=ended)

    def _scores(self, block):
        if block.task not in self.job.deciding_metrics:
            return None
        cells = [(item.item, rerun) for item in block.items for rerun in block.reruns]
        rows = [
            (
                item,
                rerun.temperature,
                NO_SEED if rerun.seed is None else rerun.seed,
                self.ray.score(self, item, rerun),
            )
            for item, rerun in cells
        ]
        return np.array(rows, SCORES)

    def _close(self):
        return self.ray.on_close(self)

    def _status(self):
        return self.place, self.ray.problem


@dataclass(frozen=True)
class Method:
    """An actor's method."""

    replica: FakeReplica
    action: object

    def remote(self, *arguments):
        """Ask for it; it is done when its result is fetched."""
        return Reference(self.replica, self.action, arguments)


@dataclass(frozen=True, eq=False)
class Reference:
    """A result to come."""

    replica: FakeReplica
    action: object
    arguments: tuple

    def result(self):
        """The result, or what Ray raises in its place."""
        if self.replica.dead:
            raise RayActorError
        try:
            return self.action(*self.arguments)
        except ReplicaKilledError as error:
            self.replica.dead = True
            raise RayActorError from error
        except OutOfMemoryError:
            self.replica.dead = True
            raise
        except Exception as error:
            raise RayTaskError("run", "traceback", error) from error


class ReplicaKilledError(Exception):
    """The process of a replica is gone."""
