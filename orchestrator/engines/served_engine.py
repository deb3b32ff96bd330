"""A model behind an HTTP server: any of lm-eval's API classes, fed continuously.

What is asked and how an answer is read is the class's own (`_create_payload`, `parse_generations`,
`parse_logprobs`). Sending is done by `Server`, since the classes wait for a whole batch before they take the
next, keep one seed for all, and turn a server's bad hour into lost samples.
"""

import asyncio
import copy
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import nan
from operator import itemgetter
from typing import Any

from lm_eval.models.api_models import JsonChatStr

from orchestrator import tool_calls
from orchestrator.engines import base, reply
from orchestrator.engines.base import Answer, Asked, EngineEndedError, EngineOptionError, EngineSpec, Query
from orchestrator.engines.http_client import LARGEST_REPLY, MIB, Server
from orchestrator.engines.tokenization import rolling_windows, split_pair
from orchestrator.errors import AnswerWithheldError, RequestRefusedError, ServerBusyError, error_text
from orchestrator.retry import RETRY_SECONDS

CONCURRENCY = 16  # requests at a time, unless num_concurrent says otherwise
FEED_FACTOR = 2
DEFAULT_TEMPERATURE = 1  # of servers, where a request names none
STREAMING = {"stream": True, "stream_options": {"include_usage": True}}
"""Fields of a request whose answer comes in parts."""
MOST_REFUSALS = 16  # of requests of one kind of which none was answered, until a harmless one is tried
UNREADABLE = (
    *(ValueError, TypeError, AttributeError, LookupError, AssertionError, OverflowError, RecursionError),
)
"""What lm-eval's classes raise when they cannot encode a prompt or parse an answer, and `reply` likewise."""


class ServedEngine(base.Engine):
    """A served model, behind an instance of lm-eval's `TemplateAPI`; prompts of a `chat` are JSON messages.

    Of the options, num_concurrent, patience (seconds that the server may be away; for as long as a storage
    may be, unless set), max_reply_mib and stream are read here. No text of the server may hold one of the
    secrets, or the value of a telling header. An EngineOptionError if the class lacks an address or a key.
    """

    def __init__(self, lm: Any, spec: EngineSpec, secrets: Sequence[str], *, chat: bool) -> None:
        self._lm = lm
        self._chat = chat
        self._template_arguments = spec.template_arguments
        self._extra = spec.options.get(base.EXTRA_BODY, {})
        self._streaming = dict(STREAMING) if spec.options.get(base.STREAM) else {}
        self._in_openai_form = reply.OTHER_FORMS.get(str(spec.options["kind"]).partition(":")[2])
        self._encoding_lock = threading.Lock()  # fast tokenizers may not be used by two threads at once
        self._answered: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        try:
            headers = {**lm.header, **spec.options.get("header", {})}
        except ValueError as error:  # a class that insists on a key
            raise EngineOptionError(str(error)) from None
        concurrency = int(spec.options.get("num_concurrent", CONCURRENCY))
        self.target_in_flight = FEED_FACTOR * concurrency
        self._server = Server(
            str(lm.base_url or ""),
            headers=headers,
            concurrency=concurrency,
            timeout=lm.timeout,
            # what it works on is answered by then
            patience=spec.options.get("patience") or max(RETRY_SECONDS, lm.timeout),
            verify=lm.verify_certificate,
            largest_reply=int(spec.options.get("max_reply_mib", LARGEST_REPLY / MIB) * MIB),
            secrets=secrets,
        )
        self._ended: asyncio.Future[EngineEndedError] = self._server.loop.create_future()

    @property
    def problem(self) -> str | None:
        """The server's last failure; None once it answers again."""
        return self._server.trouble

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries in order; see `Engine.answer`."""
        asked = [(query, self._asked(query)) for query in queries]
        return list(self._server.run(self._answer_all(asked)))

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _asked(self, query: Query) -> Asked:
        if query.kind != base.GENERATE and (self._chat or self._lm.tokenizer is None):
            raise EngineOptionError(
                "chat endpoints return no log-likelihoods; remove tasks that need them"
                if self._chat
                else "log-likelihoods need the model's tokenizer: set engine.tokenizer"
            )
        try:
            with self._encoding_lock:
                if query.kind == base.GENERATE:
                    return self._generation(query)
                if query.kind == base.LOGLIKELIHOOD:
                    return self._loglikelihoods(query, [split_pair(self._lm, *query.arguments)])
                if query.kind == base.TOKENS:
                    return self._token_scores(query)
                (text,) = query.arguments
                return self._loglikelihoods(query, rolling_windows(self._lm, text, self._lm.max_length - 1))
        except UNREADABLE as error:
            return base.unaskable(error)

    def _generation(self, query: Query) -> Asked:
        """A request for text, whose prompt is cut as far as its tokens are known."""
        context, settings = query.arguments
        message: Any = JsonChatStr(context) if self._chat else context
        cut = None
        if self._lm.tokenized_requests and not self._chat:
            answer = int(settings.get("max_gen_toks", self._lm._max_gen_toks))
            longest = int(self._lm.max_length) - answer
            if longest <= 0:
                raise EngineOptionError(
                    f"answers of up to {answer} tokens leave no room for a prompt within engine.max_length "
                    f"{self._lm.max_length + 1}: set it to the context length of the server"
                )
            message = self._lm.tok_encode(context, add_special_tokens=self._lm.add_bos_token)
            cut = max(0, len(message) - longest)
            query.check_cut(cut)
            message = message[cut:]
        body = self._lm._create_payload(
            self._lm.create_message([message]),
            generate=True,
            gen_kwargs=copy.deepcopy(settings),
            seed=query.seed,
            eos=self._lm.eos_string,
        )
        if self._in_openai_form:  # a stop is None where all of a task's are white space
            body["stop_sequences"] = [text for text in body["stop_sequences"] if text]
            body |= tool_calls.for_anthropic(json.loads(context), settings)
        if self._chat and self._template_arguments:
            body["chat_template_kwargs"] = self._template_arguments
        body = self._with_extra(body | self._streaming)
        asked, sent = settings.get("temperature", 0), body.get("temperature", DEFAULT_TEMPERATURE)
        if sent != asked:  # lm-eval sends another where a name looks like a reasoning model's
            raise EngineOptionError(
                f"this model is always asked at temperature {sent}, not at the requested {asked}: "
                f"set sampling.temperatures: [{sent}]"
            )
        clean, tools = self._server.without_secrets, "tools" in body

        def read_text(outputs: list[Any]) -> Answer:
            (output,) = outputs
            if self._in_openai_form:
                output = self._in_openai_form(output)
            choice = reply.only_choice(output, clean, tools=tools)
            text = reply.said(choice, chat=self._chat, tools=tools)
            if text and not self._in_openai_form:
                (text,) = self._lm.parse_generations(outputs=output)  # as lm-eval reads it
            if "tools" in settings:
                text = tool_calls.reply_text(text, tool_calls.calls_of(choice["message"]))
            return Answer(clean(text), choice["finish_reason"], prompt_cut=cut, **reply.told(output, clean))

        return (body,), read_text

    def _loglikelihoods(self, query: Query, pairs: Sequence[tuple[list[int], list[int]]]) -> Asked:
        """Requests for the log-likelihoods of the second of each pair of tokens after the first."""
        chunks = [[(None, context, continuation)] for context, continuation in pairs]
        inputs, starts, _ = self._lm.batch_loglikelihood_requests(chunks)
        size = sum(len(tokens) for tokens in inputs)
        cut = sum(len(context) + len(continuation) for context, continuation in pairs) - size
        query.check_cut(cut)

        clean = self._server.without_secrets

        def read(outputs: list[Any]) -> Answer:
            scored: list[tuple[float, bool]] = []
            for output, tokens, start in zip(outputs, inputs, starts, strict=True):
                choice = reply.only_choice(output, clean)
                reply.check_logprobs(choice, len(tokens), start)
                scored += self._lm.parse_logprobs(outputs=output, tokens=[tokens], ctxlens=[start])
            one = query.kind == base.LOGLIKELIHOOD
            response = scored[0] if one else sum(value for value, _ in scored)
            told = reply.told(outputs[-1], clean) if outputs else {}
            return Answer(response, prompt_cut=cut, **{**told, "prompt_tokens": size, "output_tokens": 0})

        create, message = self._lm._create_payload, self._lm.create_message
        bodies = (create(message([tokens]), generate=False, seed=query.seed) for tokens in inputs)
        return [self._with_extra(body) for body in bodies], read

    def _token_scores(self, query: Query) -> Asked:
        """A request for the log-probabilities of an answer's tokens, and of others in their places.

        Servers tell the others by their texts. One that several tokens share tells of none.
        """
        context, text, top = query.arguments
        head = self._lm.tok_encode(context, add_special_tokens=self._lm.add_bos_token)
        whole = head + self._lm.tok_encode(text)[len(self._lm.tok_encode("")) :]
        tokens = whole[-self._lm.max_length :]
        cut = len(whole) - len(tokens)
        query.check_cut(cut)
        start, clean = max(len(head) - cut, 1), self._server.without_secrets

        def read(outputs: list[Any]) -> Answer:
            (output,) = outputs
            choice = reply.only_choice(output, clean)
            reply.check_logprobs(choice, len(tokens), start)
            told, ids, values = choice["logprobs"], list[int](), list[float]()
            for place in range(start, len(tokens)):
                others = sorted(told["top_logprobs"][place].items(), key=itemgetter(1), reverse=True)[:top]
                missing = top - len(others)
                ids += [tokens[place], *(self._ids.get(one, -1) for one, _ in others), *[-1] * missing]
                values += [told["token_logprobs"][place], *(value for _, value in others), *[nan] * missing]
            return Answer((ids, values), None, len(tokens), 0, prompt_cut=cut)

        message = self._lm.create_message([tokens])
        body = self._lm._create_payload(message, generate=False, seed=query.seed) | {"logprobs": top}
        return (self._with_extra(body),), read

    @cached_property
    def _ids(self) -> dict[str, int]:
        """Tokens by their texts, as far as these are of one token only."""
        tokenizer = self._lm.tokenizer
        texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
        counts = Counter(texts)
        return {text: token for token, text in enumerate(texts) if counts[text] == 1}

    def _with_extra(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request with the fields of the option extra_body, and without those that it leaves out."""
        return {
            name: value for name, value in (body | self._extra).items() if self._extra.get(name) != base.OMIT
        }

    async def _answer_all(self, queries: Sequence[tuple[Query, Asked]]) -> list[Answer]:
        """Answer queries; once one of any call ends the engine, all calls end with what they have by then."""
        tasks = [asyncio.create_task(self._answer(*query)) for query in queries]
        if not tasks:
            return []
        finished = asyncio.ensure_future(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        await asyncio.wait((finished, self._ended), return_when=asyncio.FIRST_COMPLETED)
        for future in (*tasks, finished):
            future.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        answers = [outcome if isinstance(outcome, Answer) else None for outcome in outcomes]
        if None not in answers:
            return [answer for answer in answers if answer is not None]
        if not self._ended.done():
            errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            ends = [error for error in errors if isinstance(error, EngineEndedError)]
            if not ends:
                raise errors[0]
            self._ended.set_result(ends[0])
        ended = self._ended.result()
        left = type(ended)(str(ended))
        left.answers = answers
        raise left

    async def _answer(self, query: Query, asked: Asked) -> Answer:
        """What the server answers, or its error; raises what ends the engine."""
        kind = query.kind
        try:
            answer = await self._ask(asked)
        except (AnswerWithheldError, ServerBusyError) as error:
            answer = Answer(None, error=error_text(error))
        except RequestRefusedError as error:
            answer = Answer(None, error=error_text(error))
            self._refused[kind] += 1
            if not self._answered[kind] and self._refused[kind] >= MOST_REFUSALS:
                await self._try_harmless(query, error_text(error))
        self._answered[kind] += answer.error is None
        return answer

    async def _ask(self, asked: Asked) -> Answer:
        """Send the requests of a query and read the replies; one that is no answer counts as refused."""
        requests, read = asked
        replies = [await self._server.ask(body) for body in requests]
        outputs = [output for output, _ in replies]
        times = [seconds for _, seconds in replies]
        try:
            first = times[0][1] if times else None
            return replace(read(outputs), seconds=sum(whole for whole, _ in times), first_token_seconds=first)
        except UNREADABLE as error:
            raise self._server.no_answer(str(error) or error_text(error), outputs[-1]) from None

    async def _try_harmless(self, query: Query, reason: str) -> None:
        """Tell refused prompts, which may be all that is left for a replica, from a refused way to ask.

        Then a request with a prompt of one word is refused, too, and an `EngineOptionError` raised.
        """
        prompt = json.dumps([{"role": "user", "content": "1"}]) if self._chat else "1"
        asked = self._asked(replace(query, arguments=(prompt, *query.arguments[1:])))
        try:
            refused = (await self._ask(asked)).error is not None
        except (AnswerWithheldError, ServerBusyError):
            return
        except RequestRefusedError:
            refused = True
        if refused:
            raise EngineOptionError(f"{self._server.url} cannot answer {query.kind} requests: {reason}")
        self._answered[query.kind] += 1


def with_environment(spec: EngineSpec) -> tuple[EngineSpec, list[str]]:
    """A spec whose headers have variables of the environment for $NAME and ${NAME}, and their values.

    An EngineOptionError if there is no such variable.
    """
    values: list[str] = []

    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise EngineOptionError(f"engine.header needs the environment variable {name}, which is not set")
        values.append(os.environ[name])
        return values[-1]

    header = {
        str(name): re.sub(r"\$(?:(\w+)|\{(\w+)\})", variable, str(value))
        for name, value in spec.options.get("header", {}).items()
    }
    return replace(spec, options=spec.options | ({"header": header} if header else {})), values
