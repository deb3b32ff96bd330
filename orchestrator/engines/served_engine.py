"""A model behind an HTTP server: any of lm-eval's API classes, fed continuously.

What is asked and how an answer is read is the class's own (`_create_payload`, `parse_generations`,
`parse_logprobs`). Sending is done by `Server`, since the classes wait for a whole batch before they take the
next, keep one seed for all, and turn a server's bad hour into lost samples.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import (
    GENERATE,
    LOGLIKELIHOOD,
    Answer,
    EngineOptionError,
    log_likelihood,
    token_count,
)
from orchestrator.engines.served.http_client import LARGEST_REPLY, Server
from orchestrator.errors import AnswerWithheldError, RequestRefusedError, error_text
from orchestrator.retry import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.engines.base import Query

CONCURRENCY = 16  # requests at a time, unless num_concurrent says otherwise
FEED_FACTOR = 2
LONGEST_WORD = 64  # characters of a finish_reason
THOUGHTS = (
    "reasoning_content",
    "reasoning",
)  # fields of vLLM and similar servers for thoughts that come with a text
MOST_REFUSALS = 16  # of requests of one kind of which none was answered, until a harmless one is tried
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, AssertionError, OverflowError)
"""What lm-eval's classes raise when they cannot encode a prompt or parse an answer."""


@dataclass(frozen=True)
class _Prepared:
    """A query as JSON bodies, how the answers to them are read, and what was cut off it, if that is known."""

    query: Query
    bodies: tuple[dict[str, Any], ...]
    read: Callable[[list[Any]], Answer]
    cut: int | None = None


class ServedEngine:
    """A served model.

    Args:
        lm: an instance of lm-eval's `TemplateAPI`.
        concurrency: requests at a time.
        patience: seconds the server may be away; None for as long as a storage may be.
        chat: whether the server takes conversations; prompts are then messages as JSON.
        template_arguments: arguments of the chat template, which the server applies.
        largest_reply: bytes that a reply may have.

    Raises:
        EngineOptionError: the class lacks an address or a key.
    """

    def __init__(
        self,
        lm: Any,
        *,
        concurrency: int,
        patience: float | None,
        chat: bool,
        template_arguments: Mapping[str, Any] | None = None,
        largest_reply: int = LARGEST_REPLY,
    ) -> None:
        self._lm = lm
        self._template_arguments = dict(template_arguments or {})
        self._concurrency = concurrency
        self._chat = chat
        self._encoding_lock = threading.Lock()  # fast tokenizers may not be used by two threads at once
        self._answered: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        try:
            headers = dict(lm.header)
        except ValueError as error:  # a class that insists on a key
            raise EngineOptionError(str(error)) from None
        self._server = Server(
            str(lm.base_url or ""),
            headers=headers,
            concurrency=self._concurrency,
            timeout=lm.timeout,
            patience=patience or max(RETRY_SECONDS, lm.timeout),  # what it works on is answered by then
            verify=lm.verify_certificate,
            largest_reply=largest_reply,
        )

    @property
    def target_in_flight(self) -> int:
        """Requests to keep in flight."""
        return FEED_FACTOR * self._concurrency

    @property
    def problem(self) -> str | None:
        """The server's last failure; None once it answers again."""
        return self._server.trouble

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`.

        Raises:
            EngineAwayError: the server is away for longer than patience lasts.
            EngineOptionError: the server will never answer: no such model, no right to ask it, or not so.
        """
        prepared = [self._prepare(query) for query in queries]
        return list(self._server.run(self._answer_all(prepared)))

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    # queries --------------------------------------------------------------------------------------------

    def _prepare(self, query: Query) -> _Prepared:
        if query.kind != GENERATE and (self._chat or self._lm.tokenizer is None):
            raise EngineOptionError(
                "chat endpoints return no log-likelihoods; remove tasks that need them"
                if self._chat
                else "log-likelihoods need the model's tokenizer: set engine.tokenizer"
            )
        try:
            with self._encoding_lock:
                if query.kind == GENERATE:
                    return self._generation(query)
                if query.kind == LOGLIKELIHOOD:
                    return self._loglikelihoods(query, [self._pair(*query.arguments)])
                return self._loglikelihoods(query, self._windows(*query.arguments))
        except UNREADABLE as error:
            failure = Answer(None, error=error_text(error))
            return _Prepared(query, (), lambda _: failure)

    def _generation(self, query: Query) -> _Prepared:
        from lm_eval.models.api_models import JsonChatStr  # noqa: PLC0415 - slow, in the replica only

        context, settings = query.arguments
        message: Any = JsonChatStr(context) if self._chat else context
        cut = None
        if self._lm.tokenized_requests and not self._chat:
            message = self._lm.tok_encode(context, add_special_tokens=self._lm.add_bos_token)
            cut = max(0, len(message) - self._longest_prompt(settings))
            query.check_cut(cut)
            message = message[cut:]
        body = self._lm._create_payload(
            self._lm.create_message([message]),
            generate=True,
            gen_kwargs=copy.deepcopy(settings),
            seed=query.seed,
            eos=self._lm.eos_string,
        )
        asked, sent = settings.get("temperature", 0), body.get("temperature")
        if sent is not None and sent != asked:  # lm-eval does so where a name looks like a reasoning model's
            raise EngineOptionError(
                f"lm-eval's class always sends temperature {sent} to this model, not the requested {asked}"
            )
        if self._chat and self._template_arguments:
            body["chat_template_kwargs"] = self._template_arguments
        return _Prepared(query, (body,), self._read_text, cut)

    def _longest_prompt(self, settings: Mapping[str, Any]) -> int:
        answer = int(settings.get("max_gen_toks", self._lm._max_gen_toks))
        if answer >= self._lm.max_length:
            raise EngineOptionError(
                f"answers of up to {answer} tokens leave no room for a prompt within engine.max_length "
                f"{self._lm.max_length + 1}: set it to the context length of the server"
            )
        return int(self._lm.max_length) - answer

    def _read_text(self, outputs: list[Any]) -> Answer:
        (output,) = outputs
        if self._chat and "choices" in output:  # the class takes what it cannot read for an empty answer
            (choice,) = output["choices"]
            if choice["index"] != 0 or "message" not in choice:
                raise ValueError("the answer contains no message")
        text = self._lm.parse_generations(outputs=output)[0]
        about = output if isinstance(output, dict) else {}
        choice = (about.get("choices") or [{}])[0]
        reason = choice.get("finish_reason")
        reason = self._server.without_secrets(reason)[:LONGEST_WORD] if isinstance(reason, str) else None
        if text is None and not _has_thought(choice):
            raise AnswerWithheldError(f"the answer has no text (finish_reason: {reason})")
        if not isinstance(text or "", str):
            raise TypeError(f"the answer is not text but {type(text).__name__}")
        usage = about.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        return Answer(
            self._server.without_secrets(text or ""),
            reason,
            token_count(counts.get("prompt_tokens")),
            token_count(counts.get("completion_tokens")),
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
        whole = sum(len(context) + len(continuation) for context, continuation in pairs)
        cut = whole - sum(len(tokens) for tokens in inputs)
        query.check_cut(cut)
        bodies = tuple(
            self._lm._create_payload(self._lm.create_message([tokens]), generate=False, seed=query.seed)
            for tokens in inputs
        )

        def read(outputs: list[Any]) -> Answer:
            scored = [
                self._read_logprobs(output, tokens, start)
                for output, tokens, start in zip(outputs, inputs, starts, strict=True)
            ]
            response = scored[0] if query.kind == LOGLIKELIHOOD else sum(value for value, _ in scored)
            return Answer(response, None, sum(len(tokens) for tokens in inputs), 0)

        return _Prepared(query, bodies, read, cut)

    def _read_logprobs(self, output: Any, tokens: list[int], start: int) -> tuple[float, bool]:
        """Log-likelihood of the tokens from `start` on; lm-eval would sum up whatever is there."""
        if isinstance(output, dict) and "choices" in output:
            values = output["choices"][0]["logprobs"]["token_logprobs"]
            if len(values) != len(tokens) + 1:  # the prompt, and the one token that is always written
                raise ValueError(
                    f"log-likelihoods of {len(values)} tokens instead of {len(tokens)} and one more"
                )
            for value in values[start:-1]:
                log_likelihood(value)  # a sum could hide a wrong one
        scored: tuple[float, bool] = self._lm.parse_logprobs(
            outputs=output, tokens=[tokens], ctxlens=[start]
        )[0]
        return scored

    # answers, in the server's thread --------------------------------------------------------------------

    async def _answer_all(self, queries: Sequence[_Prepared]) -> list[Answer]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(prepared)) for prepared in queries]
        except ExceptionGroup as failures:  # the others were cancelled
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, prepared: _Prepared) -> Answer:
        try:
            outputs = [await self._server.ask(body) for body in prepared.bodies]
            answer = replace(prepared.read(outputs), prompt_cut=prepared.cut)
        except AnswerWithheldError as error:
            return Answer(None, error=error_text(error))
        except (RequestRefusedError, *UNREADABLE) as error:
            reason, kind = error_text(error), prepared.query.kind
            self._refused[kind] += 1
            if not self._answered[kind] and self._refused[kind] >= MOST_REFUSALS:
                await self._try_harmless(prepared.query, reason)
            return Answer(None, error=reason)
        self._answered[prepared.query.kind] += answer.error is None
        return answer

    async def _try_harmless(self, query: Query, reason: str) -> None:
        """Tell refused prompts, which may be all that is left for a replica, from a refused way to ask.

        Raises:
            EngineOptionError: the same request with a prompt of one word is refused, too.
        """
        prompt = json.dumps([{"role": "user", "content": "1"}]) if self._chat else "1"
        prepared = self._prepare(replace(query, arguments=(prompt, *query.arguments[1:])))
        try:
            answer = prepared.read([await self._server.ask(body) for body in prepared.bodies])
        except AnswerWithheldError:
            return
        except (RequestRefusedError, *UNREADABLE):
            answer = Answer(None, error=reason)
        if answer.error is not None:
            raise EngineOptionError(f"{self._server.url} cannot answer {query.kind} requests: {reason}")
        self._answered[query.kind] += 1


def _has_thought(choice: Mapping[str, Any]) -> bool:
    """Whether a message without text has the thoughts of a reasoning model, which then said nothing."""
    message = choice.get("message")
    thoughts = [message.get(name) for name in THOUGHTS] if isinstance(message, dict) else []
    return any(isinstance(thought, str) and thought for thought in thoughts)


def with_environment(header: Mapping[str, Any]) -> dict[str, str]:
    """Headers with $NAME and ${NAME} replaced by variables of the environment.

    Raises:
        EngineOptionError: there is no such variable.
    """

    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise EngineOptionError(f"engine.header needs the environment variable {name}, which is not set")
        return os.environ[name]

    return {
        str(name): re.sub(r"\$(?:(\w+)|\{(\w+)\})", variable, str(value)) for name, value in header.items()
    }
