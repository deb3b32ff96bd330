"""A server that takes and gives JSON, and may be busy, broken or away for a while.

Requests of all callers share one bounded pool. What cannot be answered now is asked again, with growing
pauses, until patience is at its end; then a request that was answered before is asked once more. If that is
answered again, the fault is the new request's own; if not, the server is away.
"""

import asyncio
import json
import random
import re
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any

import aiohttp

from orchestrator.engines.base import EngineAwayError, EngineOptionError
from orchestrator.engines.reply import SECRET_NAME, of_stream, striker, without_repeats
from orchestrator.errors import AnswerWithheldError, RequestRefusedError, ServerBusyError, error_text
from orchestrator.input_files import has_more_parts
from orchestrator.retry import LONGEST_PAUSE, RETRY_SECONDS

SHORTEST_PAUSE, FIRST_PAUSE = 0.1, 0.5
SECONDS_TO_CONNECT = 30.0
SECONDS_BETWEEN_WORDS = 10.0
LONGEST_REASON = 300  # characters of a server's words
TURNS = 3  # in which one request is answered and another is told "busy", until that is no rate limit
MIB = 1 << 20
LARGEST_REPLY = 32 * MIB  # bytes, decompressed
MOST_REPLY_PARTS = 2_000_000
"""Values and keys of a reply: log-likelihoods of 200,000 tokens have some 9 for each."""
FIRST_TOKEN = re.compile(
    rb'"(?:content|reasoning|reasoning_content|thinking|text|arguments|name)": ?"[^"]'
)  # in a stream, whose first events may be empty
LONGEST_KEY = 64  # bytes of what that matches, and more

Seconds = tuple[float, float | None]
"""How long a server took for a reply, and for its first token, if the reply came in parts."""
BUSY = 429
FOR_NOW = {408, 409, 425, BUSY}  # and everything from 500 on
NO_RIGHT = {401, 402}
NO_PLACE = {403, 404, 405, 410}
"""Unless something was answered there before: then a gateway has lost its server."""
WITHHOLDING = re.compile(
    r"content[ _-]?(filter|policy|management)|responsible ?ai|moderation|\bflagged\b", re.IGNORECASE
)
"""Words of a gateway that does not let a prompt or an answer pass."""
HOPELESS = (aiohttp.InvalidURL, aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)


class TryAgainError(Exception):
    """Why a request is to be asked again: the server is away or busy, and may ask for a pause, in seconds."""

    busy: bool = False
    pause: float | None = None


class Server:
    """A server and the thread that asks it; an EngineOptionError for no URL or a header of several lines."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],  # go with every request, and into no message
        concurrency: int,  # requests at a time
        timeout: float,  # seconds that an answer may take
        patience: float,  # seconds that the server may be away
        verify: bool,  # whether the server's certificate must be valid
        largest_reply: int = LARGEST_REPLY,  # bytes, once it is decompressed
        secrets: Sequence[str] = (),  # that no text of the server may hold, beside those of telling headers
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise EngineOptionError(
                f"base_url must be the http:// or https:// address for requests, not {url!r}"
            )
        self.url = url
        self.trouble: str | None = None  # what came instead of the last answer
        self._headers = {name: value.strip() for name, value in headers.items()}
        if several := [name for name, value in self._headers.items() if len(value.splitlines()) > 1]:
            raise EngineOptionError(f"the header {several[0]} has line breaks")
        told = [value for name, value in self._headers.items() if SECRET_NAME.search(name)]
        self.without_secrets = striker([*told, *secrets])
        self._without_headers = striker([*self._headers.values(), *secrets])
        self._largest_reply = largest_reply
        self._patience = patience
        self._answered: Any = None  # a request, the last that was answered
        self._answered_at = self._spoke_at = float("-inf")
        self._not_before = 0.0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="requests", daemon=True)
        self._thread.start()
        self._slots = asyncio.Semaphore(concurrency)

        async def session() -> aiohttp.ClientSession:  # which belongs to the loop that runs this
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=concurrency, ssl=verify),
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=SECONDS_TO_CONNECT),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )

        self._session: aiohttp.ClientSession = self.run(session())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine, which runs in the server's own thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        """Close the connections."""
        self.run(self._session.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)

    async def ask(self, body: Any) -> tuple[Any, Seconds]:
        """Send a request until it is answered; the reply, and the seconds that the server took for it.

        Raises:
            AnswerWithheldError: a filter of the provider blocks the prompt or the answer.
            RequestRefusedError: the server refuses the request, or still fails on it when retries run out.
            ServerBusyError: it is still too busy for this request, and not for others.
            EngineAwayError: the server has stopped answering altogether.
            EngineOptionError: the server will never answer: the address is wrong, or access is denied.
        """
        failing_since, pause = None, FIRST_PAUSE
        while True:
            try:
                return await self._send(body)
            except TryAgainError as error:
                trouble, now = error, time.monotonic()
            failing_since = failing_since or now
            self.trouble = f"retrying requests to {self.url}: {trouble}"
            if now - self._spoke_at > SECONDS_BETWEEN_WORDS:
                self._spoke_at = now
                print(f"lldeg: {self.trouble}", flush=True)  # noqa: T201 - the replica's own log
            if now - failing_since >= self._patience:
                if trouble.busy:
                    if (answer := await self._ask_in_turn(body, str(trouble))) is not None:
                        return answer
                elif await self._answers_what_it_answered():
                    raise RequestRefusedError(str(trouble))
                if now - max(failing_since, self._answered_at) >= self._patience:
                    raise EngineAwayError(f"{self.url} does not answer: {trouble}")
            await asyncio.sleep(trouble.pause or pause * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
            pause = min(2 * pause, LONGEST_PAUSE)

    def no_answer(self, why: str, reply: Any) -> Exception:
        """The error of a reply that is no answer: withheld if it speaks of a filter, else refused."""
        try:
            text = json.dumps(reply, ensure_ascii=False)
        except RecursionError:
            text = ""
        kind = AnswerWithheldError if WITHHOLDING.search(text) else RequestRefusedError
        return kind(self._words(why, text))

    async def _send(self, body: Any) -> tuple[Any, Seconds]:
        """Send a request once, with results and errors of `ask`; a `TryAgainError` asks for more."""
        try:
            async with self._slots:
                await asyncio.sleep(self._not_before - time.monotonic())
                sent = time.monotonic()
                async with self._session.post(self.url, json=body, allow_redirects=False) as response:
                    content, first = await self._read(response)
                seconds = time.monotonic() - sent, first and first - sent
        except HOPELESS as error:
            raise EngineOptionError(f"cannot connect to {self.url}: {error_text(error)}") from None
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            raise TryAgainError(self._without_headers(error_text(error))) from None
        text = content.decode(errors="replace")
        if not 200 <= response.status < 300:
            raise self._failure(response, text)
        streamed = isinstance(body, dict) and body.get("stream") and not text.lstrip().startswith("{")
        if not streamed and has_more_parts(text, MOST_REPLY_PARTS):
            raise RequestRefusedError(f"the reply has more than {MOST_REPLY_PARTS:,} values")
        try:
            output = of_stream(text) if streamed else json.loads(text, object_pairs_hook=without_repeats)
            content.decode()
        except RecursionError:
            raise RequestRefusedError("the reply is JSON that is nested too deeply") from None
        except UnicodeDecodeError:
            raise RequestRefusedError(self._words("the reply is not UTF-8", text)) from None
        except (TypeError, AttributeError):
            raise RequestRefusedError(self._words("the stream is not in OpenAI's form", text)) from None
        except ValueError:
            raise TryAgainError(self._words("invalid JSON", text)) from None
        if not isinstance(output, (dict, list)) or (isinstance(output, dict) and output.get("error")):
            # gateways send upstream errors with status 200
            kind = AnswerWithheldError if WITHHOLDING.search(text) else TryAgainError
            raise kind(self._words("not an answer", text))
        self._answered, self._answered_at = body, time.monotonic()
        self.trouble = None
        return output, seconds

    async def _read(self, response: aiohttp.ClientResponse) -> tuple[bytes, float | None]:
        """The content of a reply, and when its first token came; one above the limit is refused early."""
        content, first = bytearray(), None
        async for piece in response.content.iter_any():
            content += piece
            start = max(0, len(content) - len(piece) - LONGEST_KEY)
            in_parts = not content[:LONGEST_KEY].lstrip().startswith(b"{")
            if first is None and in_parts and FIRST_TOKEN.search(content, start):
                first = time.monotonic()
            if len(content) > self._largest_reply:
                response.close()
                raise RequestRefusedError(
                    f"the reply is larger than {self._largest_reply / MIB:g} MiB (engine.max_reply_mib)"
                )
        return bytes(content), first

    def _failure(self, response: aiohttp.ClientResponse, text: str) -> Exception:
        """What a status that is no success means: see `_send`."""
        status = response.status
        reason = self._words(f"HTTP {status}", text)
        if 400 <= status < 500 and status not in FOR_NOW | NO_RIGHT and WITHHOLDING.search(text):
            return AnswerWithheldError(reason)
        if status < 400 or status in NO_RIGHT or (status in NO_PLACE and self._answered is None):
            return EngineOptionError(f"{self.url} refuses requests: {reason}")
        if status < 500 and status not in FOR_NOW | NO_PLACE:
            return RequestRefusedError(reason)
        trouble = TryAgainError(reason)
        trouble.busy, trouble.pause = status == BUSY, _seconds(response.headers.get("Retry-After"))
        if trouble.pause is not None:  # other requests would get the same answer
            self._not_before = max(self._not_before, time.monotonic() + trouble.pause)
        return trouble

    async def _ask_in_turn(self, body: Any, reason: str) -> tuple[Any, Seconds] | None:
        """Send a request that met "busy" in turn with one that was answered before.

        Returns None if the other one is not answered now, either; if it always is, and this one never, a
        `ServerBusyError` is raised.
        """
        for _ in range(TURNS):
            if not await self._answers_what_it_answered():
                return None
            with suppress(TryAgainError):
                return await self._send(body)
        raise ServerBusyError(reason)

    async def _answers_what_it_answered(self) -> bool:
        """Whether the server answers, once more, what it has answered before."""
        with suppress(TryAgainError, RequestRefusedError, AnswerWithheldError):
            return self._answered is not None and await self._send(self._answered) is not None
        return False

    def _words(self, what: str, text: str) -> str:
        """A server's message on one line, without the secrets of the request."""
        words = f"{what}: {' '.join(text.split(maxsplit=LONGEST_REASON))}"
        return self._without_headers(words)[:LONGEST_REASON]


def _seconds(header: str | None) -> float | None:
    """The pause a server asks for, if it names seconds; no longer than a server may be away."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(max(seconds, SHORTEST_PAUSE), RETRY_SECONDS) if isfinite(seconds) else None
