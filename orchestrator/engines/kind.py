"""What lldeg has to know of a kind of engine before one is loaded: one class says all of it.

Nothing outside this folder knows an option of an engine. A new kind is a module with a subclass of
`EngineKind`, and a line in the registry (`orchestrator.engines`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, ClassVar, NamedTuple

from orchestrator.engines.base import COMMITS, Engine, EngineOptionError, EngineSpec, NodeGroup
from orchestrator.hardware import Hardware, Obstacle

TOKENIZER = "tokenizer"
# Options whose product is the number of workers of one engine, by the names of vLLM and SGLang
PARALLEL_SIZES = "tensor_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size", "tp_size"


class Repository(NamedTuple):
    """What an option names: a folder, or a repository on the hub with the branch, tag or commit asked for."""

    option: str
    name: str
    revision: str | None


class Tokenizer(NamedTuple):
    """A tokenizer: its folder, or its repository and the commit, and whether its code may run."""

    name: str
    revision: str | None
    trusted: bool


class EngineKind(ABC):
    """A way to run a model; the methods have the answers of an engine that runs in the replica's own process.

    Args:
        spec: the model and its engine options, `kind` included.
    """

    name: ClassVar[str]  # how a configuration names it, for messages
    packages: ClassVar[tuple[str, ...]] = ()  # distributions whose versions the manifest of a run records
    extra: ClassVar[str | None] = None  # what of `orchestrator.extras` it cannot run without
    served: ClassVar[bool] = False  # whether the model is behind a server, which has its own hardware

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.options = spec.options

    @classmethod
    @abstractmethod
    def recognises(cls, options: Mapping[str, Any]) -> bool:
        """Whether engine options mean this kind."""

    @abstractmethod
    def load(self, gpus: float) -> Engine:
        """Load the model, in the replica, which may use so many GPUs, or that part of one; 0 is the CPU.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
        """

    def prepare(self, gpus: float) -> None:  # noqa: B027 - some have nothing to prepare
        """Import what `load` needs, in the replica: only the first model of a process waits for that."""

    @property
    def process(self) -> Any:
        """What two models must have in common for one process to load them in turn; None if none may."""
        return None

    @property
    def spans_nodes(self) -> bool:
        """Whether one engine can be spread over several nodes."""
        return False

    def on_node(self, group: NodeGroup, rank: int) -> "EngineKind":
        """What one of several nodes loads (rank 0) or follows (the others).

        Raises:
            EngineOptionError: the engine cannot be spread over nodes with these options.
        """
        raise EngineOptionError(f"an engine of kind {self.name} runs on one node")

    def follow(self, gpus: float) -> None:
        """Run the part of an engine on another node than the first while it lives; raises as `load`."""
        raise EngineOptionError(f"an engine of kind {self.name} runs on one node")

    @property
    def takes_messages(self) -> bool:
        """Whether it takes conversations and renders them itself; it then returns no log-likelihoods."""
        return False

    @property
    def scores_tokens(self) -> bool:
        """Whether it tells the log-probabilities of the tokens of a text, and of others in their places."""
        return False

    def problems(self) -> Iterator[str]:
        """Mistakes in the options that are known before anything is loaded, each as the end of a sentence."""
        for name in ("data_parallel_size", "dp_size"):  # only one rank would be fed
            if self.options.get(name) not in (None, 1):
                yield (
                    f"{name} would feed one of its engines only: remove it, and set cluster.replicas instead"
                )
        for name in ("revision", COMMITS):  # would not be recorded
            if name in self.options:
                yield f"{name} is not an engine option: set the key revision of the sweep or the variant"

    def deciding(self) -> dict[str, Any]:
        """The options that decide an answer, which are part of a sample's identity."""
        return dict(self.options)

    def runs_on_cpu(self, gpus: float) -> bool:
        """Whether an engine with so many GPUs computes on the CPU."""
        return gpus == 0

    @property
    def gpus(self) -> int:
        """GPUs that one engine takes where there are GPUs: one for each of its workers."""
        sizes = [self.options.get(name) for name in PARALLEL_SIZES]
        return prod(size for size in sizes if isinstance(size, int) and size > 0)  # it refuses others itself

    def repositories(self) -> Iterator[Repository]:
        """Repositories and folders that options name beside the model, to be loaded at one commit by all."""
        name, revision = self.options.get(TOKENIZER), self.options.get(f"{TOKENIZER}_revision")
        if name or revision:
            yield Repository(TOKENIZER, str(name or self.spec.model), revision)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the options name, or the model's own."""
        trusted = bool(self.options.get("trust_remote_code", False))
        for named in self.repositories():
            if named.option == TOKENIZER:
                return Tokenizer(named.name, self.spec.commits.get(TOKENIZER), trusted)
        return Tokenizer(self.spec.model, self.spec.revision, trusted)

    def longest_prompt(self, request: str, answer: int, context: int | None) -> int | None:
        """Tokens that a prompt may have before its beginning is cut; None if that is unknown.

        Args:
            request: lm-eval's request type; of a log-likelihood, the continuation is a part of the prompt.
            answer: most tokens of an answer.
            context: of the model, as its configuration states it; None if that is unknown.
        """
        return None

    def obstacles(self, machine: Hardware, *, on_cpu: bool) -> Iterator[Obstacle]:
        """Why a machine cannot run the options: a GPU, for one, that is asked for and not there."""
        device = str(self.options.get("device", ""))
        if device.startswith("cuda") and not machine.gpus:
            yield f"device: {device} needs a GPU, and this machine has none", "remove it"

    def effective(self, machine: Hardware | None, *, on_cpu: bool) -> dict[str, Any]:
        """The options that decide answers as the engine will read them, with defaults that are known.

        Some depend on the machine where it runs, None if that is not known, and on computing on its CPU.
        """
        return self.deciding()

    @property
    def chooses_format(self) -> bool:
        """Whether the options leave the number format to the engine."""
        return self.options.get("dtype") in (None, "auto")

    def choices(self, machine: Hardware, *, on_cpu: bool) -> dict[str, Any]:
        """Options that the user did not set and that depend on the machine (for example a number format)."""
        return {}

    def slow(self, machine: Hardware, *, on_cpu: bool) -> str | None:
        """Why the options are needlessly slow on a machine; None if they are not."""
        half = self.options.get("dtype") in ("bfloat16", "float16", "half")
        if on_cpu and half and not machine.native_bfloat16:
            return "this CPU emulates bfloat16 and float16, which is several times slower than float32"
        return None
