"""vLLM, fed continuously.

One thread loads the engine and drives it: it takes whatever queries have come, steps, hands out what is
finished. Blocks, tasks, seeds and temperatures share its batch, so it drains only when a variant has no work
left. On a CPU the engine runs inside this process, which starts faster; vLLM binds the OpenMP threads of the
thread that loads it to the cores there, and any other thread would drive it on a single core.
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import EngineDiedError, EngineOptionError
from orchestrator.engines.tokenization import Encoding
from orchestrator.engines.vllm_loading import (
    PrintedSince,
    engine_arguments,
    load_llm_engine,
    set_up_cpu,
    why_not_loaded,
)
from orchestrator.engines.vllm_options import vllm_options
from orchestrator.engines.vllm_requests import Preparation, adder, lora_request, prepare, refusals
from orchestrator.errors import error_text, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engines.base import Answer, EngineSpec, Query

FEED_FACTOR = 2  # requests in flight per batch slot: while one batch runs, the next one waits at the door


def encoding_of(engine: Any) -> Encoding:
    """The tokenization of a vLLM engine (`LLMEngine`) as lm-eval wants it."""
    return Encoding(engine.get_tokenizer(), int(engine.vllm_config.model_config.max_model_len))


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
        gpus: GPUs it may use, or the part of one.
        on_cpu: whether the installed vLLM runs on the CPU.

    Raises:
        EngineOptionError: an option vLLM does not know, or a model or option it refuses.
        EngineDiedError: it could not be loaded now.
    """

    def __init__(self, spec: EngineSpec, *, gpus: float, on_cpu: bool) -> None:
        if on_cpu:
            set_up_cpu(spec)
        for option in spec.arguments:
            if vllm_options() and option not in vllm_options():
                raise EngineOptionError(
                    f"vLLM has no option '{option}'{suggestion(option, sorted(vllm_options()))}"
                )
        self._encoding_lock = threading.Lock()  # fast tokenizers may not be used by two threads at once
        self._preparation = Preparation()
        self._lora = None if spec.lora is None else lora_request(spec.lora)
        self._arrivals: deque[tuple[list[int], Any, _Pending, int]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._death: BaseException | None = None
        loaded: Future[Any] = Future()
        arguments, printed = engine_arguments(spec, gpus=gpus, on_cpu=on_cpu), PrintedSince()
        self._thread = threading.Thread(
            target=self._live, args=(arguments, loaded), name="vllm-engine", daemon=True
        )
        self._thread.start()
        try:
            engine = loaded.result()
        except Exception as error:
            raise why_not_loaded(error, printed.read()) from error
        self._slots = int(engine.vllm_config.scheduler_config.max_num_seqs)
        self._encoding = encoding_of(engine)
        self._dtype = str(engine.vllm_config.model_config.dtype).removeprefix("torch.")

    @property
    def target_in_flight(self) -> int:
        """Requests to keep in flight."""
        return FEED_FACTOR * self._slots

    @property
    def dtype(self) -> str | None:
        """Of the model, which vLLM may have chosen."""
        return self._dtype

    @property
    def problem(self) -> str | None:
        """None; it is in this process."""
        return None

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`."""
        with self._encoding_lock:
            prepared = [prepare(query, self._encoding) for query in queries]
        self._preparation.check(prepared)
        pending = _Pending(sum(len(one.requests) for one in prepared))
        requests = [request for one in prepared for request in one.requests]
        self._arrivals.extend(
            (tokens, params, pending, index) for index, (tokens, params) in enumerate(requests)
        )
        if requests:
            self._wake.set()
            while not pending.done.wait(timeout=1.0):
                if self._death is not None:
                    raise EngineDiedError(error_text(self._death))
        outputs = iter(pending.outputs)
        answers = [one.read(list(islice(outputs, len(one.requests)))) for one in prepared]
        return [replace(answer, prompt_cut=one.cut) for answer, one in zip(answers, prepared, strict=True)]

    def close(self) -> None:
        """Stop the thread and free the model."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=30)

    # the engine's thread --------------------------------------------------------------------------------

    def _live(self, arguments: dict[str, Any], loaded: Future[Any]) -> None:
        try:
            engine = load_llm_engine(arguments)
        except BaseException as error:  # noqa: BLE001 - the waiting thread must receive any error
            loaded.set_exception(error)
            return
        gc.collect()
        gc.freeze()  # the collector need not walk the model and the libraries again and again
        loaded.set_result(engine)
        self._drive(engine)
        engine.engine_core.shutdown()

    def _drive(self, engine: Any) -> None:
        waiting: dict[str, tuple[_Pending, int]] = {}
        numbers = count()
        add, refused = adder(engine, self._lora), refusals()
        try:
            while not self._closing:
                if not self._arrivals and not waiting:
                    self._wake.wait()
                    self._wake.clear()
                while self._arrivals:
                    tokens, params, pending, index = self._arrivals.popleft()
                    name = str(next(numbers))
                    try:
                        add(name, tokens, params)
                    except refused as error:  # by vLLM, this one request
                        pending.put(index, error)
                    else:
                        waiting[name] = (pending, index)
                for output in engine.step() if waiting else ():
                    if output.finished:
                        pending, index = waiting.pop(output.request_id)
                        pending.put(index, output)
        except BaseException as error:  # noqa: BLE001 - callers must receive any error that kills the engine
            self._death = error
