"""A served model as an engine: what it is asked, how answers are read, what becomes of those that fail."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from lm_eval.api.instance import Instance
from standin.server import PAUSE, StandInServer, completion, likelihoods, open_engine, reply
from standin.words import word_tokenizer

from orchestrator.config.load import load_config
from orchestrator.engines import kind_of
from orchestrator.engines.base import (
    GENERATE,
    LOGLIKELIHOOD,
    ROLLING,
    TOKENS,
    EngineAwayError,
    EngineOptionError,
    EngineSpec,
    Query,
)
from orchestrator.engines.served_engine import MOST_REFUSALS

pytestmark = pytest.mark.ray

COMPLETIONS, CHAT = "lm-eval:local-completions", "lm-eval:local-chat-completions"
KEY = "sk-0123456789abcdef"
SEED = 1234  # lm-eval's own


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer that knows eleven words."""
    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def serve():
    """Starts servers that behave so; all end with the test."""
    servers = []

    def start(behave=lambda _, body: completion(body)):
        servers.append(StandInServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


def problems(options):
    """What is wrong with engine options."""
    return list(kind_of(EngineSpec("m", options=options)).problems())


@pytest.fixture
def open_served():
    """Opens engines on servers; all are closed with the test."""
    engines = []

    def start(server, kind=COMPLETIONS, **options):
        options = {"kind": kind, "base_url": server.url, "tokenizer_backend": "None", **options}
        engines.append(open_engine(EngineSpec("small", options=options), gpus=0))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def asked(text, seed=0, temperature=0.7, **settings):
    """A query for text."""
    settings = {"until": ["\n"], "max_gen_toks": 4, "temperature": temperature, "do_sample": True, **settings}
    return Query(GENERATE, (text, settings), seed)


def said(engine, *queries):
    """What an engine says."""
    return [answer.response for answer in engine.answer(queries)]


# what is asked -----------------------------------------------------------------------------------------


def test_answers_come_in_order_with_reason_and_tokens(serve, open_served):
    """The server's own finish_reason and usage are kept."""
    first, second = open_served(serve()).answer([asked("a one"), asked("a two", 5, 0.0)])
    assert (first.response, second.response) == ("one at 0.7 with 0", "two at 0.0 with 5")
    assert (first.finish_reason, first.prompt_tokens, first.output_tokens) == ("stop", 7, 3)


def test_two_seeds_in_flight_at_the_same_time_are_two(serve, open_served):
    """Each request carries its own seed, whatever else is on its way."""
    both = threading.Barrier(2)

    def behave(_, body):
        both.wait(20)
        return completion(body)

    engine = open_served(serve(behave))
    with ThreadPoolExecutor(2) as pool:  # two blocks
        texts = list(pool.map(lambda seed: said(engine, asked("one", seed)), (1, 2)))
    assert texts == [["one at 0.7 with 1"], ["one at 0.7 with 2"]]


def test_blocks_and_seeds_share_the_requests_at_a_time(serve, open_served):
    """num_concurrent bounds them all together, and is made use of."""
    full = threading.Barrier(4)

    def behave(_, body):
        full.wait(20)
        return completion(body)

    server = serve(behave)
    engine = open_served(server, num_concurrent=4)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda block: said(engine, *(asked(f"{block}", s) for s in range(8))), (1, 2)))
    assert (server.most, len(server.bodies)) == (4, 16)
    assert engine.target_in_flight == 8


def bodies_of_lm_eval(server, tokenizer, kind, argument_lists, **options):
    """What lm-eval's own class asks."""
    from lm_eval.api.registry import get_model

    lm = get_model("local-completions")(
        model="small", base_url=server.url, tokenizer=tokenizer, tokenizer_backend="huggingface", **options
    )
    answers = getattr(lm, kind)(
        [
            Instance(kind, {}, arguments, index, metadata=("", index, 1))
            for index, arguments in enumerate(argument_lists)
        ]
    )
    return sorted(server.bodies, key=str), answers


REQUESTS = {
    "text": (
        GENERATE,
        [("one two", {"until": ["x"], "max_gen_toks": 3, "temperature": 0, "do_sample": False})],
    ),
    "long text": (
        GENERATE,
        [("one two three " * 9, {"until": ["x"], "max_gen_toks": 3, "temperature": 0.5})],
    ),
    "choices": (LOGLIKELIHOOD, [("one two", " four"), ("one two", " three eight"), ("one ", "two")]),
    "no context": (LOGLIKELIHOOD, [("", "four six")]),
    "long context": (LOGLIKELIHOOD, [("one two three " * 9, " four")]),
    "whole texts": (ROLLING, [("two three",), ("one two three four " * 12,)]),
}


@pytest.mark.parametrize(("kind", "arguments"), REQUESTS.values(), ids=REQUESTS.keys())
def test_requests_and_answers_are_lm_evals(serve, open_served, tokenizer, kind, arguments):
    """Every body is the one that lm-eval's class sends, and the answers are read the same."""
    options = {"max_length": 20}
    ours, theirs = serve(), serve()
    engine = open_served(ours, tokenizer=tokenizer, tokenizer_backend="huggingface", **options)
    responses = said(engine, *(Query(kind, each, SEED) for each in arguments))
    bodies, expected = bodies_of_lm_eval(theirs, tokenizer, kind, arguments, **options)
    assert sorted(ours.bodies, key=str) == bodies
    assert responses == expected


def test_a_chat_server_gets_messages(serve, open_served):
    """The prompt, messages as JSON, goes out as messages."""
    server = serve()
    (text,) = said(open_served(server, CHAT), asked('[{"role": "user", "content": "say one"}]', 3))
    assert text == "one at 0.7 with 3"
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "say one"}]


def test_the_key_of_the_environment_is_sent(serve, open_served, monkeypatch):
    """OPENAI_API_KEY goes into the usual header."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    said(open_served(server), asked("one"))
    assert server.headers["Authorization"] == f"Bearer {KEY}"


def test_a_header_takes_its_key_from_the_environment(serve, open_served, monkeypatch):
    """Two providers with two keys: the file names the variables."""
    monkeypatch.setenv("OTHER_KEY", KEY)
    server = serve()
    said(open_served(server, header={"api-key": "${OTHER_KEY}", "X-Title": "us"}), asked("one"))
    assert (server.headers["api-key"], server.headers["X-Title"]) == (KEY, "us")


# what fails --------------------------------------------------------------------------------------------


def test_a_refused_request_is_a_row_and_the_others_are_unharmed(serve, open_served):
    """HTTP 400 is the fault of one prompt."""
    too_long = reply({"error": {"message": "too long"}}, 400)
    engine = open_served(serve(lambda _, body: too_long if "bad" in body["prompt"] else completion(body)))
    good, bad, other = engine.answer([asked("one"), asked("bad"), asked("two")])
    assert (good.error, other.error) == (None, None)
    assert bad.response is None
    assert bad.error.startswith("RequestRefusedError: HTTP 400: ")
    assert "too long" in bad.error


def test_a_server_that_refuses_everything_refuses_the_way_it_is_asked(serve, open_served):
    """No run full of rows with the same error."""
    engine = open_served(serve(lambda *_: reply(b"no parameter seed", 400)))
    with pytest.raises(
        EngineOptionError, match=r"cannot answer generate_until requests: .*no parameter seed"
    ):
        engine.answer([asked(str(n)) for n in range(20)])


@pytest.mark.parametrize(
    "change",
    [
        lambda logprobs: {},
        lambda logprobs: None,
        lambda logprobs: {name: values[-1:] for name, values in logprobs.items()},
        lambda logprobs: {name: values[:-1] for name, values in logprobs.items()},
    ],
    ids=["empty", "none", "of the answer alone", "of the prompt alone"],
)
def test_likelihoods_that_are_not_of_the_prompt_are_errors(serve, open_served, tokenizer, change):
    """Lm-eval would add up whatever is there: to nought, for a server that does not echo."""

    def behave(_, body):
        return reply({"choices": [{"index": 0, "logprobs": change(likelihoods(body["prompt"][0]))}]})

    engine = open_served(serve(behave), tokenizer=tokenizer, tokenizer_backend="huggingface")
    (answer,) = engine.answer([Query(LOGLIKELIHOOD, ("one two", " three"))])
    assert answer.response is None
    assert answer.error is not None


@pytest.mark.parametrize(
    "choice",
    [{"index": 0}, {"index": 0, "message": {"content": [1]}}, {"index": 7, "message": {"content": ""}}],
)
def test_an_answer_without_text_is_an_error(serve, open_served, choice):
    """It is a row with an error, never an empty answer that scores naught."""
    (answer,) = open_served(serve(lambda *_: reply({"choices": [choice]})), CHAT).answer([asked("[{}]")])
    assert answer.response is None
    assert answer.error is not None


def test_a_model_may_say_nothing(serve, open_served):
    """An empty text is an answer; so is none where the model only thought, or in SGLang's way to say it."""
    for choice in (
        {"message": {"content": None, "reasoning_content": "hm"}, "finish_reason": "length"},
        {"message": {"content": ""}, "finish_reason": "length"},
        {"message": {"role": "assistant"}, "finish_reason": "length"},
        {"message": {"content": None, "reasoning": ""}, "finish_reason": "stop"},
        {"message": {"content": None, "tool_calls": None}, "finish_reason": "stop", "matched_stop": 2},
    ):
        engine = open_served(serve(lambda *_, said=choice: reply({"choices": [{"index": 0, **said}]})), CHAT)
        (answer,) = engine.answer([asked("[{}]")])
        assert (answer.response, answer.finish_reason, answer.error) == ("", choice["finish_reason"], None)


def test_what_a_filter_lets_pass_is_an_answer(serve, open_served):
    """All that providers say of their filters beside a good answer."""
    beside = {
        "content_filter_results": {"hate": {"filtered": False}, "error": {"code": "content_filter_error"}},
        "moderation": {"flagged": 0, "blocked": []},
        "moderation_hit_type": None,
        "logprobs": {"content": None, "tokens": {"blocked": -0.1}},
    }
    around = {"input_sensitive": False, "amazon-bedrock-guardrailAction": "NONE", "success": True}
    text = '{"blocked": true, "error": "x"}'
    choice = {"index": 0, "text": text, "finish_reason": "stop", **beside}
    (answer,) = open_served(serve(lambda *_: reply({"choices": [choice], **around}))).answer([asked("one")])
    assert (answer.response, answer.error) == (text, None)


def test_no_text_without_an_end_is_no_answer(serve, open_served):
    """As of a gateway whose model was not awake yet."""
    choice = {"index": 0, "text": "", "finish_reason": None}
    (answer,) = open_served(serve(lambda *_: reply({"choices": [choice]}))).answer([asked("one")])
    assert "no text" in answer.error


def test_strange_counts_are_left_out(serve, open_served):
    """The columns hold numbers."""
    odd = {"choices": [{"index": 0, "text": "x"}], "usage": {"prompt_tokens": "many"}}
    (answer,) = open_served(serve(lambda *_: reply(odd))).answer([asked("one")])
    assert (answer.response, answer.finish_reason, answer.prompt_tokens) == ("x", None, None)


@pytest.mark.parametrize("name", ["content", "reasoning_content", "arguments"])
def test_the_first_token_of_a_streamed_answer_is_timed(serve, open_served, name):
    """The first with a text, a thought or a call, after an event that has only the role."""
    call = {"tool_calls": [{"index": 0, "function": {"name": "", name: "{"}}]}
    first = call if name == "arguments" else {name: "a"}
    deltas = [{"role": "assistant", "content": ""}, first, {"content": "b"}]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]

    def behave(_, body):
        return reply((*lines, b"data: [DONE]\n\n")) if body.get("stream") else completion(body)

    tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    query = asked('[{"role": "user", "content": "say one"}]')
    server = serve(behave)
    streamed, whole = (
        open_served(server, CHAT, stream=stream, extra_body=tools).answer([query])[0]
        for stream in (True, False)
    )
    assert streamed.error is None
    assert 0.9 * PAUSE <= streamed.first_token_seconds <= streamed.seconds - 0.5 * PAUSE
    assert whole.seconds > 0
    assert whole.first_token_seconds is None


@pytest.mark.parametrize(
    ("reason", "kept"),
    [("stop", "stop"), ("STOP", "stop"), ("MAX_TOKENS", "length"), ("end_turn", "end_turn"), (None, None)],
)
def test_the_end_of_an_answer_has_many_names(serve, open_served, reason, kept):
    """They are kept in lower case, that of the limit of tokens as "length"."""
    choice = {"index": 0, "text": "x", "finish_reason": reason}
    (answer,) = open_served(serve(lambda *_: reply({"choices": [choice]}))).answer([asked("one")])
    assert (answer.response, answer.finish_reason) == ("x", kept)


def test_a_tool_may_be_called_where_one_was_offered(serve, open_served):
    """The answer then has no text; where none was offered, the call is no answer."""
    call = {"index": 0, "message": {"content": None, "tool_calls": [{}]}, "finish_reason": "tool_calls"}
    engine = open_served(serve(lambda *_: reply({"choices": [call]})), CHAT)
    offered, not_offered = engine.answer([asked("[{}]", tools=[{}]), asked("[{}]")])
    assert (offered.response, offered.error) == ('{"tool_calls": [{}], "content": ""}', None)
    assert not_offered.response is None


def test_a_server_that_does_not_come_back_is_away(serve, open_served):
    """What it has answered until then is not lost, in whichever call it was asked."""
    answered = set()

    def behave(_, body):
        if body["prompt"] in {"two", *answered}:
            return reply({}, 503)
        answered.add(body["prompt"])
        return completion(body)

    engine = open_served(serve(behave), patience=0.3)
    with ThreadPoolExecutor(2) as pool:
        blocks = [[asked("one"), asked("two")], [asked("two"), asked("three")]]
        failures = [call.exception() for call in [pool.submit(engine.answer, block) for block in blocks]]
    assert {type(failure) for failure in failures} == {EngineAwayError}
    assert "does not answer" in str(failures[0])
    texts = [[answer and answer.response for answer in failure.answers] for failure in failures]
    assert texts == [["one at 0.7 with 0", None], [None, "three at 0.7 with 0"]]


def test_an_engine_that_was_refused_is_refused_for_all(serve, open_served):
    """The sentence is the server's, whichever request met it first."""
    with pytest.raises(EngineOptionError, match=r"HTTP 404: .*no model small"):
        open_served(serve(lambda *_: reply(b"no model small", 404))).answer([asked("one"), asked("two")])


# what cannot be asked ----------------------------------------------------------------------------------


def test_a_missing_variable_is_named(serve, open_served):
    """Before anything is sent."""
    with pytest.raises(EngineOptionError, match="variable NO_SUCH_KEY"):
        open_served(serve(), header={"api-key": "$NO_SUCH_KEY"})


def test_a_class_that_wants_a_key_says_so(serve, open_served, monkeypatch):
    """OpenAI's own classes insist on one."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EngineOptionError, match="OPENAI_API_KEY"):
        open_served(serve(), "lm-eval:openai-chat-completions")


def test_a_class_that_changes_the_temperature_is_refused(serve, open_served, monkeypatch):
    """Lm-eval sends 1 to models whose names have a 5 in them; the rows would say what was not asked."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    engine = open_engine(
        EngineSpec("gpt-5", options={"kind": "lm-eval:openai-chat-completions", "base_url": serve().url}),
        gpus=0,
    )
    with pytest.raises(EngineOptionError, match="temperature 1"):
        engine.answer([asked('[{"role": "user", "content": "one"}]', temperature=0.0)])
    engine.close()


def test_answers_longer_than_the_context_are_refused(serve, open_served, tokenizer):
    """Lm-eval would cut the prompt at the wrong end."""
    engine = open_served(serve(), tokenizer=tokenizer, tokenizer_backend="huggingface", max_length=32)
    with pytest.raises(EngineOptionError, match=r"32 tokens leave no room .* engine.max_length 32"):
        engine.answer([asked("one", max_gen_toks=32)])


@pytest.mark.parametrize(("kind", "words"), [(CHAT, "no log-likelihoods"), (COMPLETIONS, "engine.tokenizer")])
def test_likelihoods_need_a_tokenizer_and_no_chat(serve, open_served, kind, words):
    """The sentence says which."""
    with pytest.raises(EngineOptionError, match=words):
        open_served(serve(), kind).answer([Query(LOGLIKELIHOOD, ("one", " two"))])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs base_url"),
        ({"base_url": "localhost:8000/v1"}, "http://"),
        ({"base_url": "http://h", "header": "api-key: x"}, "header must be a mapping"),
        ({"base_url": "http://h", "num_concurrent": 0}, "num_concurrent must be a whole number from 1"),
        ({"base_url": "http://h", "num_concurrent": 1.5}, "num_concurrent must be a whole number from 1"),
        ({"base_url": "http://h", "timeout": 0.5}, "timeout must be a number from 1"),
        ({"base_url": "http://h", "timeout": float("inf")}, "timeout must be a number from 1 to 86,400"),
        ({"base_url": "http://h", "timeout": float("nan")}, "timeout must be a number from 1 to 86,400"),
        ({"base_url": "http://h", "patience": 1e300}, "patience must be a number above 0 and at most"),
        ({"base_url": "http://h", "max_reply_mib": 0}, "max_reply_mib must be a number above 0"),
        ({"base_url": "http://h", "patience": "long"}, "patience must be a number above 0"),
        ({"kind": CHAT, "base_url": "http://h", "extra_body": ["seed"]}, "extra_body must be a mapping"),
        (
            {"kind": CHAT, "base_url": "http://h", "extra_body": {"seed": 1}},
            "seed comes from the section sampling",
        ),
        (
            {"kind": CHAT, "base_url": "http://h", "extra_body": {"model": "omit"}},
            "model comes from the sweep",
        ),
        ({"base_url": "http://h", "extrabody": {}}, "no option 'extrabody' (did you mean 'extra_body'?)"),
        ({"base_url": "http://h", "max_lenght": 9}, "no option 'max_lenght' (did you mean 'max_length'?)"),
        ({"base_url": "http://h", "kind": f"{COMPLETIONS}x"}, "no model class 'local-completionsx' (did you"),
        ({"kind": "lm-eval:hf", "extra_body": {"x": 1}}, "only served models take extra_body"),
        ({"kind": "lm-eval:sglang-generate", "base_url": "http://h"}, "are not in OpenAI's format"),
    ],
)
def test_mistakes_are_named_before_anything_starts(options, words):
    """One sentence for each."""
    (problem,) = problems({"kind": COMPLETIONS, **options})
    assert words in problem


def test_a_right_server_has_no_problems():
    """Nor does one of a class that knows its own address."""
    assert problems({"kind": COMPLETIONS, "base_url": "https://h/v1", "timeout": 9}) == []
    assert problems({"kind": "lm-eval:openai-completions", "max_model_len": 8}) == []  # for vLLM beside it


def test_how_requests_are_sent_decides_no_answer():
    """A run may go on with other numbers, for a served model alone."""
    options = {"kind": COMPLETIONS, "base_url": "u", "num_concurrent": 3, "timeout": 5, "patience": 9}
    assert kind_of(EngineSpec("m", options=options)).deciding() == {"kind": COMPLETIONS, "base_url": "u"}
    others = {"kind": "vllm", "timeout": 5}
    assert kind_of(EngineSpec("m", options=others)).deciding() == others


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"header": {"Authorization": f"Bearer {KEY}"}}, "header.Authorization"),
        ({"header": {"x-api-key": KEY}}, "header.x-api-key"),
        ({"base_url": f"https://me:{KEY}@host/v1"}, "base_url"),
        ({"base_url": f"https://host/v1?api_key={KEY}"}, "base_url"),
        ({"api_key": KEY}, "api_key"),
    ],
)
def test_keys_in_the_file_are_refused(tmp_path, options, key):
    """They would be copied into the run; the sentence does not repeat them."""
    problems = problems_of(tmp_path, options)
    assert [f"'{key}' looks like a secret" in problem for problem in problems] == [True]
    assert KEY not in problems[0]


def test_headers_without_keys_are_fine(tmp_path):
    """So are names of variables, and addresses with ordinary parts."""
    options = {"header": {"Authorization": "Bearer $MINE", "X-Title": "us"}, "base_url": "https://h/v1?a=b@c"}
    assert problems_of(tmp_path, options) == []


def problems_of(folder, options):
    """Mistakes of a sweep whose only variant has these engine options."""
    path = folder / "sweep.yaml"
    engine = {"kind": COMPLETIONS, **options}
    sweep = {
        "name": "s",
        "baseline": "a",
        "model": "m",
        "variants": {"a": {"engine": engine}},
        "tasks": ["t"],
    }
    path.write_text(yaml.safe_dump(sweep))
    return load_config(path)[1]


def test_tokens_are_told_by_their_texts(serve, open_served, tokenizer):
    """An answer's own and the likeliest; what no single token is called, and what is not told, is unknown."""
    words = word_tokenizer()

    def behave(_, body):
        tokens = body["prompt"][0]
        tops = [{words.decode([token]): -0.5, "no word": -0.7} for token in tokens[1:]]
        told = {"token_logprobs": [None, *[-0.5] * len(tokens)], "top_logprobs": [None, *tops, {"one": -1.0}]}
        return reply({"choices": [{"index": 0, "text": "", "logprobs": told}]})

    server = serve(behave)
    options = {"tokenizer_backend": "huggingface", "tokenizer": tokenizer}
    (answer,) = open_served(server, **options).answer([Query(TOKENS, ("two three", "four five", 3))])
    tokens, values = answer.response
    assert (answer.error, tokens) == (None, [4, 4, -1, -1, 5, 5, -1, -1])
    assert [value for value in values if value == value] == [-0.5, -0.5, -0.7] * 2
    (body,) = server.bodies
    assert (body["prompt"], body["echo"], body["logprobs"]) == ([[2, 3, 4, 5]], True, 3)


def test_a_server_that_echoes_nothing_cannot_score(serve, open_served, tokenizer):
    """It says so in one sentence, and not once for every answer."""
    server = serve(lambda _, body: completion(body | {"echo": False, "prompt": "1"}))
    options = {"tokenizer_backend": "huggingface", "tokenizer": tokenizer}
    queries = [Query(TOKENS, ("two three", "four", 3))] * MOST_REFUSALS
    with pytest.raises(EngineOptionError, match=r"cannot answer tokens requests: .*no log-likelihoods"):
        open_served(server, **options).answer(queries)
