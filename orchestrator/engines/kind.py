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
HALF_PRECISION = ("bfloat16", "float16", "half")
PARALLEL_SIZES = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "prefill_context_parallel_size",
    "tp_size",
)
"""Options whose product is the number of workers of one engine, by the names of vLLM and SGLang."""


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


def chooses_format(options: Mapping[str, Any]) -> bool:
    """Whether the options leave the number format to the engine."""
    return options.get("dtype") in (None, "auto")


class EngineKind(ABC):
    """A way to run models; the methods have the answers of an engine that runs in the replica's own process.

    Attributes:
        name: how a configuration names it, for messages.
        packages: distributions whose versions the manifest of a run records.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognises(self, options: Mapping[str, Any]) -> bool:
        """Whether engine options, `kind` included, mean this kind."""

    @abstractmethod
    def load(self, spec: EngineSpec, *, gpus: float) -> Engine:
        """Load a model; called in the replica.

        Args:
            spec: the model and its options.
            gpus: GPUs this process may use, or the share of one; 0 runs on the CPU.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
        """

    def spans_nodes(self, options: Mapping[str, Any]) -> bool:
        """Whether one engine can be spread over several nodes."""
        return False

    def on_node(self, spec: EngineSpec, group: NodeGroup, rank: int) -> EngineSpec:
        """What one of several nodes loads (rank 0) or follows (the others).

        Raises:
            EngineOptionError: the engine cannot be spread over nodes with these options.
        """
        raise EngineOptionError(f"an engine of kind {self.name} runs on one node")

    def follow(self, spec: EngineSpec, *, gpus: float) -> None:
        """Run the part of an engine that is on another node than the first, for as long as the engine lives.

        Args:
            spec: as `on_node` returns it.
            gpus: GPUs this process may use.

        Raises:
            EngineOptionError: the engine refuses its options or its model.
        """
        raise EngineOptionError(f"an engine of kind {self.name} runs on one node")

    @property
    def served(self) -> bool:
        """Whether the model is behind a server, which has its own hardware."""
        return False

    def takes_messages(self, options: Mapping[str, Any]) -> bool:
        """Whether it takes conversations and renders them itself; it then returns no log-likelihoods."""
        return False

    def problems(self, options: Mapping[str, Any]) -> Iterator[str]:
        """Mistakes in the options that are known before anything is loaded, each as the end of a sentence."""
        for name in ("data_parallel_size", "dp_size"):  # only one rank would be fed
            if options.get(name) not in (None, 1):
                yield (
                    f"{name} would feed one of its engines only: remove it, and set cluster.replicas instead"
                )
        for name in ("revision", COMMITS):  # would not be recorded
            if name in options:
                yield f"{name} is no engine option: set the key revision of the sweep or the variant"

    def deciding(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that decide an answer, which are part of a sample's identity."""
        return dict(options)

    def runs_on_cpu(self, gpus: float) -> bool:
        """Whether an engine with so many GPUs computes on the CPU."""
        return gpus == 0

    def gpus(self, options: Mapping[str, Any]) -> int:
        """GPUs that one engine takes where there are GPUs: one for each of its workers."""
        sizes = [options.get(name) for name in PARALLEL_SIZES]
        return prod(size for size in sizes if isinstance(size, int) and size > 0)  # it refuses others itself

    def repositories(self, options: Mapping[str, Any], model: str) -> Iterator[Repository]:
        """Repositories and folders that options name beside the model, to be loaded at one commit by all."""
        name, revision = options.get(TOKENIZER), options.get(f"{TOKENIZER}_revision")
        if name or revision:
            yield Repository(TOKENIZER, str(name or model), revision)

    def tokenizer(self, options: Mapping[str, Any], model: str, revision: str | None) -> Tokenizer:
        """The tokenizer that the options name, or the model's own."""
        trusted, commits = bool(options.get("trust_remote_code", False)), options.get(COMMITS, {})
        for named in self.repositories(options, model):
            if named.option == TOKENIZER:
                return Tokenizer(named.name, commits.get(TOKENIZER), trusted)
        return Tokenizer(model, revision, trusted)

    def longest_prompt(
        self, options: Mapping[str, Any], request: str, answer: int, context: int | None
    ) -> int | None:
        """Tokens that a prompt may have before its beginning is cut; None if that is unknown.

        Args:
            options: engine options, `kind` included.
            request: lm-eval's request type; of a log-likelihood, the continuation is a part of the prompt.
            answer: most tokens of an answer.
            context: of the model, as its configuration states it; None if that is unknown.
        """
        return None

    def obstacles(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> Iterator[Obstacle]:
        """Why a machine cannot run these options: a GPU, for one, that is asked for and not there."""
        if str(options.get("device", "")).startswith("cuda") and not machine.gpus:
            yield Obstacle(f"device: {options['device']} needs a GPU, and this machine has none", "remove it")

    def effective(
        self, options: Mapping[str, Any], machine: Hardware | None, *, on_cpu: bool
    ) -> dict[str, Any]:
        """The options that decide answers as the engine will read them, with defaults that are known.

        Args:
            options: engine options, `kind` included.
            machine: where it runs; None if that is not known.
            on_cpu: whether it computes on the CPU.
        """
        return self.deciding(options)

    def choices(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> dict[str, Any]:
        """Options that the user did not set and that depend on the machine (for example a number format)."""
        return {}

    def explain_choices(self, machine: Hardware) -> str:
        """Why the machine chooses as it does, as a sentence for the user."""
        if machine.native_bfloat16:
            return "Engines compute in bfloat16, which this CPU supports; set engine.dtype to change this."
        return "Engines compute in float32: this CPU only emulates bfloat16; set engine.dtype to change this."

    def slow(self, options: Mapping[str, Any], machine: Hardware, *, on_cpu: bool) -> str | None:
        """Why these options are needlessly slow on a machine; None if they are not."""
        if on_cpu and options.get("dtype") in HALF_PRECISION and not machine.native_bfloat16:
            return "this CPU emulates bfloat16 and float16, which is several times slower than float32"
        return None
