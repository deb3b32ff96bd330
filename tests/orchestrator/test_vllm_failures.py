"""What goes wrong in vLLM or on the way to it, and what becomes of it."""

import os
import threading
from collections import deque
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import AfterValidator, TypeAdapter, ValidationError

from orchestrator.engines import vllm_engine
from orchestrator.engines.base import GENERATE, EngineDiedError, EngineOptionError, Query
from orchestrator.engines.vllm_engine import (
    MOST_FAILURES,
    VllmEngine,
    printed_bytes,
    printed_since,
    refusals,
    why_not_loaded,
)

IN_PROCESS = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
PREFIX = "(EngineCore pid=15083) ERROR 11-26 04:15:55 [core.py:1510] "
LOG = f"""(EngineCore pid=15083) INFO 11-26 04:15:51 [worker.py:1] ValueError: not this one, it informs
{PREFIX}EngineCore failed to start.
{PREFIX}Traceback (most recent call last):
{PREFIX}  File "core.py", line 1194, in __init__
{PREFIX}    raise ValueError(
{PREFIX}ValueError: No room for the cache: give it more.
(EngineCore pid=15083) Process EngineCore:
(EngineCore pid=15083) Traceback (most recent call last):
(EngineCore pid=15083) ValueError: No room for the cache: give it more.
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
"""


def test_a_refusal_in_the_engines_process_has_its_own_words():
    """They are in the log of the replica."""
    reason = why_not_loaded(IN_PROCESS, LOG)
    assert isinstance(reason, EngineOptionError)
    assert str(reason) == "ValueError: No room for the cache: give it more."


def test_the_first_hand_error_of_a_worker_is_found():
    """The engine process only repeats that a worker failed."""
    log = (
        "(Worker_TP0 pid=7) ERROR 11-26 04:15:55 [multiproc_executor.py:10] TypeError: no such kernel\n"
        f"{PREFIX}Exception: WorkerProc initialization failed due to an exception in a background process.\n"
    )
    assert str(why_not_loaded(IN_PROCESS, log)) == "TypeError: no such kernel"


def test_a_refusal_in_a_worker_of_another_node_is_final():
    """There the workers are started by the follower itself, whom they tell only that they failed."""
    error = Exception("WorkerProc initialization failed due to an exception in a background process.")
    log = (
        "(Worker_TP1 pid=7) ERROR 11-26 04:15:55 [multiproc_executor.py:10] ValueError: unsupported format\n"
        "(Worker_TP1 pid=7) ERROR 11-26 04:15:56 [x.py:1] RuntimeError: Connection closed by peer\n"
    )
    reason = why_not_loaded(error, log)
    assert isinstance(reason, EngineOptionError)
    assert str(reason) == "ValueError: unsupported format"


@pytest.mark.parametrize(
    "words",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "ValueError: Free memory on device cuda:0 (3/79 GiB) on startup is less than desired",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    ],
)
def test_what_may_pass_is_tried_again(words):
    """Another process may still hold the memory; the reason is kept for when it does not pass."""
    reason = why_not_loaded(IN_PROCESS, f"{PREFIX}{words}\n")
    assert isinstance(reason, EngineDiedError)
    assert str(reason) == words


def validated(error):
    """The error in which pydantic hides one that a validator has raised."""

    def refuse(_):
        raise error

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[str, AfterValidator(refuse)]).validate_python("x")
    return caught.value


def caused(error, cause):
    """An error with its cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no such dtype"), EngineOptionError),
        (validated(ValueError("no such dtype")), EngineOptionError),
        (OSError("You are trying to access a gated repo."), EngineOptionError),
        (OSError("m does not appear to have a file named config.json"), EngineOptionError),
        (OSError("We couldn't connect to the hub"), EngineDiedError),
        (OSError(28, "No space left on device"), EngineDiedError),
        (validated(caused(ValueError("Invalid repository ID"), ConnectionError("reset"))), EngineDiedError),
        (ValueError("Free memory on device cuda:0 is less than desired"), EngineDiedError),
        (RuntimeError("CUDA error: device-side assert triggered"), EngineDiedError),
        (MemoryError(), EngineDiedError),
    ],
)
def test_only_the_engines_own_words_and_an_absent_model_are_refusals(error, kind):
    """What a network, a disk or another process causes may pass, also as the cause of a ValueError."""
    assert type(why_not_loaded(error, "")) is kind


def test_without_a_log_the_error_stays_as_it_is():
    """Nothing is invented."""
    assert why_not_loaded(IN_PROCESS, "") is IN_PROCESS


def test_a_refusal_in_this_process_needs_no_log():
    """On a CPU vLLM raises it where it is loaded."""
    assert isinstance(why_not_loaded(ValueError("no"), ""), EngineOptionError)


def test_only_what_was_printed_since_is_read(tmp_path):
    """A replica's log is a file; what an earlier load printed is not a reason."""
    saved = os.dup(2)
    try:
        with (tmp_path / "log").open("ab") as log:
            os.dup2(log.fileno(), 2)
        os.write(2, b"before\n")
        before = printed_bytes()
        os.write(2, b"after\n")
        assert printed_since(before) == "after\n"
    finally:
        os.dup2(saved, 2)
        os.close(saved)


QUERY = Query(GENERATE, ("x", {}))


@pytest.fixture
def ask(monkeypatch):
    """Prepares queries for an engine that was asked nothing before; what cannot be prepared is no text."""

    def prepare(question, _, *, shared):
        if not isinstance(question[0], Query):
            raise TypeError("unexpected keyword")
        return question, (), list

    monkeypatch.setattr(vllm_engine, "prepare", prepare)
    engine = VllmEngine.__new__(VllmEngine)
    engine._encoding, engine._failures, engine._asks = None, 0, False
    return lambda queries: [one for query in queries for one in engine._asked([query], shared=True)]


def test_a_variant_of_which_nothing_can_be_asked_stops(ask):
    """An error of our own code is not written as an answer of the model, sample by sample."""
    ask([None] * (MOST_FAILURES - 1))
    with pytest.raises(EngineOptionError, match="unexpected keyword"):
        ask([None])


def test_single_failures_stop_nothing(ask):
    """Once a query could be asked, the others are on their own."""
    ask([*[None] * (MOST_FAILURES - 1), QUERY])
    failed = ask([None] * 2 * MOST_FAILURES)
    assert {read([])[0].error for *_, read in failed} == {"TypeError: unexpected keyword"}


def test_prompts_go_to_the_engine_as_its_renderer_makes_them():
    """Raw prompts are deprecated; an engine without a renderer still takes them."""
    seen = []
    engine = SimpleNamespace(add_request=lambda *given, **named: seen.append((*given, named["lora_request"])))
    driver = VllmEngine.__new__(VllmEngine)
    driver._lora = None
    driver._add(engine, "0", [1, 2], "params")
    engine.renderer = SimpleNamespace(render_cmpl=lambda prompts: [{"type": "token", **prompts[0]}])
    driver._lora = "adapter"
    driver._add(engine, "1", [3], "params")
    assert seen == [
        ("0", {"prompt_token_ids": [1, 2]}, "params", None),
        ("1", {"type": "token", "prompt_token_ids": [3]}, "params", "adapter"),
    ]


def driven(engine, reduce=list):
    """What becomes of one request to an engine, whose driver lives on and takes others."""
    driver = VllmEngine.__new__(VllmEngine)
    driver._arrivals, driver._wake, driver._closing = deque(), threading.Event(), False
    driver._death = driver._lora = None
    driver._room = threading.Semaphore(0)
    future = Future()
    driver._arrivals.append((([1], None, reduce), future))
    thread = threading.Thread(target=driver._drive, args=(engine,), daemon=True)
    thread.start()
    future.exception(timeout=20)
    driver._closing = True
    driver._wake.set()
    thread.join(20)
    assert driver._death is None
    assert driver._room.acquire(blocking=False)  # another may come
    return future


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, -1])
def test_a_request_that_vllm_refuses_does_not_end_the_engine(which):
    """It is an error of its own, also by the class that newer versions of vLLM have for it."""
    error = refusals()[which]

    class Refusing:
        def add_request(self, *_, **__):
            raise error("the prompt is longer than the context")

    assert isinstance(driven(Refusing()).result(), error)


def test_an_output_that_cannot_be_read_fails_its_block_alone():
    """The engine answered; what waits for this output gets the error."""
    output = SimpleNamespace(finished=True, request_id="0")
    engine = SimpleNamespace(add_request=lambda *_, **__: None, step=lambda: [output])

    def reduce(_):
        raise KeyError("no such token")

    with pytest.raises(KeyError, match="no such token"):
        driven(engine, reduce).result()
