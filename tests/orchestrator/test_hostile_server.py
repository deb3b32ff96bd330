"""Nothing that a server says becomes a false score, a lost block, a leak or an endless wait."""

import base64
import html
import json
import math
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pytest
from standin import hostile, hostile_replies
from standin.files import GENERATE, questions, write_task
from standin.server import StandInServer, completion, likelihoods, open_engine, reply
from standin.words import word_tokenizer

from orchestrator.config.schema import PromptConfig, SamplingConfig
from orchestrator.engines.base import GENERATE as TEXT
from orchestrator.engines.base import LOGLIKELIHOOD, Answer, EngineOptionError, EngineSpec, Query
from orchestrator.engines.reply import striker
from orchestrator.rundir.identity import Rerun
from orchestrator.rundir.schema import sample_schema
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import TaskLibrary, TaskSpec, items_of
from orchestrator.workers.answer_block import answer_block, samples_table

pytestmark = pytest.mark.ray

COLUMNS = sample_schema(("exact_match,number", "exact_match,whole"), ("number", "whole"))
ITEMS = len(hostile.MISBEHAVIOURS)
WITHHELD = "AnswerWithheldError: "
COMPLETIONS, CHAT = "lm-eval:local-completions", "lm-eval:local-chat-completions"


def misbehave(_, body):
    """Item n meets the n-th misbehaviour; the question of another request is answered."""
    prompt = body["messages"][0]["content"] if "messages" in body else body["prompt"]
    number = int(prompt.split()[-1])
    return list(hostile.MISBEHAVIOURS.values())[number][0](body)


def in_chat(engine):
    """An engine whose prompts become conversations."""

    def answer(queries):
        chats = [json.dumps([{"role": "user", "content": query.arguments[0]}]) for query in queries]
        asked = [replace(q, arguments=(chat, q.arguments[1])) for q, chat in zip(queries, chats, strict=True)]
        return engine.answer(asked)

    return SimpleNamespace(answer=answer)


@pytest.fixture(scope="module", params=["completions", "chat"])
def rows(request, tmp_path_factory):
    """The rows of a block of which each item meets another misbehaviour, by the name of that.

    The key is in a header whose name tells so, or not.
    """
    kind, name, asking = {
        "completions": (COMPLETIONS, "Authorization", lambda engine: engine),
        "chat": (CHAT, "X-Custom", in_chat),
    }[request.param]
    folder = tmp_path_factory.mktemp("hostile")
    write_task(folder / "pack", "t", questions(ITEMS), **GENERATE)
    library = TaskLibrary((str(folder / "pack"),))
    task = library.open(TaskSpec(task="t", include_path=library.include_path))
    built = task.build(PromptConfig(), None, "plain")
    block = Block("v", "t", "c", tuple(items_of(built)), (Rerun(0.0),))
    server = StandInServer(misbehave)
    options = {"base_url": server.url, "tokenizer_backend": "None", "max_reply_mib": 2, "patience": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTILE_KEY", hostile.KEY)
        header = {name: "Bearer $HOSTILE_KEY"}
        spec = EngineSpec("small", options={"kind": kind, "header": header, **options})
        engine = open_engine(spec, gpus=0)
    try:
        samples = answer_block(block, task.score_each, built, asking(engine), SamplingConfig())
    finally:
        engine.close()
        server.end()
    return dict(zip(hostile.MISBEHAVIOURS, samples_table(block, samples, COLUMNS).to_pylist(), strict=True))


def test_there_are_many_misbehaviours():
    """At least 25, each a function of its own."""
    assert ITEMS >= 25


@pytest.mark.parametrize("name", hostile.MISBEHAVIOURS)
def test_a_misbehaviour_costs_at_most_its_own_sample(rows, name):
    """What is no answer is an error and has no score; what was withheld is an error of its own kind."""
    row, outcome = rows[name], hostile.MISBEHAVIOURS[name][1]
    found = "answered" if row["error"] is None else "failed"
    if (row["error"] or "").startswith(WITHHELD):
        found = "withheld"
    assert (found, row["error"]) == (outcome, row["error"])
    assert (row["scores"] is None) == (row["error"] is not None)


@pytest.mark.parametrize("name", [name for name in hostile.MISBEHAVIOURS if name.startswith("counts_")])
def test_counts_that_are_none_are_null(rows, name):
    """A token count is a number that the column holds, or unknown."""
    assert (rows[name]["prompt_tokens"], rows[name]["output_tokens"]) == (None, None)


def test_the_key_is_in_no_row(rows):
    """Neither as it is nor encoded for a URL, in base64 at any offset, or in hexadecimal."""
    text = str(list(rows.values()))
    forms = [hostile.KEY, "sk-Hostile", hostile.KEY.encode().hex(), "sk-Hostile%2B"]
    forms += [base64.b64encode(b"\0" * n + hostile.KEY.encode()).decode()[4:-4] for n in range(3)]
    assert [form for form in forms if form in text] == []
    assert rows["echoes_the_key"]["response"] == "the key is …!"
    assert rows["echoes_the_key_as_a_reason"]["error"].endswith(f"finish_reason key:{'.' * 40}…")


SECRET = 'Zq9+kq/x= "L\\d&<é😀wR'
WRITTEN = {
    "as it is": lambda key: key,
    "url": quote,
    "url, all of it": lambda key: quote(key, safe=""),
    "form": quote_plus,
    "json": lambda key: json.dumps(key)[1:-1],
    "json in json": lambda key: json.dumps(json.dumps(key))[3:-3],
    "php": lambda key: json.dumps(key)[1:-1].replace("/", r"\/"),
    "dotnet": lambda key: json.dumps(key)[1:-1].replace("+", r"\u002B").replace("&", r"\u0026"),
    "html": html.escape,
    "html numbers": lambda key: "".join(f"&#{ord(character)};" for character in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode().rstrip("="),
    "hexadecimal": lambda key: key.encode().hex().upper(),
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
def test_a_key_is_struck_out_however_it_is_written(write):
    """Each of its characters may be escaped in any way."""
    said = striker([SECRET])(f"the key is {write(SECRET)}!")
    assert said.startswith("the key is …")
    assert len(said) <= len("the key is …") + 2  # base64 shares its last character with what follows


def test_striking_out_takes_linear_time():
    """Also of a text that seems to begin a key again and again."""
    for text in ("\\" * 10**6, "Z" + "\\" * 10**6, "Z\\" * 10**6):
        assert striker([SECRET])(text) == text


@pytest.fixture
def tokenizer(tmp_path):
    """The folder of a tokenizer that knows some words."""
    word_tokenizer().save_pretrained(tmp_path)
    return str(tmp_path)


HOSTILE_WAYS = {
    "text": (COMPLETIONS, lambda mark: Query(TEXT, (mark, {"until": [], "temperature": 0}))),
    "chat": (
        CHAT,
        lambda mark: Query(TEXT, (json.dumps([{"role": "user", "content": mark}]), {"until": []})),
    ),
    "likelihood": (COMPLETIONS, lambda mark: Query(LOGLIKELIHOOD, (f"{mark} one", " two three"))),
}


def good_reply(body):
    """A right answer in the form that a request asks for, with the little that good providers add to it."""
    content = json.loads(completion(body | {"temperature": 0}, "right")[2])
    content["choices"][0] |= {"content_filter_results": hostile_replies.PASS, "finish_reason": "stop"}
    return content


def answers_to_hostile_replies(way, folder):
    """What an engine makes of every hostile reply, each to a request of its own."""
    kind, query = HOSTILE_WAYS[way]
    marks = {f"w{number}": number for number in range(len(hostile_replies.CHANGES))}
    word_tokenizer([*marks, "one", "two", "three"]).save_pretrained(folder)

    def behave(_, body):
        if "messages" in body:
            number = marks.get(body["messages"][0]["content"])
        else:
            number = body["prompt"][0][0] if body.get("echo") else marks.get(body["prompt"])
        is_hostile = number is not None and number < len(marks)
        return hostile_replies.hostile(number, good_reply(body)) if is_hostile else reply(good_reply(body))

    server = StandInServer(behave)
    options = {"base_url": server.url, "num_concurrent": 64, "patience": 0.2, "tokenizer_backend": "None"}
    if way == "likelihood":
        options |= {"tokenizer": str(folder), "tokenizer_backend": "huggingface"}
    engine = open_engine(EngineSpec("small", options={"kind": kind, **options}), gpus=0)
    try:
        (right,) = engine.answer([query("none")])
        return right, engine.answer([query(mark) for mark in marks])
    finally:
        engine.close()
        server.end()


@pytest.mark.parametrize("way", HOSTILE_WAYS)
def test_no_hostile_reply_is_an_answer(way, tmp_path):
    """Of more than 300 replies to text, chat and log-likelihoods, those that spoil an answer are errors."""
    right, answers = answers_to_hostile_replies(way, tmp_path)
    assert right.error is None
    assert len(answers) >= 300
    taken = [
        change
        for change, answer in zip(hostile_replies.CHANGES, answers, strict=True)
        if answer.response is not None and (way in change[0] or answer.response != right.response)
    ]
    assert taken == []
    assert all(answer.error for answer in answers if answer.response is None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 5.0, True, "-1", 10**400], ids=str)
def test_a_likelihood_that_is_none_is_an_error(tokenizer, value):
    """NaN, infinite, positive or no number: for one token it is an error, though the sum may look sound."""

    def behave(_, body):
        tokens = body["prompt"][0]
        logprobs = likelihoods(tokens)
        logprobs["token_logprobs"][-2] = value
        return reply({"choices": [{"index": 0, "text": "", "logprobs": logprobs}]})

    server = StandInServer(behave)
    options = {"base_url": server.url, "tokenizer": tokenizer, "tokenizer_backend": "huggingface"}
    spec = EngineSpec("small", options={"kind": COMPLETIONS, **options})
    engine = open_engine(spec, gpus=0)
    try:
        (answer,) = engine.answer([Query(LOGLIKELIHOOD, ("one two", " three one"))])
    finally:
        engine.close()
        server.end()
    assert (answer.response, answer.error is None) == (None, False)


def test_a_reply_that_trickles_ends_with_the_timeout(monkeypatch):
    """A byte now and then does not keep a request alive."""
    calls = []

    def send_or_trickle(handler, status, headers, data):
        calls.append(None)
        if len(calls) == 1:
            hostile.trickle(handler, data, server._ended)
        else:
            send(handler, status, headers, data)

    send = StandInServer._send
    monkeypatch.setattr(StandInServer, "_send", staticmethod(send_or_trickle))
    server = StandInServer()
    options = {"base_url": server.url, "tokenizer_backend": "None", "timeout": 1}
    engine = open_engine(EngineSpec("small", options={"kind": COMPLETIONS, **options}), gpus=0)
    try:
        (answer,) = engine.answer([Query("generate_until", ("one", {"until": [], "temperature": 0}))])
    finally:
        engine.close()
        server.end()
    assert (answer.error, len(calls)) == (None, 2)


def test_scores_beyond_measure_are_errors(tmp_path):
    """A task's own code may return anything; what no sum can hold is an error of that sample alone."""
    name = write_task(tmp_path / "pack", "t", questions(2), **GENERATE)
    library = TaskLibrary((str(tmp_path / "pack"),))
    task = library.open(TaskSpec(task=name, include_path=library.include_path))
    built = task.build(PromptConfig(), None, "plain")
    block = Block("v", name, "c", tuple(items_of(built)), (Rerun(0.0),))
    engine = SimpleNamespace(answer=lambda queries: [Answer("0") for _ in queries])
    scores = iter([math.inf, 1.0])
    task._task.process_results = lambda doc, kept: {"exact_match": next(scores)}
    task._task.config.filter_list = task._task.config.filter_list[:1]
    task._task._filters = task._task._filters[:1]
    first, second = answer_block(block, task.score_each, built, engine, SamplingConfig())
    assert (first.error, second.error) == ("scoring: exact_match,number is inf", None)


@pytest.mark.parametrize("words", ["1", None])
def test_a_replica_that_gets_only_refused_prompts_is_not_refused_itself(words):
    """After a restart they may be all that is left: a prompt of one word shows whether the server answers."""

    def behave(number, body):
        return completion(body) if body["prompt"] == words else hostile.refuses_the_prompt(body)

    server = StandInServer(behave)
    options = {"base_url": server.url, "tokenizer_backend": "None"}
    engine = open_engine(EngineSpec("small", options={"kind": COMPLETIONS, **options}), gpus=0)
    queries = [Query(TEXT, (f"bad {n}", {"until": [], "temperature": 0})) for n in range(20)]
    try:
        if words is None:
            with pytest.raises(EngineOptionError):
                engine.answer(queries)
        else:
            assert {answer.error.partition(":")[0] for answer in engine.answer(queries)} == {
                "RequestRefusedError"
            }
    finally:
        engine.close()
        server.end()
