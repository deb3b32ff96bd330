"""Recorded conversations with tools: how they are read and asked, and what replies with calls are worth."""

import json
from types import SimpleNamespace

import pytest
from standin.server import StandInServer, open_engine, reply
from standin.tool_replies import CASES, COUNTED, GOOD, MESSAGES, NOT_IN_PARTS, X, call, calling

from orchestrator.config.schema import PromptConfig, SamplingConfig, TaskConfig
from orchestrator.engines import kind_of
from orchestrator.engines.base import Answer, EngineSpec
from orchestrator.errors import UserError
from orchestrator.rundir.identity import Rerun
from orchestrator.rundir.schema import sample_schema
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.prompts import ChatMessages
from orchestrator.sweep.tasks import TaskError, TaskLibrary, TaskSpec, items_of
from orchestrator.tool_calls import METRICS, calls_in_text, calls_of, conversation, for_anthropic, scores
from orchestrator.workers.answer_block import answer_block, items_table, samples_table

CHAT, CONVERSATIONS = ChatMessages(), PromptConfig(apply_chat_template=True)
TOOL = {"type": "function", "function": {"name": "act", "parameters": X}}
ASKED = {"messages": [{"role": "user", "content": "Act on 1."}], "tools": [TOOL]}
COLUMNS = sample_schema([f"{name},none" for name in METRICS], ["none"])


def tool(schema):
    """A tool with parameters, or with none."""
    return {
        "type": "function",
        "function": {"name": "act", **({} if schema is None else {"parameters": schema})},
    }


def open_task(folder, rows, name="calls", **spec):
    """The task of a file with these rows."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    library = TaskLibrary((str(folder),))
    return library.open(TaskSpec(task=name, include_path=library.include_path, **spec))


def answered(task, engine, template=CHAT, prompt=CONVERSATIONS):
    """The rows of all items, asked once at temperature 0."""
    built = task.build(prompt, template, template.name)
    block = Block("v", task.spec.task, "c", tuple(items_of(built)), (Rerun(0.0),))
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig(), prompt=prompt)
    return samples_table(block, samples, COLUMNS).to_pylist()


# a server of hostile replies ---------------------------------------------------------------------------


def whole(message, reason="tool_calls"):
    """A reply with a message."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return reply({"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage})


def in_parts(message, reason="tool_calls"):
    """The same as the events of a stream, in which texts come by five characters."""
    deltas = [{"role": "assistant", "content": ""}]
    for name in ("content", "reasoning_content"):
        text = message.get(name) or ""
        deltas += [{name: text[at : at + 5]} for at in range(0, len(text), 5)]
    for index, one in enumerate(message.get("tool_calls") or []):
        function = one.get("function", {})
        deltas.append({"tool_calls": [{**one, "index": index, "function": {**function, "arguments": ""}}]})
        text = function.get("arguments") or ""
        parts = [
            text[at : at + max(5, len(text) // 50)] for at in range(0, len(text), max(5, len(text) // 50))
        ]
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in parts]
    if older := message.get("function_call"):
        deltas += [{"function_call": {**older, "arguments": older["arguments"][:5]}}]
        deltas += [{"function_call": {"arguments": older["arguments"][5:]}}]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks += [{"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}]
    chunks += [{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}]
    lines = [json.dumps({"object": "chat.completion.chunk", "model": "m", **chunk}) for chunk in chunks]
    text = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
    return reply(f": comment\n\n{text}".encode(), Content_Type="text/event-stream")


def in_blocks(message, reason="tool_calls"):
    """The same in Anthropic's form, in which arguments are a value; an error for what cannot be said."""
    blocks = [
        {"type": kind, kind: message[name]}
        for name, kind in (("reasoning_content", "thinking"), ("content", "text"))
        if message.get(name)
    ]
    for one in calls_of(message):
        value = one["function"]["arguments"]
        value = json.loads(value) if isinstance(value, str) else value
        json.dumps(value, allow_nan=False)
        if value is None or "function_call" in message:
            raise KeyError("a text of calls that is none")
        name = one["function"].get("name")
        blocks.append({"type": "tool_use", "id": "toolu_1", "name": name, "input": value})
    said = {"type": "message", "role": "assistant", "model": "m", "content": blocks}
    reason = "tool_use" if calls_of(message) else "end_turn"
    return reply({**said, "stop_reason": reason, "usage": {"input_tokens": 7, "output_tokens": 3}})


def sayable(message):
    """Whether Anthropic's form has room for it."""
    try:
        return in_blocks(message) is not None
    except (LookupError, TypeError, ValueError, RecursionError):
        return False


def replies(cases, **options):
    """The rows of conversations whose replies are given as messages, by name; of a loopback server."""
    names, anthropic = list(cases), "anthropic" in options.get("kind", "")
    said = in_blocks if anthropic else in_parts if options.get("stream") else whole

    def behave(_, body):
        assert bool(body.get("stream")) == bool(options.get("stream"))
        assert [one.get("function", one)["name"] for one in body["tools"]] == ["act"]
        asked = body["messages"][-1]["content"]
        message = cases[names[int(asked[0]["text"] if anthropic else asked)]][1]
        return said(message, "tool_calls" if calls_of(message) else "stop")

    server = StandInServer(behave)
    kind = "lm-eval:local-chat-completions"
    options = {"kind": kind, "base_url": server.url, "tokenizer_backend": "None", "patience": 1, **options}
    return server, open_engine(EngineSpec("small", options=options), gpus=0)


@pytest.fixture(scope="module", params=["whole", "in parts", "in blocks"])
def rows(request, tmp_path_factory):
    """The rows of all hostile replies, by name, with the names of those that were sent."""
    options, cases = {}, CASES
    if request.param == "in parts":
        options = {"stream": True}
        cases = {name: case for name, case in CASES.items() if name not in NOT_IN_PARTS}
    elif request.param == "in blocks":
        options = {"kind": "lm-eval:anthropic-chat", "header": {"x-api-key": "none-of-ours"}}
        cases = {name: case for name, case in CASES.items() if sayable(case[1])}
        assert len(cases) > 120
    asked = [
        {"messages": [{"role": "user", "content": str(number)}], "tools": [tool(schema)]}
        for number, (schema, _, _) in enumerate(cases.values())
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_API_KEY", "none-of-ours")
        server, engine = replies(cases, **options)
    try:
        found = answered(open_task(tmp_path_factory.mktemp("calls") / "pack", asked), engine)
    finally:
        engine.close()
        server.end()
    return dict(zip(cases, found, strict=True))


@pytest.mark.ray
def test_every_reply_is_worth_what_was_counted_by_hand(rows):
    """Valid and not valid in every way that JSON Schema allows, and broken in most that servers know."""
    found = {name: (row["error"], row["scores"]) for name, row in rows.items()}
    worth = {
        name: (
            None,
            dict(zip(("call_made", "call_parsed", "call_valid"), map(float, CASES[name][2]), strict=True)),
        )
        for name in rows
    }
    short = {
        name: (error, scores and {k: scores[f"{k},none"] for k in ("call_made", "call_parsed", "call_valid")})
        for name, (error, scores) in found.items()
    }
    assert short == worth


@pytest.mark.ray
def test_sums_are_those_counted_by_hand(rows):
    """Of all 144 replies; a stream and Anthropic's form cannot say all of them."""
    left_out = [CASES[name][2] for name in CASES.keys() - rows.keys()]
    for place, (metric, counted) in enumerate(COUNTED.items()):
        total = sum(row["scores"][f"{metric},none"] for row in rows.values())
        assert total == counted - sum(worth[place] for worth in left_out), metric


@pytest.mark.ray
def test_a_reply_that_is_only_a_call_is_no_empty_answer(rows):
    """The row keeps what was called, the text, and the server's counts."""
    row = rows["a call and a text"]
    kept = json.loads(row["response"])
    assert (kept["content"], kept["tool_calls"][0]["function"]) == ("I call.", GOOD["function"])
    assert json.loads(rows["a call"]["filtered"]["none"])[0]["function"] == GOOD["function"]
    assert (row["finish_reason"], row["prompt_tokens"], row["output_tokens"]) == ("stop", 7, 3)
    assert (rows["a text"]["response"], rows["only thoughts"]["response"]) == ("No.", "")


BROKEN_STREAMS = {
    "nothing": (b"", "RequestRefusedError"),
    "no end": (b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n', "RequestRefusedError"),
    "half an event": (b'data: {"choices": [{"index": 0, "del', "RequestRefusedError"),
    "no object": (b"data: 1\n\ndata: [DONE]\n\n", "RequestRefusedError"),
    "no choice": (b"data: [DONE]\n\n", "RequestRefusedError"),
    "two choices": (
        b'data: {"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1, "delta": {}}]}\n\n',
        "RequestRefusedError",
    ),
    "a call that is a text": (
        b'data: {"choices": [{"index": 0, "delta": {"tool_calls": ["act"]}}]}\n\ndata: [DONE]\n\n',
        "RequestRefusedError",
    ),
    "an error in the middle": (
        b'data: {"choices": [{"index": 0}]}\n\ndata: {"error": {"message": "busy"}}\n\ndata: [DONE]\n\n',
        "RequestRefusedError",
    ),
    "a filter at the end": (
        b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}\n\n',
        "AnswerWithheldError",
    ),
}  # fmt: skip


@pytest.mark.ray
@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_a_broken_stream_is_no_answer(tmp_path, name):
    """It costs its own sample: a stream that ends early is no short answer."""
    events, error = BROKEN_STREAMS[name]

    def behave(_, body):
        return in_parts(MESSAGES["a call"][0]) if body["messages"][0]["content"] == "good" else reply(events)

    server = StandInServer(behave)
    options = {"kind": "lm-eval:local-chat-completions", "base_url": server.url, "tokenizer_backend": "None"}
    engine = open_engine(EngineSpec("m", options={**options, "patience": 0.5, "stream": True}), gpus=0)
    asked = [{**ASKED, "messages": [{"role": "user", "content": text}]} for text in ("good", "bad")]
    try:
        task = open_task(tmp_path / "pack", asked)
        good = answered(open_task(tmp_path / "pack", asked[:1], "good"), engine)
        _, bad = answered(task, engine)
    finally:
        engine.close()
        server.end()
    assert (good[0]["error"], bad["error"].partition(":")[0]) == (None, error)


# what is asked -----------------------------------------------------------------------------------------


def test_a_server_is_asked_what_was_recorded(tmp_path):
    """Messages, tools and tool_choice, without a change, and no few-shot examples or system message."""
    recorded = {**ASKED, "tool_choice": "auto"}
    recorded["messages"] = [
        {"role": "user", "content": "Act."},
        calling(GOOD),
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]
    task = open_task(tmp_path / "pack", [recorded])
    built = task.build(PromptConfig(apply_chat_template=True, system_instruction="Be."), CHAT, CHAT.name)
    context, settings = built[0][0].args
    assert json.loads(context) == recorded["messages"]
    assert (settings["tools"], settings["tool_choice"]) == (recorded["tools"], "auto")


def test_a_chat_template_gets_tools_and_calls_as_objects(tmp_path):
    """For engines without a server the template writes the tools, and takes arguments as an object."""
    messages = [{"role": "user", "content": "Act."}, calling(GOOD), {"role": "tool", "content": "done"}]
    task = open_task(tmp_path / "pack", [{**ASKED, "messages": messages}])
    shown = []

    def template(chat, tools):
        shown.append((chat, tools))
        return "text"

    (request,) = task.build(CONVERSATIONS, template, "digest")[0]
    ((chat, tools),) = shown
    assert (request.args[0], "tools" in request.args[1], tools) == ("text", False, [TOOL])
    assert chat[1]["tool_calls"][0]["function"] == {"name": "act", "arguments": {"x": 1}}
    assert chat[1]["content"] == ""


def test_an_engine_without_a_server_is_scored_by_its_text(tmp_path):
    """The same call is worth the same, in whichever form the model writes it."""
    texts = {
        'I will. <tool_call>\n{"name": "act", "arguments": {"x": 1}}\n</tool_call>': (1, 1, 1),
        '<tool_call>{"name": "act", "arguments": {"x": "1"}}</tool_call>': (1, 1, 0),
        '<tool_call>{"name": "act", "arguments": {"x": 1}': (1, 0, 0),
        '[TOOL_CALLS][{"name": "act", "arguments": {"x": 1}}]': (1, 1, 1),
        '<|python_tag|>{"name": "act", "parameters": {"x": 1}}': (1, 1, 1),
        '{"name": "act", "parameters": {"x": 1}}': (1, 1, 1),
        "<|python_tag|>act(x=1)": (1, 0, 0),
        '{"x": 1}': (0, 1, 1),
        "No.": (0, 1, 1),
    }
    said = iter(texts)
    engine = SimpleNamespace(answer=lambda queries: [Answer(next(said), "stop") for _ in queries])
    task = open_task(tmp_path / "pack", [ASKED] * len(texts))
    built = task.build(CONVERSATIONS, lambda chat, tools: "text", "digest")
    block = Block("v", "calls", "c", tuple(items_of(built)), (Rerun(0.0),))
    samples = answer_block(block, task.score_each, built, engine, SamplingConfig())
    metrics = ("call_made,none", "call_parsed,none", "call_valid,none")
    assert [tuple(map(one.scored.scores.get, metrics)) for one in samples] == list(texts.values())


def test_anthropic_is_asked_in_its_own_form():
    """Tools with their schemas, calls and results as blocks, the system's words apart."""
    messages = [
        {"role": "system", "content": "Be."}, {"role": "user", "content": "Act."},
        calling(GOOD, content="I call."), {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]  # fmt: skip
    choices = {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}}
    asked = [for_anthropic(messages, {"tools": [TOOL, tool(None)], "tool_choice": one}) for one in choices]
    assert [one["tool_choice"] for one in asked] == list(choices.values())
    assert asked[0]["tools"] == [{"name": "act", "input_schema": s} for s in (X, {"type": "object"})]
    assert asked[0]["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Act."}]},
        {"role": "assistant", "content": [
            {"type": "text", "text": "I call."},
            {"type": "tool_use", "id": "call_1", "name": "act", "input": {"x": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "done"},
        ]},
    ]  # fmt: skip
    named = for_anthropic(messages[1:2], {"tools": [TOOL], "tool_choice": {"function": {"name": "act"}}})
    assert named["tool_choice"] == {"type": "tool", "name": "act"}
    with pytest.raises(ValueError, match="earlier call"):
        for_anthropic([messages[1], calling(call("{"))], {"tools": [TOOL]})


@pytest.mark.ray
def test_thoughts_are_cut_from_texts_and_not_from_replies(tmp_path):
    """A reply of a server is an object, of which no part is thoughts."""
    prompt = PromptConfig(apply_chat_template=True, think_end_token="</think>")
    message = calling(call({"x": 1}), content="hm</think>")
    server, engine = replies({"a": (X, message, None)})
    asked = {**ASKED, "messages": [{"role": "user", "content": "0"}]}
    try:
        (row,) = answered(open_task(tmp_path / "pack", [asked]), engine, prompt=prompt)
    finally:
        engine.close()
        server.end()
    assert row["scores"]["call_correct,none"] == 1.0


# references --------------------------------------------------------------------------------------------

TWO = [call({"x": 1}), call({"x": 2}, name="stop")]
BESIDE = {  # reference, calls; correct, trigger, function, arguments
    "the same": (calling(GOOD), [GOOD], (1, 1, 1, 1)),
    "another argument": (calling(GOOD), [call({"x": 2})], (1, 1, 1, 0)),
    "1 and 1.0": (calling(GOOD), [call('{"x": 1.0}')], (1, 1, 1, 1)),
    "1 and true": (calling(GOOD), [call({"x": True})], (0, 1, 1, 0)),
    "keys in another order": (
        calling(call({"x": 1, "y": [1, 2]})), [call('{"y": [1, 2], "x": 1}')], (1, 1, 1, 1),
    ),
    "a list in another order": (
        calling(call({"x": 1, "y": [1, 2]})), [call({"x": 1, "y": [2, 1]})], (1, 1, 1, 0),
    ),
    "another function": (calling(GOOD), [call({"x": 1}, name="stop")], (0, 1, 0, 0)),
    "calls in another order": (calling(*TWO), TWO[::-1], (1, 1, 1, 1)),
    "one call of two": (calling(*TWO), TWO[:1], (0, 1, 0, 0)),
    "one call twice": (calling(GOOD), [GOOD, GOOD], (0, 1, 0, 0)),
    "no call": (calling(GOOD), [], (0, 0, 0, 0)),
    "a call too many": ({"role": "assistant", "content": "No."}, [GOOD], (0, 0, 0, 0)),
    "neither calls": ({"role": "assistant", "content": "No."}, [], (1, 1, 1, 1)),
    "cannot be read": (calling(GOOD), [call('{"x": 1')], (0, 1, 0, 0)),
    "a list of calls": ([GOOD], [GOOD], (1, 1, 1, 1)),
    "only whether": (True, [GOOD], (1, 1, None, None)),
    "only whether, and none": (True, [], (0, 0, None, None)),
    "only that none": (False, [], (1, 1, None, None)),
    "none at all": (None, [GOOD], (1, None, None, None)),
    "none at all, and no call": (None, [], (0, None, None, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_a_call_beside_that_of_the_reference(name):
    """By hand: whether it was to be made, is of the same functions, and has the same arguments."""
    reference, calls, worth = BESIDE[name]
    other = {"type": "function", "function": {"name": "stop", "parameters": X}}
    doc = conversation({**ASKED, "tools": [TOOL, other], "reference": reference})
    found = scores(doc, calls)
    assert tuple(map(found.get, ("call_correct", "call_trigger", "call_function", "call_arguments"))) == worth


# files -------------------------------------------------------------------------------------------------


def test_results_of_the_verifiers_are_conversations_with_a_reference():
    """The answer of the official endpoint; a request that failed teaches nothing."""
    request = {**ASKED, "model": "k2", "temperature": 0.6}
    request["messages"] = [{"role": "_input", "content": "Be."}, *ASKED["messages"]]
    response = {"choices": [{"finish_reason": "tool_calls", "message": calling(GOOD)}]}
    row = {"data_index": 1, "request": request, "response": response, "status": "success", "hash": "ab"}
    found = conversation(row)
    assert (found["messages"][0]["role"], found["reference"]) == ("system", [GOOD])
    assert set(found) == {"messages", "tools", "reference"}
    assert conversation({**row, "response": {"error": "503"}, "status": "failed"}) is None
    assert conversation({**ASKED, "expected_tool_call": False})["reference"] is False


BROKEN_ROWS = {
    "no messages": ({"tools": [TOOL]}, "it lacks messages"),
    "empty messages": ({**ASKED, "messages": []}, "it lacks messages"),
    "a message without a role": ({**ASKED, "messages": [{"content": "a"}]}, "it lacks messages"),
    "a tool without a name": ({**ASKED, "tools": [{"function": {}}]}, "a function that has a name"),
    "tools that are a text": ({**ASKED, "tools": "act"}, "a function that has a name"),
    "two tools of one name": ({**ASKED, "tools": [TOOL, TOOL]}, "the same name"),
    "no schema": ({**ASKED, "tools": [tool({"type": "text"})]}, "act has no valid JSON schema"),
    "a schema that is a number": ({**ASKED, "tools": [tool(3)]}, "act has no valid JSON schema: 3 is not"),
    "a schema that leads nowhere": (
        {**ASKED, "tools": [tool({"$ref": "#/$defs/x"})]},
        "nothing is at /$defs/x",
    ),
    "a list": ([], "it is not a JSON object"),
    "a request that is a text": ({"request": "Act."}, "its request is none"),
    "a reference that is a number": ({**ASKED, "reference": 3}, "its reference is neither"),
    "a reference without arguments": (
        {**ASKED, "reference": [{"function": {"name": "act"}}]},
        "no name",
    ),
    "a reference to no tool": ({**ASKED, "reference": [call({}, name="axt")]}, "of no tool offered"),
    "half a character": ({**ASKED, "messages": [{"role": "user", "content": "\ud800"}]}, "surrogates"),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_line_that_is_no_conversation_is_named(tmp_path, name):
    """With its number and what is wrong."""
    row, why = BROKEN_ROWS[name]
    task = open_task(tmp_path / "pack", [ASKED, row])
    with pytest.raises(UserError, match=r"line 2 of .*calls\.jsonl") as error:
        task.build(CONVERSATIONS, CHAT, CHAT.name)
    assert why in str(error.value)


def test_conversations_need_a_chat_template(tmp_path):
    """Else there would be no tools in the prompt."""
    with pytest.raises(UserError, match="apply_chat_template"):
        open_task(tmp_path / "pack", [ASKED]).build(PromptConfig(), None, "plain")
    with pytest.raises(TaskError, match="zero-shot"):
        open_task(tmp_path / "pack", [ASKED], num_fewshot=3)


@pytest.mark.ray
def test_nothing_is_fetched_for_a_schema(tmp_path):
    """By a schema that refers to another address nothing is valid."""
    server = StandInServer()
    schema = {"$ref": server.url}
    doc = conversation({**ASKED, "tools": [tool(schema)]})
    try:
        assert (scores(doc, [GOOD])["call_valid"], server.bodies) == (0.0, [])
    finally:
        server.end()


def test_items_keep_their_numbers_and_clusters(tmp_path):
    """By line, from 0, also where `limit` chooses some."""
    rows = [{**ASKED, "session": "a", "id": "one"}, {**ASKED, "session": "b"}, {**ASKED, "session": "a"}]
    task = open_task(tmp_path / "pack", rows, cluster="session", limit=2)
    built = task.build(CONVERSATIONS, CHAT, CHAT.name)
    table = items_table(task, built).to_pylist()
    assert len(table) == 2
    assert [row["cluster"] for row in table] == [rows[row["item"]]["session"] for row in table]
    assert TaskLibrary((str(tmp_path / "pack"),)).leaves(TaskConfig(task="calls"))[0].task == "calls"
    assert task.scores.deciding_metric == "call_correct,none"


@pytest.mark.parametrize(("options", "why"), [({"stream": "yes"}, "true or false"), ({"stream": True}, None)])
def test_stream_is_true_or_false(options, why):
    """An option of served models."""
    kind = {"kind": "lm-eval:local-chat-completions", "base_url": "http://127.0.0.1:1/v1/chat/completions"}
    problems = list(kind_of(EngineSpec("m", options={**kind, **options})).problems())
    assert bool(problems) == bool(why)
    assert all(why in problem for problem in problems)
    assert list(kind_of(EngineSpec("m", options={"kind": "lm-eval:hf", "stream": True})).problems())


def test_several_calls_are_read_from_one_text():
    """Llama's and Mistral's lists, Hermes's blocks."""
    one = {"name": "act", "arguments": {"x": 1}}
    assert calls_in_text(json.dumps([one, one])) == [one, one]
    assert calls_in_text(f"<tool_call>{json.dumps(one)}</tool_call><tool_call>{{</tool_call>") == [one, None]
