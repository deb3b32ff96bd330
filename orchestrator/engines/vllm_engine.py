"""vLLM: loaded with arguments that fit where it runs, then fed continuously.

One thread loads the engine and drives it: it takes whatever queries have come, steps, hands out what is
finished. Blocks, tasks, seeds and temperatures share its batch, so it drains only when a variant has no work
left. On a CPU the engine runs inside this process, which starts faster; vLLM binds the OpenMP threads of the
thread that loads it to the cores there, and any other thread would drive it on a single core.
"""

import gc
import json
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from orchestrator.engines import base
from orchestrator.engines.base import Answer, EngineDiedError, EngineOptionError, EngineSpec
from orchestrator.engines.kind import TOKENIZER
from orchestrator.engines.tokenization import Encoding
from orchestrator.engines.vllm_requests import Asked, Request, can_share, prepare, questions
from orchestrator.errors import PromptTooLongError, error_text

FEED_FACTOR = 2  # requests in flight per batch slot: while one batch runs, the next one waits at the door
QUESTIONS_AT_A_TIME = 32  # that are encoded together
MOST_FAILURES = 16  # of the first queries, of which none could be asked
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
        adapter = json.loads((Path(spec.lora) / "adapter_config.json").read_text("utf-8"))
        rank = int(adapter.get("r", 0))
        reserved = next((size for size in LORA_RANKS if size >= rank), rank)
        arguments |= {"enable_lora": True, "max_lora_rank": reserved}
    arguments |= spec.arguments
    commits = {"revision": spec.revision, "tokenizer_revision": spec.commits.get(TOKENIZER, spec.revision)}
    arguments |= {name: commit for name, commit in commits.items() if commit is not None}
    for option in spec.commits.keys() - {TOKENIZER}:  # the draft model of speculative decoding
        arguments[option] = {**spec.arguments[option], "revision": spec.commits[option]}
    return arguments


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


def import_ahead(spec: EngineSpec, *, on_cpu: bool) -> None:
    """Import most of what loading a model imports; nothing of it touches a GPU."""
    if on_cpu:
        set_up_cpu(spec)
    modules = ("v1.engine.llm_engine", "v1.engine.core", "renderers.hf")
    for module in (*modules, "v1.worker.cpu_worker") if on_cpu else modules:
        with suppress(Exception):  # another version has others, and what is broken is found by loading
            import_module(f"vllm.{module}")


def engine_config(arguments: dict[str, Any], **headless: bool) -> Any:
    """VLLM's configuration, with the batch defaults of `vllm.LLM` and long prompts prefilled in parts.

    Without that usage context an engine would get the small batches of an unknown use. Prompts are cut as far
    as chunked prefill is on and the user has not said otherwise. Other nodes than the first are `headless`,
    which versions without several nodes do not know.
    """
    from vllm import EngineArgs  # noqa: PLC0415 - ten seconds, in the replica only
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415

    config = EngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS, **headless)
    scheduler = config.scheduler_config
    if scheduler.enable_chunked_prefill and "long_prefill_token_threshold" not in arguments:
        scheduler.long_prefill_token_threshold = min(PREFILL_TOKENS, config.model_config.max_model_len)
    return config


def run_workers(spec: EngineSpec, *, gpus: float, on_cpu: bool) -> None:
    """Run the workers of an engine whose first node is another one, until one of them ends.

    This is what `vllm serve --headless` does there (run_headless in vllm/entrypoints/cli/serve.py). Raises
    what `VllmEngine` raises.
    """
    from vllm.v1.executor.multiproc_executor import MultiprocExecutor  # noqa: PLC0415

    if on_cpu:
        set_up_cpu(spec)
    printed = printed_bytes()
    try:
        config = engine_config(engine_arguments(spec, gpus=gpus, on_cpu=on_cpu), headless=True)
        executor = MultiprocExecutor(config, monitor_workers=False)
    except Exception as error:
        raise why_not_loaded(error, printed_since(printed)) from error
    executor.start_worker_monitor(inline=True)


def printed_bytes() -> int:
    """How much this process and its children have printed, if it goes to a file, as it does in a replica."""
    status = os.fstat(2)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def printed_since(start: int) -> str:
    """The end of what was printed since so much had been."""
    if (size := printed_bytes()) <= start:
        return ""
    with Path("/proc/self/fd/2").open("rb") as log:
        log.seek(max(start, size - MOST_LOG))
        return log.read().decode("utf-8", "replace")


def why_not_loaded(error: BaseException, printed: str) -> BaseException:
    """What a failed load means: a refusal, which is final, or something that another attempt may not meet.

    vLLM's engine process tells its parent only that it failed; its own words are in what was printed
    meanwhile, of which the last error at first hand counts.
    """
    if not any(words in str(error) for words in ELSEWHERE):
        return base.load_failure(error)
    for line in reversed(printed.splitlines()):
        words = _PREFIX.sub("", line).strip()
        if (match := _ERROR.match(words)) and not any(other in words for other in _SECOND_HAND):
            return base.failure_of(words, {match[2]}, base.REFUSALS | {"DeprecationWarning"})
    return error


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for one request that it refuses: newer versions have an error of their own."""
    try:
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415 - ten seconds to import, in the replica only
    except ImportError:
        return (ValueError,)
    return ValueError, VLLMClientError


class VllmEngine(base.Engine):
    """A model loaded into vLLM.

    Options go to vLLM's EngineArgs as they are; it may use so many GPUs, or that part of one.

    Raises:
        EngineOptionError: an option vLLM does not know, or a model or option it refuses.
        EngineDiedError: it could not be loaded now.
    """

    def __init__(self, spec: EngineSpec, *, gpus: float, on_cpu: bool) -> None:
        if on_cpu:
            set_up_cpu(spec)
        else:  # there are cores beside the GPU to encode the texts of a batch
            os.environ.update({"TOKENIZERS_PARALLELISM": "true", **spec.environment})
            os.environ.setdefault("RAYON_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "0"))
        self._lora: Any = spec.lora
        if spec.lora is not None:
            from vllm.lora.request import LoRARequest  # noqa: PLC0415 - ten seconds to import

            self._lora = LoRARequest("adapter", 1, spec.lora)
        self._feeding = threading.Lock()  # a block at a time; and a tokenizer may serve one thread at once
        self._failures, self._asks = 0, False  # queries that could not be asked, and whether one could
        self._arrivals: deque[tuple[Request, Future[Any]]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._death: BaseException | None = None
        loaded: Future[Any] = Future()
        arguments, printed = engine_arguments(spec, gpus=gpus, on_cpu=on_cpu), printed_bytes()
        self._thread = threading.Thread(target=self._live, args=(arguments, loaded), daemon=True)
        self._thread.start()
        try:
            engine = loaded.result()
        except Exception as error:
            raise why_not_loaded(error, printed_since(printed)) from error
        config = engine.vllm_config
        self._encoding = Encoding(engine.get_tokenizer(), int(config.model_config.max_model_len))
        drafts = config.speculative_config is not None  # whose sampler knows no tokens to score
        self._shared = can_share() and not drafts and spec.options.get(base.SHARE, True)
        self.log_likelihoods = base.SHARED if self._shared else base.ALONE
        self.target_in_flight = FEED_FACTOR * int(config.scheduler_config.max_num_seqs)
        self._room = threading.Semaphore(self.target_in_flight)  # for requests
        self.dtype = str(config.model_config.dtype).removeprefix("torch.")

    def answer(self, queries: Sequence[base.Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`."""
        answers = self._answers(queries, shared=self._shared)
        missing = [place for place, answer in enumerate(answers) if answer is None]
        alone = self._answers([queries[place] for place in missing], shared=False) if missing else ()
        for place, answer in zip(missing, alone, strict=True):
            answers[place] = answer
        return answers

    def _answers(self, queries: Sequence[base.Query], *, shared: bool) -> list[Any]:
        """Answers in order; None where a query is to be asked alone."""
        waiting = []
        with self._feeding:
            remaining = questions(queries, shared=shared)
            while some := list(islice(remaining, QUESTIONS_AT_A_TIME)):
                self._encoding.encode_ahead(chain(*some))
                for question in some:
                    for own, requests, read in self._asked(question, shared=shared):
                        waiting.append((own, [self._enqueued(request) for request in requests], read))
        answers: list[Answer | None] = []
        for own, futures, read in waiting:
            kept = [self._kept(future) for future in futures]
            refused = next((one for one in kept if isinstance(one, Exception)), None)
            failed = [] if refused is None else [Answer(None, error=error_text(refused))] * len(own)
            answers += failed or read(kept)
        return answers

    def _enqueued(self, request: Request) -> Future[Any]:
        """What will be kept of the output of a request, which waits here until few others are in flight."""
        while not self._room.acquire(timeout=1.0):
            self._check_alive()
        future = Future[Any]()
        self._arrivals.append((request, future))
        self._wake.set()
        return future

    def _kept(self, future: Future[Any]) -> Any:
        """What is kept of an output, or the error of a request that vLLM refuses."""
        while True:
            try:
                return future.result(timeout=1.0)
            except TimeoutError:
                self._check_alive()

    def _check_alive(self) -> None:
        if self._death is not None:
            raise EngineDiedError(error_text(self._death)) from None

    def _asked(self, question: Sequence[base.Query], *, shared: bool) -> Iterator[Asked]:
        """A question made ready.

        One query that cannot be asked is an error of its own. If none of the first ones can, the fault is not
        theirs: lldeg and the installed tokenizer or vLLM do not fit together, and every later one would fail.
        """
        try:
            yield prepare(question, self._encoding, shared=shared)
            self._asks = True
        except (PromptTooLongError, ValueError, TypeError) as error:
            if len(question) > 1:
                for query in question:
                    yield from self._asked([query], shared=shared)
                return
            self._asks |= isinstance(error, PromptTooLongError)
            self._failures += 1
            if not self._asks and self._failures == MOST_FAILURES:
                raise EngineOptionError(
                    f"none of the first {MOST_FAILURES} requests could be prepared, the last because of "
                    f"{error_text(error)}"
                ) from error
            failed = [Answer(None, error=error_text(error))]
            yield question, (), lambda _: failed

    def close(self) -> None:
        """Stop the thread and free the model."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=30)

    def _live(self, arguments: dict[str, Any], loaded: Future[Any]) -> None:
        try:
            from vllm import LLMEngine  # noqa: PLC0415 - ten seconds, in the replica only
            from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415

            engine = LLMEngine.from_vllm_config(
                engine_config(arguments),
                usage_context=UsageContext.LLM_CLASS,
                disable_log_stats=arguments["disable_log_stats"],
            )
        except BaseException as error:  # noqa: BLE001 - the waiting thread must receive any error
            loaded.set_exception(error)
            return
        gc.collect()
        gc.freeze()  # the collector need not walk the model and the libraries again and again
        loaded.set_result(engine)
        self._drive(engine)
        engine.engine_core.shutdown()

    def _drive(self, engine: Any) -> None:
        waiting: dict[str, tuple[Future[Any], Callable[[Any], Any]]] = {}
        numbers, refused = count(), refusals()
        try:
            while not self._closing:
                if not self._arrivals and not waiting:
                    self._wake.wait()
                    self._wake.clear()
                while self._arrivals:
                    (tokens, params, reduce), future = self._arrivals.popleft()
                    name = str(next(numbers))
                    try:
                        self._add(engine, name, tokens, params)
                    except refused as error:  # by vLLM, this one request
                        self._room.release()
                        future.set_result(error)
                    else:
                        waiting[name] = future, reduce
                for output in engine.step() if waiting else ():
                    if output.finished:
                        future, reduce = waiting.pop(output.request_id)
                        self._room.release()
                        try:
                            future.set_result(reduce(output))
                        except Exception as error:  # noqa: BLE001 - of our own reading: fails its block alone
                            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - callers must receive any error that kills the engine
            self._death = error

    def _add(self, engine: Any, name: str, tokens: list[int], params: Any) -> None:
        """Add a request; newer engines take prompts as their renderer makes them, older ones have none."""
        prompt: Any = {"prompt_token_ids": tokens}
        if (render := getattr(getattr(engine, "renderer", None), "render_cmpl", None)) is not None:
            (prompt,) = render([prompt])
        engine.add_request(name, prompt, params, lora_request=self._lora)
