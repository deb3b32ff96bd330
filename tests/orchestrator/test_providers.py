"""Providers: Anthropic's form of requests and replies, Google's strict one, what servers tell."""

import re

import pytest
from standin.server import StandInServer, completion, open_engine, reply

from orchestrator.engines.base import GENERATE, SERVED_BY, Answer, EngineOptionError, EngineSpec, Query
from orchestrator.rundir.identity import Item, Rerun
from orchestrator.rundir.schema import sample_schema
from orchestrator.sweep.blocks import Block
from orchestrator.workers.answer_block import Sample, samples_table

pytestmark = pytest.mark.ray

KEY = "sk-ant-0123456789abcdef"
CHAT = '[{"role": "system", "content": "be brief"}, {"role": "user", "content": "say one"}]'
TEXT = {"type": "text", "text": "one"}


@pytest.fixture
def ask(monkeypatch):
    """Asks a server that behaves so one question; gives the answer and the server."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    opened = []

    def answer(behave, kind="lm-eval:anthropic-chat", *, temperature=0.7, until=("\n\n",), **options):
        server = StandInServer(behave)
        opened.append(server.end)
        spec = EngineSpec("small", options={"kind": kind, "base_url": server.url, **options})
        opened.append((engine := open_engine(spec, gpus=0)).close)
        settings = {"until": list(until), "max_gen_toks": 4, "temperature": temperature, "do_sample": True}
        return engine.answer([Query(GENERATE, (CHAT, settings), 3)])[0], server

    yield answer
    for close in reversed(opened):
        close()


def message(*blocks, reason="end_turn", **beside):
    """A reply of the Messages API."""
    usage = {
        "input_tokens": 7,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 5,
        "output_tokens": 3,
    }
    said = {"type": "message", "role": "assistant", "model": "claude-x-1", "content": list(blocks)}
    return reply(
        {"id": "msg_1", **said, "stop_reason": reason, "stop_sequence": None, "usage": usage, **beside}
    )


def test_anthropic_is_asked_in_its_own_form(ask):
    """The system's words apart, no seed, no stop of white space alone, the key in its own header."""
    answer, server = ask(lambda *_: message(TEXT), header={"anthropic-beta": "b"}, extra_body={"top_k": 5})
    (body,) = server.bodies
    assert body == {
        "model": "small",
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "say one"}]}],
        "max_tokens": 4,
        "temperature": 0.7,
        "stop_sequences": [],
        "top_k": 5,
    }
    sent = {name.lower(): value for name, value in server.headers.items()}
    assert (sent["x-api-key"], sent["anthropic-beta"]) == (KEY, "b")
    assert sent["anthropic-version"]
    assert (answer.response, answer.finish_reason, answer.served_model) == ("one", "end_turn", "claude-x-1")
    assert (answer.prompt_tokens, answer.cached_tokens, answer.output_tokens) == (14, 5, 3)


@pytest.mark.parametrize(
    ("blocks", "reason", "text", "kept"),
    [
        ([{"type": "thinking", "thinking": "hm"}, TEXT, TEXT], "stop_sequence", "oneone", "stop_sequence"),
        ([TEXT], "max_tokens", "one", "length"),
        ([TEXT], "model_context_window_exceeded", "one", "length"),
        ([{"type": "thinking", "thinking": "hm"}], "max_tokens", "", "length"),
        ([], "end_turn", "", "end_turn"),
    ],
)
def test_what_anthropic_calls_an_answer(ask, blocks, reason, text, kept):
    """Thoughts are no part of it, and it may be empty."""
    answer, _ = ask(lambda *_: message(*blocks, reason=reason))
    assert (answer.response, answer.finish_reason, answer.error) == (text, kept, None)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (message(TEXT, reason="refusal"), "AnswerWithheldError.*refusal"),
        (message(TEXT, reason="pause_turn"), "AnswerWithheldError"),
        (message({"type": "tool_use", "name": "f", "input": {}}, reason="tool_use"), "tool"),
        (message({"type": "server_tool_use"}), "server_tool_use"),
        (message({"type": "text", "text": None}), "expected str"),
        (message({"text": "one"}), "type"),
        (message(TEXT, content="one"), "blocks"),
        (message(TEXT, role="user"), "assistant"),
        (reply([TEXT]), "blocks"),
        (completion({"messages": [{"content": "say one"}], "temperature": 0, "seed": 0}), "blocks"),
        (reply({"type": "error", "error": {"type": "invalid_request_error"}}, 400), "invalid_request"),
    ],
)
def test_what_is_no_answer_of_anthropic(ask, made, words):
    """It is a row with an error."""
    answer, _ = ask(lambda *_: made)
    assert answer.response is None
    assert re.search(words, answer.error)


def test_anthropic_overloaded_is_asked_again(ask):
    """Its 529 is one of the statuses that pass; access denied is none."""
    busy = reply({"type": "error", "error": {"type": "overloaded_error"}}, 529)
    answer, server = ask(lambda number, _: busy if number < 3 else message(TEXT))
    assert (answer.response, len(server.bodies)) == ("one", 3)
    with pytest.raises(EngineOptionError, match="HTTP 401"):
        ask(lambda *_: reply({"type": "error", "error": {"message": f"bad {KEY}"}}, 401))


def test_googles_endpoint_takes_no_field_that_it_does_not_know(ask, monkeypatch):
    """Its compatible endpoint refuses `seed`, with a list; left out, the request is answered."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    unknown = [{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}]

    def behave(_, body):
        return reply(unknown, 400) if "seed" in body else completion(body | {"seed": None}, "one")

    google = {"kind": "lm-eval:local-chat-completions", "header": {"Authorization": "Bearer $GEMINI_API_KEY"}}
    refused, _ = ask(behave, **google)
    assert 'Unknown name "seed"' in refused.error.replace("\\", "")
    extra = {"seed": "omit", "reasoning_effort": "none"}
    answer, server = ask(behave, **google, extra_body=extra)
    assert (answer.response, server.bodies[0]["reasoning_effort"]) == ("one", "none")
    assert server.headers["Authorization"] == f"Bearer {KEY}"


def test_a_temperature_that_is_left_out_is_that_of_servers(ask):
    """Which is 1: rows at another one would say what was not asked."""
    chat = {"kind": "lm-eval:local-chat-completions", "extra_body": {"temperature": "omit"}}
    answer, server = ask(lambda _, body: completion(body, "one"), **chat, temperature=1.0)
    assert (answer.response, "temperature" in server.bodies[0]) == ("one", False)
    with pytest.raises(EngineOptionError, match=r"sampling.temperatures: \[1\]"):
        ask(lambda _, body: completion(body, "one"), **chat)


def test_what_a_server_tells_of_itself_is_kept(ask):
    """Model, fingerprint and provider, cached and thought tokens, the seconds; not its key."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "one"}}
    beside = {"model": f"m {KEY}", "system_fingerprint": "fp_1", "provider": "P", "usage": usage}
    header = {"Authorization": f"Bearer {KEY}"}
    kind = "lm-eval:local-chat-completions"
    answer, _ = ask(lambda *_: reply({"choices": [choice], **beside}), kind, header=header)
    assert [getattr(answer, name) for name in SERVED_BY] == ["m …", "fp_1", "P"]
    assert (answer.cached_tokens, answer.reasoning_tokens) == (8, 2)
    assert 0 < answer.seconds < 60
    odd = {"model": [1], "system_fingerprint": None, "usage": {"prompt_tokens_details": 3}}
    silent, _ = ask(lambda *_: reply({"choices": [choice], **odd}), kind)
    assert {getattr(silent, name) for name in SERVED_BY} == {None}
    assert silent.cached_tokens is None


def test_rows_have_what_servers_tell():
    """Of a sample of two requests the sums, and the last one's words; nothing where nothing was told."""
    block = Block("v", "t", "cell", (item := Item(0, "d", "p"),), (rerun := Rerun(0.0),))
    first = Answer("a", cached_tokens=1, reasoning_tokens=2, provider="P")
    second = Answer("b", cached_tokens=3, provider="Q")
    told, silent = (
        samples_table(block, [Sample(item, rerun, answers, "[]")], sample_schema()).to_pylist()[0]
        for answers in ((first, second), (Answer("a"),))
    )
    names = ("cached_tokens", "reasoning_tokens", "provider", "served_model")
    assert [told[name] for name in names] == [4, 2, "Q", None]
    assert {silent[name] for name in names} == {None}
