"""A model behind an HTTP server: any of lm-eval's API classes, fed continuously.

What is asked and how an answer is read is the class's own (`_create_payload`, `parse_generations`,
`parse_logprobs`). Sending is done here, since the classes wait for a whole batch before they take the next,
keep one seed for all, and turn a server's bad hour into lost samples: requests of all blocks and seeds share
one bounded pool, and what a server cannot answer for now is asked again, with growing pauses.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from orchestrator.engines.base import GENERATE, LOGLIKELIHOOD, Answer, EngineOptionError, error_text
from orchestrator.patience import LONGEST_PAUSE, SECONDS_OF_PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from orchestrator.engines.base import Query

CONCURRENCY = 16  # requests at a time, unless num_concurrent says otherwise
FEED_FACTOR = 2
BUSY = {408, 409, 425, 429}  # and everything from 500 on
NOT_ALLOWED = {401, 403, 404, 405}
LONGEST_REASON = 300  # characters of a server's words
UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AssertionError)
"""What lm-eval's classes raise when they cannot put a prompt or read an answer."""


class ServerAwayError(OSError):
    """The server did not answer for as long as patience lasts; what was asked is owed again."""


class RequestRefusedError(Exception):
    """The server refuses this one request."""


@dataclass(frozen=True)
class _Prepared:
    """A query as JSON bodies, and how the answers to them are read."""

    bodies: tuple[dict[str, Any], ...]
    read: Callable[[list[dict[str, Any]]], Answer]


class ServedEngine:
    """A served model.

    Args:
        lm: an instance of lm-eval's `TemplateAPI`.
        concurrency: requests at a time.
        chat: whether the server takes conversations; prompts are then messages as JSON.
    """

    def __init__(self, lm: Any, *, concurrency: int, chat: bool) -> None:
        self._lm = lm
        self._concurrency = concurrency
        self._chat = chat
        self._encoding_lock = threading.Lock()  # fast tokenizers may not be used by two threads at once
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._thread.start()
        self._session, self._slots = self._run(self._open())

    @property
    def appetite(self) -> int:
        """Requests to keep in flight."""
        return FEED_FACTOR * self._concurrency

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`.

        Raises:
            ServerAwayError: the server is away for longer than patience lasts.
            EngineOptionError: the server will never answer: no such model, or no right to ask it.
        """
        prepared = [self._prepare(query) for query in queries]
        return list(self._run(self._answer_all(prepared)))

    def close(self) -> None:
        """Close the connections."""
        self._run(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # queries --------------------------------------------------------------------------------------------

    def _prepare(self, query: Query) -> _Prepared:
        if self._chat and query.kind != GENERATE:
            raise EngineOptionError("a chat server tells no likelihoods; leave out tasks that need them")
        try:
            with self._encoding_lock:
                if query.kind == GENERATE:
                    return self._generation(query)
                if query.kind == LOGLIKELIHOOD:
                    return self._loglikelihoods(query, [self._pair(*query.arguments)])
                return self._loglikelihoods(query, self._windows(*query.arguments))
        except UNREADABLE as error:
            failure = Answer(None, error=error_text(error))
            return _Prepared((), lambda _: failure)

    def _generation(self, query: Query) -> _Prepared:
        from lm_eval.models.api_models import JsonChatStr  # noqa: PLC0415 - slow, in the replica only

        context, settings = query.arguments
        message: Any = JsonChatStr(context) if self._chat else context
        if self._lm.tokenized_requests and not self._chat:
            longest = self._lm.max_length - int(settings.get("max_gen_toks", self._lm._max_gen_toks))
            message = self._lm.tok_encode(context, add_special_tokens=self._lm.add_bos_token)[-longest:]
        body = self._lm._create_payload(
            self._lm.create_message([message]),
            generate=True,
            gen_kwargs=copy.deepcopy(settings),
            seed=query.seed,
            eos=self._lm.eos_string,
        )
        return _Prepared((body,), self._read_text)

    def _read_text(self, outputs: list[dict[str, Any]]) -> Answer:
        (output,) = outputs
        text = self._lm.parse_generations(outputs=output)[0]
        usage = output.get("usage") or {}
        return Answer(
            "" if text is None else text,  # as lm-eval has it: a model may say nothing
            output["choices"][0].get("finish_reason"),
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
        )

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context:
            pair: tuple[list[int], list[int]] = self._lm._encode_pair(context, continuation)
            return pair
        tokens = self._lm.tok_encode(continuation, add_special_tokens=False)
        prefix = self._lm.prefix_token_id
        return (tokens[:1], tokens[1:]) if tokens[0] == prefix else ([prefix], tokens)

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # noqa: PLC0415

        windows = get_rolling_token_windows(
            token_list=self._lm.tok_encode(text),
            prefix_token=self._lm.prefix_token_id,
            max_seq_len=self._lm.max_length - 1,
            context_len=1,
        )
        return [make_disjoint_window(window) for window in windows]

    def _loglikelihoods(self, query: Query, pairs: Sequence[tuple[list[int], list[int]]]) -> _Prepared:
        chunks = [[(None, context, continuation)] for context, continuation in pairs]
        inputs, starts, _ = self._lm.batch_loglikelihood_requests(chunks)
        bodies = tuple(
            self._lm._create_payload(self._lm.create_message([tokens]), generate=False, seed=query.seed)
            for tokens in inputs
        )

        def read(outputs: list[dict[str, Any]]) -> Answer:
            scored = [
                self._lm.parse_logprobs(outputs=output, tokens=[tokens], ctxlens=[start])[0]
                for output, tokens, start in zip(outputs, inputs, starts, strict=True)
            ]
            response = scored[0] if query.kind == LOGLIKELIHOOD else sum(value for value, _ in scored)
            return Answer(response, None, sum(len(tokens) for tokens in inputs), 0)

        return _Prepared(bodies, read)

    # requests, in the thread of the event loop ----------------------------------------------------------

    async def _open(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore]:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, ssl=self._lm.verify_certificate),
            timeout=aiohttp.ClientTimeout(total=self._lm.timeout),
            headers=self._lm.header,
        )
        return session, asyncio.Semaphore(self._concurrency)

    async def _answer_all(self, queries: Sequence[_Prepared]) -> list[Answer]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(prepared)) for prepared in queries]
        except ExceptionGroup as failures:  # the others were cancelled
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, prepared: _Prepared) -> Answer:
        try:
            return prepared.read([await self._ask(body) for body in prepared.bodies])
        except (RequestRefusedError, *UNREADABLE) as error:
            return Answer(None, error=error_text(error))

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request until it is answered or refused, or patience is at its end."""
        until, pause = time.monotonic() + SECONDS_OF_PATIENCE, 0.5
        while True:
            try:
                async with self._slots, self._session.post(self._lm.base_url, json=body) as response:
                    if response.ok:
                        output: dict[str, Any] = await response.json()
                        return output
                    reason = f"HTTP {response.status}: {(await response.text())[:LONGEST_REASON]}"
                    self._raise_for(response.status, reason)
                    wanted = _seconds(response.headers.get("Retry-After"))
            except (aiohttp.ClientError, TimeoutError) as error:
                reason, wanted = error_text(error), None
            if time.monotonic() > until:
                raise ServerAwayError(f"{self._lm.base_url} does not answer: {reason}")
            await asyncio.sleep(wanted if wanted is not None else pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause = min(2 * pause, LONGEST_PAUSE)

    def _raise_for(self, status: int, reason: str) -> None:
        """Tell what cannot be had from what may be had later."""
        if status in NOT_ALLOWED:
            raise EngineOptionError(f"{self._lm.base_url} refuses: {reason}")
        if status < 500 and status not in BUSY:
            raise RequestRefusedError(reason)


def _seconds(header: str | None) -> float | None:
    """The pause a server asks for, if it names seconds; no longer than patience lasts."""
    try:
        return min(float(header), SECONDS_OF_PATIENCE) if header is not None else None
    except ValueError:
        return None
