"""Ray's calls that the dispatcher makes, in this process and one after the other.

Replicas answer blocks by noting their samples; which loads and blocks end in what is the test's to say.
"""

from collections import Counter
from dataclasses import dataclass, field

from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from orchestrator.workers.dispatcher import MOST_THREADS
from orchestrator.workers.replica import BlockReport, Loaded, Trouble


@dataclass
class FakeRay:
    """A cluster of one thread.

    Args:
        on_load: called with a replica when it loads; may raise.
        on_block: called with a replica and a block before the block counts as answered; may raise.
        choose: picks which of several results arrives first, as an index.
        appetite: requests a replica wants in flight.
        together: whether all results under way arrive at the same moment.
        trouble: what keeps replicas from writing.
    """

    on_load: object = lambda _: None
    on_block: object = lambda _, __: None
    choose: object = lambda _: 0
    appetite: int = 64
    together: bool = False
    trouble: str | None = None
    answered: Counter = field(default_factory=Counter)
    loads: list = field(default_factory=list)
    most_alive: int = 0
    most_held: int = 0
    alive: list = field(default_factory=list)

    def remote(self, _class):
        """Take an actor class."""
        return self

    def options(self, *, max_concurrency, num_cpus, num_gpus):
        """Take its resources."""
        assert max_concurrency > MOST_THREADS

        class Maker:
            @staticmethod
            def remote(job, number):
                return FakeReplica(self, job.variant, number)

        return Maker

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


class FakeReplica:
    """One loaded engine."""

    def __init__(self, ray, variant, number):
        self.ray, self.variant, self.number, self.dead = ray, variant, number, False
        self.node = f"node-of-{number}"
        ray.alive.append(self)
        ray.most_alive = max(ray.most_alive, len(ray.alive))
        actions = (self._load, self._run, self._close, self._trouble)
        self.load, self.run, self.close, self.trouble = (Method(self, action) for action in actions)

    def _load(self):
        self.ray.loads.append(self.variant)
        self.ray.on_load(self)
        return Loaded(self.ray.appetite, self.node)

    def _run(self, block):
        self.ray.on_block(self, block)
        for item in block.items:
            for rerun in block.reruns:
                self.ray.answered[block.variant, block.task, item.item, rerun] += 1
        return BlockReport(block.samples, 0, 0, 0)

    def _close(self):
        return None

    def _trouble(self):
        return Trouble(self.ray.trouble)


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
