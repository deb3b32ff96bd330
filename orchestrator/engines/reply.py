"""Reading a server's reply: what is not plainly one answer is none.

Gateways report overload, filters and failures of their own in dozens of shapes with status 200, and lm-eval's
parsers take most of them for an empty answer. So a reply must have OpenAI's form with exactly one choice, the
source of both text and finish_reason, and nothing in it may speak of a filter or an error.

A server may also repeat the key it was sent: in an error, in a text, in any encoding. What it says ends up in
files of the run, so the key is struck out there, as it is and as URLs, JSON, HTML, base64 and hexadecimal
would write it.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from html.entities import codepoint2name
from math import isfinite
from typing import Any

from orchestrator.engines.base import CUT, ROUNDING, SERVED_BY, end_reason, log_likelihood, token_count
from orchestrator.errors import AnswerWithheldError

MARK = "…"
SHORTEST_SECRET = 8  # characters; a shorter word may be any word
SECRET_NAME = re.compile(
    r"auth(?!ors?$)|cookie|credential|passw|passphrase|secret|signature|token(?!iz|s)|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|(^|[_-])(key|pwd|sig)$",
    re.IGNORECASE,
)
"""Names whose values are secrets: of headers, options and parameters of a query string."""

THOUGHTS = ("reasoning_content", "reasoning")
"""Fields of vLLM and similar servers for thoughts that come with a text."""
ANTHROPIC_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
SPEAKERS = (None, "assistant", "model")
LONGEST_NAME = 200  # characters of what a server calls itself
LEAST_LIKELY = -25.0  # natural logarithm; the likeliest of 70 billion tokens is likelier
_FILTERED = re.compile(
    r'"[\w-]*(filtered|blocked|flagged|put_sensitive|block_?reason|moderation_?hit_?type|guardrailaction)": '
    r'(?!false|null|0[,}]|""|"none"|\[\]|\{\})|"content_?filter": true',
    re.IGNORECASE,
)
"""In the JSON of what a provider says beside the text, in which quotation marks of texts are escaped."""
_ONCE = frozenset(
    "choices error errors index finish_reason message text content refusal role logprobs".split()  # noqa: SIM905 - shorter
)


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text, for `json.loads`, which would keep the last value of a repeated key.

    A `ValueError` is raised if a key that decides what was answered is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        if repeated := next((name for name in _ONCE & found.keys() if names.count(name) > 1), None):
            raise ValueError(f"the key {repeated} is there twice")
    return found


def only_choice(reply: Any, clean: Callable[[str], str], *, tools: bool = False) -> dict[str, Any]:
    """The choice of a reply, with its finish_reason as rows have it.

    `clean` takes secrets out of a text; `tools`: whether the request offered tools.

    Raises:
        AnswerWithheldError: a filter or a failure of the provider ended the answer.
        ValueError: the reply has not one choice of index 0.
    """
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise ValueError("the reply does not have exactly one choice")
    choice = choices[0]
    if type(choice.get("index")) is not int or choice["index"] != 0:
        raise ValueError("the choice of the reply does not have index 0")
    kind = str(reply.get("object"))
    if kind == "error" or kind.endswith(".chunk"):
        raise ValueError(f"the reply is an object of the kind {kind}")
    if reply.get("success") is False or any(
        part.get(name) for part in (reply, choice) for name in ("error", "errors")
    ):
        raise AnswerWithheldError("the answer comes with an error")
    around = {name: value for name, value in reply.items() if name != "choices"}
    beside = {name: value for name, value in choice.items() if name != "logprobs"}  # whose keys are tokens
    if _FILTERED.search(json.dumps([around, beside])):
        raise AnswerWithheldError("a filter of the provider blocks the prompt or the answer")
    names = ("native_finish_reason", "finish_reason")  # the provider's own, where a gateway tells it
    for word in (choice.get(name) for name in names):
        reason = end_reason(None if word is None else clean(str(word)), tools=tools)
    return choice | {"finish_reason": reason}


def of_anthropic(message: Any) -> Any:
    """A reply of Anthropic's Messages API in OpenAI's form.

    A ValueError, TypeError or LookupError if it has not the form of one.
    """
    blocks = message.get("content") if isinstance(message, dict) else None
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise ValueError("the reply has no list of blocks as content")
    kinds = {block["type"] for block in blocks}
    if unknown := kinds - {"text", "tool_use", *ANTHROPIC_THOUGHTS}:
        raise ValueError(f"the reply has a block of the type {unknown.pop()}")
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    said = {"role": message.get("role"), "content": "".join(texts) if texts or not kinds else None}
    said["tool_calls"] = [
        {"function": {"name": block.get("name"), "arguments": json.dumps(block.get("input"))}}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if kinds & ANTHROPIC_THOUGHTS:
        said[THOUGHTS[0]] = ""
    usage = message["usage"] if isinstance(message.get("usage"), dict) else {}
    parts = [token_count(usage.get(f"{part}input_tokens")) for part in ("", "cache_creation_", "cache_read_")]
    around = {name: value for name, value in message.items() if name not in {"content", "role", "usage"}}
    return around | {
        "choices": [{"index": 0, "message": said, "finish_reason": message.get("stop_reason")}],
        "usage": {
            "prompt_tokens": None if parts[0] is None else sum(part or 0 for part in parts),
            "completion_tokens": usage.get("output_tokens"),
            "prompt_tokens_details": {"cached_tokens": parts[-1]},
        },
    }


IN_PARTS = {"arguments", "content", "refusal", "text", *THOUGHTS}
"""Texts that a stream goes on with; other values replace those of before."""


def of_stream(text: str) -> Any:
    """The reply that the events of a stream add up to.

    A ValueError if it ends early, a TypeError or AttributeError if it has not the form of a stream.
    """
    whole: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    ended = False
    for line in re.split(r"\r?\n", text):
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if ended := data == "[DONE]":
            break
        event = json.loads(data, object_pairs_hook=without_repeats)
        whole |= {name: value for name, value in event.items() if value is not None and name != "choices"}
        for part in event.get("choices") or ():
            said = {"message": part.get("delta") or {}, **part, "delta": None, "logprobs": None}
            _add(choices.setdefault(part.get("index"), {}), said)
    if not ended and not any("finish_reason" in choice for choice in choices.values()):
        raise ValueError("the stream ends early")
    return whole | {"object": "chat.completion", "choices": [_put_together(c) for c in choices.values()]}


def _add(said: dict[str, Any], part: dict[str, Any]) -> None:
    """Add a part to what was said before; calls go on by their index."""
    for name, value in part.items():
        if name == "tool_calls":
            calls = said.setdefault(name, {})
            for call in value or ():
                _add(calls.setdefault(call.get("index"), {}), call)
        elif isinstance(value, dict):
            _add(said.setdefault(name, {}), value)
        elif isinstance(value, str) and name in IN_PARTS:
            said.setdefault(name, []).append(value)
        elif value or (value is not None and name not in said):
            said[name] = value


def _put_together(said: dict[str, Any]) -> dict[str, Any]:
    whole = dict(said)
    for name, value in said.items():
        if name == "tool_calls":
            whole[name] = [_put_together(call) for call in value.values()]
        elif name in IN_PARTS and isinstance(value, list):
            whole[name] = "".join(value)
        elif isinstance(value, dict):
            whole[name] = _put_together(value)
    return whole


OTHER_FORMS = dict.fromkeys(("anthropic-chat", "anthropic-chat-completions"), of_anthropic)
"""What makes OpenAI's form of a reply, for lm-eval's classes whose servers have another."""


def told(reply: Any, clean: Callable[[str], str]) -> dict[str, Any]:
    """What a reply tells beside the answer, as fields of an `Answer`."""

    def value(*path: str) -> Any:
        found = reply
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return clean(found)[:LONGEST_NAME] or None if isinstance(found, str) else found

    words = {name: value(name.removeprefix("served_")) for name in SERVED_BY}
    return {name: word for name, word in words.items() if isinstance(word, str)} | {
        "prompt_tokens": token_count(value("usage", "prompt_tokens")),
        "output_tokens": token_count(value("usage", "completion_tokens")),
        "cached_tokens": token_count(value("usage", "prompt_tokens_details", "cached_tokens")),
        "reasoning_tokens": token_count(value("usage", "completion_tokens_details", "reasoning_tokens")),
    }


def said(choice: dict[str, Any], *, chat: bool, tools: bool = False) -> str:
    """The text of a choice; empty where a reasoning model only thought, or only called a tool that it had.

    Raises:
        AnswerWithheldError: there is no text, or a refusal in its place.
        ValueError, TypeError: the choice has not the form of an answer.
    """
    part = choice.get("message") if chat else choice
    if not isinstance(part, dict):
        raise ValueError("the choice has no message")  # noqa: TRY004 - as of all replies in a wrong form
    if part.get("role") not in SPEAKERS:
        raise ValueError("the message is not the assistant's")
    if part.get("refusal") or part.get("error") or part.get("errors"):
        raise AnswerWithheldError("the message is a refusal or an error")
    called = bool(part.get("tool_calls") or part.get("function_call"))
    if called and not tools:
        raise ValueError("the answer calls a tool, and none was offered")
    text = part.get("content" if chat else "text")
    # an empty answer: of thoughts alone, cut, or as SGLang writes one
    thought = any(isinstance(part.get(name), str) for name in THOUGHTS)
    nothing = thought or choice["finish_reason"] == CUT or choice.get("matched_stop") is not None
    if text is None and (called or (chat and nothing)):
        return ""
    if text is None or (not text and not called and choice["finish_reason"] is None):
        raise AnswerWithheldError(f"the answer has no text (finish_reason: {choice['finish_reason']})")
    if not isinstance(text, str):
        raise TypeError(f"the answer is not text but {type(text).__name__}")
    return text


def check_logprobs(choice: dict[str, Any], tokens: int, start: int) -> None:
    """Check what lm-eval would add up and compare without a look at it.

    A ValueError if the log-likelihoods are not of so many tokens, or from the start on are none, or the
    likeliest token is less likely than the prompt's own, or than any likeliest token can be.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        raise ValueError("the reply has no log-likelihoods")  # noqa: TRY004 - as of all replies in a wrong form
    columns = []
    for name in ("token_logprobs", "top_logprobs"):
        column = logprobs.get(name)
        if not isinstance(column, list) or len(column) != tokens + 1:
            found = len(column) if isinstance(column, list) else "no"
            raise ValueError(f"{name} of {found} tokens instead of {tokens} and one more")
        columns.append(column[start:-1])
    for value, top in zip(*columns, strict=True):
        own = log_likelihood(value)  # one by one, since a sum could hide a wrong one
        alternatives = list(top.values()) if isinstance(top, dict) else []
        kinds = {type(one) for one in alternatives}
        if not alternatives or not kinds <= {int, float} or not all(map(isfinite, alternatives)):
            raise ValueError("top_logprobs are not the log-likelihoods of a token's alternatives")
        likeliest = max(alternatives)
        if not max(own - ROUNDING, LEAST_LIKELY) <= likeliest <= ROUNDING:
            raise ValueError(
                f"the likeliest token has the log-likelihood {likeliest:g}, the prompt's own {own:g}"
            )


# secrets --------------------------------------------------------------------------------------------------


def striker(values: Iterable[str]) -> Callable[[str], str]:
    """What replaces all forms of values, and of their words that are long enough to be secrets, in a text.

    Any of their characters may be escaped as in URLs, JSON (at any depth) or HTML. Of a run of backslashes
    only the first may begin a character, so that a long one takes no quadratic time.
    """
    words = {word for value in values for word in (value.strip(), *value.split())}
    known = sorted((word for word in words if len(word) >= SHORTEST_SECRET), key=len, reverse=True)
    forms = [r"\\*".join(f"(?:{'|'.join(_forms_of(character))})" for character in secret) for secret in known]
    forms += sorted({re.escape(form) for secret in known for form in _encoded(secret)}, key=len, reverse=True)
    pattern = re.compile("|".join(forms) or "(?!)", re.IGNORECASE)
    return lambda text: pattern.sub(MARK, text)


def _forms_of(character: str) -> Iterator[str]:
    yield re.escape(character)
    yield "".join(f"%{byte:02x}" for byte in character.encode())
    units = character.encode("utf-16-be").hex()
    yield "".join(rf"(?:(?<!\\)\\+|\\)u{units[place : place + 4]}" for place in range(0, len(units), 4))
    yield f"&#0*{ord(character)};|&#x0*{ord(character):x};"
    if name := codepoint2name.get(ord(character)):
        yield f"&{name};"
    if character == " ":
        yield r"\+"


def _encoded(secret: str) -> Iterator[str]:
    yield secret.encode().hex()
    for offset in range(3):  # base64 writes three bytes at a time, and the secret may begin at any of them
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode()
        inner = encoded[(0, 2, 3)[offset] :].rstrip("=")
        if (offset + len(secret.encode())) % 3:
            inner = inner[:-1]  # shares its last character with what follows
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))
