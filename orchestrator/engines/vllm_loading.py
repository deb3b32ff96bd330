"""Loading vLLM: arguments that fit where it runs, its batch defaults, and what it says when it refuses."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import REFUSALS, failure_of, load_failure
from orchestrator.engines.kind import TOKENIZER

if TYPE_CHECKING:
    from orchestrator.engines.base import EngineSpec

DRAFT = "speculative_config"
CPU_KV_CACHE_BYTES = 4 << 30
MEMORY_SHARE = 0.9  # of a GPU, which is vLLM's own default
PREFILL_TOKENS = 2048
"""Most tokens of one prompt in a step. For a log-likelihood vLLM computes the logits of all of them at once,
in float32 and in memory that it has not set aside: with a vocabulary of 128,000 these are 1 GiB."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM reserves memory for
ELSEWHERE = ("Engine core initialization failed", "WorkerProc initialization failed")
"""What a process says of one that it started: the reason is in what that one printed."""
MOST_LOG = 1 << 20  # bytes of a log to look through
_PREFIX = re.compile(r"^(\([^()]*pid=\d+\) ?)?((ERROR|CRITICAL) \S+ \S+ \[[^]]*\] ?)?")
_ERROR = re.compile(r"^([A-Za-z_][\w.]*\.)?([A-Z]\w*(Error|Exception|Warning|Interrupt)): .")
_SECOND_HAND = (*ELSEWHERE, "See root cause above", "Connection closed by peer", "Broken pipe")


def engine_arguments(spec: EngineSpec, *, gpus: float, on_cpu: bool) -> dict[str, Any]:
    """Arguments for vLLM's engine: the user's own over defaults that fit where it runs.

    On a part of a GPU it takes that part of the memory that vLLM otherwise takes. On a CPU, chunked prefill
    breaks seeded requests; the automatic KV cache there takes nearly all memory and half a minute to clear.
    """
    arguments: dict[str, Any] = {"model": spec.model, "disable_log_stats": True, "seed": 0}
    if 0 < gpus < 1:
        arguments["gpu_memory_utilization"] = MEMORY_SHARE * gpus
    if on_cpu:
        arguments["enable_chunked_prefill"] = False
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            arguments["kv_cache_memory_bytes"] = CPU_KV_CACHE_BYTES
        if (longest := spec.arguments.get("max_model_len")) is not None:
            arguments["max_num_batched_tokens"] = max(int(longest), 4096)
    if spec.lora is not None:
        arguments |= {"enable_lora": True, "max_lora_rank": _room_for(spec.lora)}
    return arguments | spec.arguments | _revisions(spec)


def _revisions(spec: EngineSpec) -> dict[str, Any]:
    """Arguments by which vLLM loads the recorded commits of a model on the hub and of its tokenizer."""
    commits = spec.commits
    arguments: dict[str, Any] = {
        "revision": spec.revision,
        "tokenizer_revision": commits.get(TOKENIZER, spec.revision),
    }
    if DRAFT in commits:
        arguments[DRAFT] = {**spec.arguments[DRAFT], "revision": commits[DRAFT]}
    return {name: value for name, value in arguments.items() if value is not None}


def _room_for(adapter: str) -> int:
    """The smallest rank that vLLM can reserve for an adapter."""
    rank = int(json.loads((Path(adapter) / "adapter_config.json").read_text("utf-8")).get("r", 0))
    return next((size for size in LORA_RANKS if size >= rank), rank)


def set_up_cpu(spec: EngineSpec) -> None:
    """Set what vLLM reads from the environment on a CPU, but for what the user has set.

    Ray sets OMP_NUM_THREADS to the replica's CPUs. Where these are all, the variable makes vLLM let torch's
    threads spin; where they are not, vLLM would bind each engine's threads to the same first cores.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads == str(os.cpu_count()):
        del os.environ["OMP_NUM_THREADS"]
    elif threads is not None:
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if spec.arguments.get("enforce_eager"):
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # vLLM still compiles its sampler otherwise


def load_llm_engine(arguments: dict[str, Any]) -> Any:
    """Load vLLM's engine with the batch defaults of `vllm.LLM`.

    Without that usage context an engine would get the small batches of an unknown use. Long prompts are
    prefilled in parts, as far as chunked prefill is on and the user has not said otherwise.
    """
    from vllm import LLMEngine  # noqa: PLC0415 - ten seconds, in the replica only
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415

    return LLMEngine.from_vllm_config(
        _engine_config(arguments),
        usage_context=UsageContext.LLM_CLASS,
        disable_log_stats=arguments["disable_log_stats"],
    )


def run_workers(spec: EngineSpec, *, gpus: float, on_cpu: bool) -> None:
    """Run the workers of an engine whose first node is another one, until one of them ends.

    This is what `vllm serve --headless` does there (run_headless in vllm/entrypoints/cli/serve.py).

    Raises:
        EngineOptionError: vLLM refuses its options or the model.
        EngineDiedError: the workers could not be started now.
    """
    from vllm.v1.executor.multiproc_executor import MultiprocExecutor  # noqa: PLC0415

    if on_cpu:
        set_up_cpu(spec)
    printed = PrintedSince()
    try:
        config = _engine_config(engine_arguments(spec, gpus=gpus, on_cpu=on_cpu), headless=True)
        executor = MultiprocExecutor(config, monitor_workers=False)
    except Exception as error:
        raise why_not_loaded(error, printed.read()) from error
    executor.start_worker_monitor(inline=True)


def _engine_config(arguments: dict[str, Any], *, headless: bool = False) -> Any:
    from vllm import EngineArgs  # noqa: PLC0415
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415

    headless_only = {"headless": True} if headless else {}  # not known to versions without several nodes
    config = EngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS, **headless_only)
    scheduler = config.scheduler_config
    if scheduler.enable_chunked_prefill and "long_prefill_token_threshold" not in arguments:
        scheduler.long_prefill_token_threshold = min(PREFILL_TOKENS, config.model_config.max_model_len)
    return config


class PrintedSince:
    """What this process and its children print from now on, if it goes to a file, as it does in a replica."""

    def __init__(self) -> None:
        self._start = self._size()

    def read(self) -> str:
        """The end of it."""
        if (size := self._size()) <= self._start:
            return ""
        start = max(self._start, size - MOST_LOG)
        with Path("/proc/self/fd/2").open("rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "replace")

    @staticmethod
    def _size() -> int:
        status = os.fstat(2)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0


def why_not_loaded(error: BaseException, printed: str) -> BaseException:
    """What a failed load means: a refusal, which is final, or something that another attempt may not meet.

    vLLM's engine process tells its parent only that it failed; its own words are in what it printed.

    Args:
        error: what loading raised.
        printed: what was printed meanwhile.
    """
    if not any(words in str(error) for words in ELSEWHERE):
        return load_failure(error)
    if found := _last_error(printed):
        name, words = found
        return failure_of(words, {name}, REFUSALS | {"DeprecationWarning"})
    return error


def _last_error(printed: str) -> tuple[str, str] | None:
    """The class and the line of the last error at first hand in a log; None if there is none."""
    lines = (_PREFIX.sub("", line).strip() for line in printed.splitlines())
    errors = [
        (match[2], line)
        for line in lines
        if (match := _ERROR.match(line)) and not any(words in line for words in _SECOND_HAND)
    ]
    return errors[-1] if errors else None
