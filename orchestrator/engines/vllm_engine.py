"""vLLM, fed continuously.

One thread drives the engine: it takes whatever queries have come, steps, hands out what is finished. Blocks,
tasks, seeds and temperatures share its batch, so it drains only when a variant has no work left. On a CPU the
engine runs inside this process, which starts faster and leaves both threads of a small machine to it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from orchestrator.config_file import suggestion
from orchestrator.engine_options import vllm_options
from orchestrator.engines.base import (
    GENERATE,
    LOGLIKELIHOOD,
    Answer,
    EngineDiedError,
    EngineOptionError,
    error_text,
)
from orchestrator.engines.encoding import Encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.engines.base import EngineSpec, Query

CPU_KV_CACHE_BYTES = 4 << 30
FEED_FACTOR = 2  # requests in flight per batch slot: while one batch runs, the next one waits at the door


def engine_arguments(spec: EngineSpec, *, on_cpu: bool) -> dict[str, Any]:
    """Arguments for vLLM's engine: the user's own over defaults that make reruns sound on a CPU.

    Chunked prefill breaks seeded requests on the CPU; the automatic KV cache there takes nearly all memory
    and half a minute to clear.
    """
    arguments: dict[str, Any] = {"model": spec.model, "disable_log_stats": True, "seed": 0}
    if spec.revision is not None:
        arguments["revision"] = spec.revision
    if on_cpu:
        arguments["enable_chunked_prefill"] = False
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            arguments["kv_cache_memory_bytes"] = CPU_KV_CACHE_BYTES
        if (longest := spec.arguments.get("max_model_len")) is not None:
            arguments["max_num_batched_tokens"] = max(int(longest), 4096)
    return arguments | spec.arguments


class _Pending:
    """Engine requests that a caller waits for together."""

    def __init__(self, size: int) -> None:
        self.outputs: list[Any] = [None] * size
        self.left = size
        self.done = threading.Event()

    def put(self, index: int, output: Any) -> None:
        self.outputs[index] = output
        self.left -= 1
        if self.left == 0:
            self.done.set()


class VllmEngine:
    """A model loaded into vLLM.

    Args:
        spec: the model; options go to vLLM's EngineArgs as they are.
        on_cpu: whether to run on the CPU.

    Raises:
        EngineOptionError: an option vLLM does not know, or a model or option it refuses.
    """

    def __init__(self, spec: EngineSpec, *, on_cpu: bool) -> None:
        if on_cpu:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        for option in spec.arguments:
            if vllm_options() and option not in vllm_options():
                raise EngineOptionError(
                    f"vLLM has no option '{option}'{suggestion(option, sorted(vllm_options()))}"
                )
        from vllm import EngineArgs, LLMEngine, SamplingParams  # noqa: PLC0415 - ten seconds, in the replica only

        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**engine_arguments(spec, on_cpu=on_cpu)))
        except (ValueError, TypeError, NotImplementedError, OSError) as error:
            raise EngineOptionError(error_text(error)) from error
        self._sampling_params = SamplingParams
        config = self._engine.vllm_config
        self._slots = int(config.scheduler_config.max_num_seqs)
        tokenizer = (
            self._engine.renderer.tokenizer if hasattr(self._engine, "renderer") else self._engine.tokenizer
        )
        self._encoding = Encoding(tokenizer, int(config.model_config.max_model_len))
        self._encoding_lock = threading.Lock()  # fast tokenizers may not be used by two threads at once
        self._arrivals: deque[tuple[list[int], Any, _Pending, int]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._drive, name="vllm-engine", daemon=True)
        self._thread.start()

    @property
    def appetite(self) -> int:
        """Requests to keep in flight."""
        return FEED_FACTOR * self._slots

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`."""
        with self._encoding_lock:
            prepared = [self._prepare(query) for query in queries]
        pending = _Pending(sum(len(requests) for requests, _ in prepared))
        indices = count()
        for requests, _ in prepared:
            self._arrivals.extend((tokens, params, pending, next(indices)) for tokens, params in requests)
        if pending.outputs:
            self._wake.set()
            while not pending.done.wait(timeout=1.0):
                if self._death is not None:
                    raise EngineDiedError(error_text(self._death))
        outputs = iter(pending.outputs)
        return [read([next(outputs) for _ in requests]) for requests, read in prepared]

    def close(self) -> None:
        """Stop the thread and free the model."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=30)
        shutdown = getattr(self._engine.engine_core, "shutdown", None)
        if shutdown is not None:
            shutdown()

    # the engine's thread --------------------------------------------------------------------------------

    def _drive(self) -> None:
        waiting: dict[str, tuple[_Pending, int]] = {}
        numbers = count()
        try:
            while not self._closing:
                if not self._arrivals and not waiting:
                    self._wake.wait()
                    self._wake.clear()
                while self._arrivals:
                    tokens, params, pending, index = self._arrivals.popleft()
                    name = str(next(numbers))
                    try:
                        self._engine.add_request(name, {"prompt_token_ids": tokens}, params)
                    except ValueError as error:  # vLLM refuses this one request
                        pending.put(index, error)
                    else:
                        waiting[name] = (pending, index)
                for output in self._engine.step() if waiting else ():
                    if output.finished:
                        pending, index = waiting.pop(output.request_id)
                        pending.put(index, output)
        except BaseException as error:  # noqa: BLE001 - whatever killed the engine, the callers must hear of it
            self._death = error

    # one query ------------------------------------------------------------------------------------------

    def _prepare(self, query: Query) -> tuple[list[tuple[list[int], Any]], Callable[[list[Any]], Answer]]:
        """The engine requests of a query, and how to read its answer from their outputs."""
        try:
            if query.kind == GENERATE:
                context, settings = query.arguments
                tokens, longest, until, kwargs = self._encoding.generation(context, settings)
                params = self._sampling_params(
                    **{"skip_special_tokens": False, "spaces_between_special_tokens": False, **kwargs},
                    max_tokens=longest,
                    stop=until,
                    seed=query.seed,
                )
                return [(tokens, params)], lambda outputs: _read_text(outputs[0], until)
            windows = (
                [self._encoding.pair(*query.arguments)]
                if query.kind == LOGLIKELIHOOD
                else self._encoding.windows(*query.arguments)
            )
        except (ValueError, TypeError) as error:
            failure = Answer(None, error=error_text(error))
            return [], lambda _: failure
        params = self._sampling_params(
            temperature=0, prompt_logprobs=1, max_tokens=1, detokenize=False, seed=0
        )
        starts = [start for _, start in windows]
        whole = query.kind != LOGLIKELIHOOD
        return [(tokens, params) for tokens, _ in windows], lambda outputs: _read_loglikelihood(
            outputs, starts, whole=whole
        )


def _failure(outputs: Sequence[Any]) -> Answer | None:
    error = next((output for output in outputs if isinstance(output, Exception)), None)
    return None if error is None else Answer(None, error=error_text(error))


def _read_text(output: Any, until: Sequence[str]) -> Answer:
    if (failure := _failure([output])) is not None:
        return failure
    completion = output.outputs[0]
    text = completion.text
    for stop in until:
        text = text.split(stop)[0] if stop else text
    return Answer(text, completion.finish_reason, len(output.prompt_token_ids), len(completion.token_ids))


def _read_loglikelihood(outputs: Sequence[Any], starts: Sequence[int], *, whole: bool) -> Answer:
    if (failure := _failure(outputs)) is not None:
        return failure
    total, greedy = 0.0, True
    for output, start in zip(outputs, starts, strict=True):
        scored = zip(output.prompt_token_ids[start:], output.prompt_logprobs[start:], strict=True)
        for token, candidates in scored:
            total += candidates[token].logprob
            greedy &= candidates[token].rank == 1
    tokens = sum(len(output.prompt_token_ids) for output in outputs)
    return Answer(total if whole else (total, greedy), None, tokens, 0)
