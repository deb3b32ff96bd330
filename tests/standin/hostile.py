"""A hostile server: one function per misbehaviour, each with what must become of the sample.

A misbehaviour takes the body of a request and gives the reply, as `StandInServer` wants it. What is expected:
FAILED, a row with an error; WITHHELD, one with the error of that kind; ANSWERED, an answer as usual.
"""

import base64
import gzip
import json
import zlib
from urllib.parse import quote

from standin.server import reply

KEY = "sk-Hostile+0123/456789=abcdef"
ANSWERED, FAILED, WITHHELD = "answered", "failed", "withheld"
TOO_MUCH = 3 << 20  # bytes; more than the tests allow
MISBEHAVIOURS = {}
"""By name: the function and what is expected."""


def expected(outcome):
    """Register a misbehaviour."""

    def register(function):
        MISBEHAVIOURS[function.__name__] = (function, outcome)
        return function

    return register


def said(text="1", finish_reason="stop", usage=None, **more):
    """What a server says, in the form of a completion and in that of a chat."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "text": text, "message": message, "finish_reason": finish_reason, **more}
    return {"choices": [choice], "usage": usage or {"prompt_tokens": 7, "completion_tokens": 3}}


# what is withheld ----------------------------------------------------------------------------------------


@expected(WITHHELD)
def filters_the_answer(_):
    """A part of the text, and the reason."""
    return reply(said("par", "content_filter"))


@expected(WITHHELD)
def fails_in_the_middle(_):
    """The provider's own failure, as a finish_reason."""
    return reply(said("par", "error"))


@expected(WITHHELD)
def says_null(_):
    """No text at all, and no word why."""
    return reply(said(None))


@expected(WITHHELD)
def refuses_by_policy(_):
    """A gateway's 400 about the prompt's content."""
    return reply({"error": {"code": "content_filter", "message": "ResponsibleAIPolicyViolation"}}, 400)


@expected(WITHHELD)
def flags_the_prompt(_):
    """A gateway's 403 about the prompt's content, which is not about a missing right."""
    return reply({"error": {"message": "your input was flagged by moderation"}}, 403)


@expected(WITHHELD)
def refuses_with_200(_):
    """The same, in a reply that says that all is well."""
    return reply({"error": {"message": "blocked by content policy"}})


# what is no answer ---------------------------------------------------------------------------------------


@expected(FAILED)
def has_no_choices(_):
    """An empty list."""
    return reply({"choices": []})


@expected(FAILED)
def has_strange_choices(_):
    """Not a list."""
    return reply({"choices": {"0": "text"}})


@expected(FAILED)
def has_two_choices_of_the_same_index(_):
    """Which of them is the answer nobody knows."""
    return reply({"choices": [said("1")["choices"][0], {"index": 7, "text": "2"}]})


@expected(FAILED)
def says_a_number(_):
    """A text that is none."""
    return reply(said(42))


@expected(FAILED)
def says_a_list(_):
    """Nor is this."""
    return reply(said(["1"]))


@expected(FAILED)
def returns_a_list(_):
    """JSON of another shape."""
    return reply([[["1"]]])


@expected(FAILED)
def nests_deeply(_):
    """JSON that overflows a stack."""
    return reply(b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@expected(FAILED)
def nests_below_the_limit(_):
    """JSON that is just readable, where a text should be."""
    nested = b"[" * 400 + b"]" * 400
    return reply(b'{"choices":[{"index":0,"text":' + nested + b',"message":{"content":' + nested + b"}}]}")


@expected(FAILED)
def sends_too_many_values(_):
    """More commas than a reply may have, within its bytes; they are counted before it is parsed."""
    return reply(said() | {"note": "," * 2_050_000})


@expected(FAILED)
def sends_too_much(_):
    """More than a reply may have."""
    return reply(said("x" * TOO_MUCH))


@expected(FAILED)
def sends_a_bomb(_):
    """Small on the wire, large in memory."""
    content = gzip.compress(json.dumps(said("0" * TOO_MUCH)).encode())
    return reply(content, Content_Encoding="gzip")


@expected(FAILED)
def deflates_a_bomb(_):
    """The same in another encoding."""
    return reply(zlib.compress(b'{"choices": [' + b" " * TOO_MUCH), Content_Encoding="deflate")


@expected(FAILED)
def refuses_the_prompt(_):
    """Plainly."""
    return reply({"error": {"message": "too long"}}, 400)


@expected(FAILED)
def refuses_with_binary(_):
    """Words that are no text."""
    return reply(bytes(range(256)), 422)


@expected(FAILED)
def says_that_it_is_busy(_):
    """A gateway's own error, with the status of an answer."""
    return reply({"code": 50001, "msg": "busy"})


@expected(FAILED)
def says_bytes_that_are_no_text(_):
    """What could only be scored with characters of ours in it."""
    return reply(json.dumps(said("1?")).encode().replace(b"?", b"\xff"))


# strange details of an answer -----------------------------------------------------------------------------


@expected(ANSWERED)
def counts_beyond_measure(_):
    """More tokens than a column holds."""
    return reply(said(usage={"prompt_tokens": 2**40, "completion_tokens": 2**200}))


@expected(ANSWERED)
def counts_below_nought(_):
    """Fewer than none."""
    return reply(said(usage={"prompt_tokens": -1, "completion_tokens": -(2**40)}))


@expected(ANSWERED)
def counts_in_words(_):
    """Not numbers."""
    return reply(said(usage={"prompt_tokens": "many", "completion_tokens": True}))


@expected(ANSWERED)
def counts_in_a_list(_):
    """Not even a mapping."""
    return reply(said(usage=[1, 2]))


@expected(WITHHELD)
def gives_a_strange_reason(_):
    """A finish_reason that is no word."""
    return reply(said(finish_reason={"why": ["not"]}))


@expected(WITHHELD)
def gives_a_long_reason(_):
    """A megabyte of it."""
    return reply(said(finish_reason="stop" * (1 << 18)))


@expected(ANSWERED)
def says_half_a_character(_):
    """Lone surrogates, which no file can hold."""
    return reply(said("1 \ud800"))


@expected(ANSWERED)
def says_control_characters(_):
    """NUL and what steers a terminal."""
    return reply(said("1\x00\x1b[2J\r\n"))


@expected(ANSWERED)
def sends_cookies_and_links(_):
    """Headers that a browser would follow."""
    return reply(said(), Set_Cookie="a=b; Domain=example.org", Location="http://127.0.0.1:1/", Refresh="0")


# what it says of the key ----------------------------------------------------------------------------------


def echo(form):
    """A text with the key in some form."""
    return reply(said(f"the key is {form}!"))


@expected(ANSWERED)
def echoes_the_key(_):
    """As it is."""
    return echo(KEY)


@expected(ANSWERED)
def echoes_the_key_for_urls(_):
    """Percent-encoded."""
    return echo(quote(KEY, safe=""))


@expected(ANSWERED)
def echoes_the_key_in_base64(_):
    """As Basic authentication has it: with a name before it."""
    return echo(base64.b64encode(f"user:{KEY}".encode()).decode())


@expected(ANSWERED)
def echoes_the_key_in_base64_for_urls(_):
    """With the other alphabet, and at another offset."""
    return echo(base64.urlsafe_b64encode(f"u:{KEY}--".encode()).decode())


@expected(ANSWERED)
def echoes_the_key_in_hexadecimal(_):
    """Two digits a byte."""
    return echo(KEY.encode().hex())


@expected(WITHHELD)
def echoes_the_key_as_a_reason(_):
    """Where a finish_reason should be; cut off in the middle of it, it would still be most of the key."""
    return reply(said(finish_reason="key:" + "." * 40 + KEY))


@expected(FAILED)
def echoes_the_key_in_a_refusal(_):
    """In the words of an error."""
    return reply({"error": f"no right for {KEY}, {quote(KEY, safe='')}"}, 400)


# how it sends ----------------------------------------------------------------------------------------------


def trickle(handler, data, ended):
    """Send a reply, a byte now and then, until the other side has had enough."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if ended.wait(0.2):
            return
