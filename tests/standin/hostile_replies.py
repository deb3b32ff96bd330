"""Replies that are no answers, as data: each is a change of a good reply, for every kind of request."""

import copy
import json

from standin.server import reply

MISSING = object()
"""In place of a value: the key is not there."""
PASS = {"hate": {"filtered": False, "severity": "safe"}}
BLOCK = {"hate": {"filtered": True, "severity": "high"}}

REASONS = """
content_filter CONTENT_FILTER content-filter contentFilter content_filtered content_policy SAFETY safety
RECITATION PROHIBITED_CONTENT BLOCKLIST SPII IMAGE_SAFETY LANGUAGE OTHER MALFORMED_FUNCTION_CALL
UNEXPECTED_TOOL_CALL FINISH_REASON_UNSPECIFIED refusal REFUSAL refused sensitive guardrail_intervened
guardrails blocked moderation flagged cancelled canceled timeout timed_out insufficient_system_resource
network_error connection_error disconnected ABORT abort aborted error ERROR ERROR_TOXIC internal_error
server_error model_error overloaded busy rate_limit quota_exceeded insufficient_quota failed failure
incomplete in_progress queued pause_turn expired unknown undefined none null preempted evicted oom
tool_calls function_call tool_use stopp stop,content_filter length_exceeded_context
""".split()  # noqa: SIM905 - a list would be a page long
ODD = ["", " ", " stop", "stop ", {}, {"type": "stop"}, [], ["stop"], 0, 1, 3.5, True, False]

SHAPES = [
    *({}, [], [[]], [["1"]], [{}], "1", 3, None, True),
    *({"code": 50001, "msg": "busy"}, {"code": 0, "data": None}, {"status": "error"}, {"status": 500}),
    *(
        {"detail": "Not authenticated"},
        {"detail": [{"msg": "field required"}]},
        {"message": "no healthy upstream"},
    ),
    *(
        {"message": {"content": "1"}},
        {"message": {"role": "assistant", "content": "1"}},
        {"msg": "1"},
        {"ok": True},
    ),
    *(
        {"errors": ["busy"]},
        {"errors": [{"code": 7003}], "success": False, "result": None},
        {"fault": "quota"},
    ),
    *([{"error": "upstream"}], [{"error": {"code": 502}}], {"error": "upstream"}, {"error": {"code": 502}}),
    *(
        {"error": ["x"]},
        {"error": True},
        {"error": 1},
        {"error_code": 17, "error_msg": "limit"},
        {"success": False},
    ),
    *(
        {"type": "error", "error": {"type": "overloaded_error"}},
        {"object": "error", "message": "x", "code": 400},
    ),
    *(
        {"type": "message", "content": [{"type": "text", "text": "1"}], "stop_reason": "end_turn"},
        {"Message": "1"},
    ),
    *(
        {"candidates": [{"content": {"parts": [{"text": "1"}]}, "finishReason": "SAFETY"}]},
        {"candidates": []},
    ),
    *(
        {"promptFeedback": {"blockReason": "SAFETY"}},
        {"response": "1", "done": True},
        {"generated_text": "1"},
    ),
    *(
        [{"generated_text": "1"}],
        {"text": "1"},
        {"text": ["1"]},
        {"output": {"text": "1"}},
        {"output_text": "1"},
    ),
    *(
        {"outputs": ["1"]},
        {"result": "1"},
        {"results": [{"text": "1"}]},
        {"data": {"choices": []}},
        {"answer": "1"},
    ),
    *(
        {"completion": "1"},
        {"content": "1"},
        {"usage": {"prompt_tokens": 1}},
        {"id": "x", "object": "text_completion"},
    ),
    *(
        {"base_resp": {"status_code": 1002}, "choices": None},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
    ),
    *(
        {"choices": "1"},
        {"choices": 1},
        {"choices": True},
        {"choices": [None]},
        {"choices": ["1"]},
        {"choices": [1]},
    ),
    *(
        {"choices": [[]]},
        {"choices": [[{"index": 0}]]},
        {"choices": [{}]},
        {"choices": [{"index": 0}]},
        {"Choices": []},
    ),
    *(
        {"choices": {"0": {"index": 0}}},
        {"choices": [{"index": 0, "delta": {"content": "1"}}]},
        {"job_id": "7"},
    ),
]
"""What gateways and other protocols reply in place of a completion."""

AROUND = [
    *(
        lambda good: [good],
        lambda good: [good, good],
        lambda good: {"data": good},
        lambda good: {"choices": [good]},
    ),
    *(
        lambda good: good["choices"],
        lambda good: good["choices"][0],
        lambda good: {"choices": [good["choices"]]},
    ),
    *(
        lambda good: good | {"choices": good["choices"] * 2},
        lambda good: good | {"choices": good["choices"][0]},
    ),
    *(
        lambda good: b'{"error": {"code": 502}, ' + json.dumps(good)[1:-1].encode() + b', "error": null}',
        lambda good: b'{"choices": [], ' + json.dumps(good)[1:].encode(),
        lambda good: (
            json.dumps(good).replace('"index"', '"finish_reason": "content_filter", "index"').encode()
        ),
    ),
]
"""Good replies with something around them, or without what should be."""

CHOICE = {
    "index": [MISSING, None, 1, 7, -1, "0", 0.0, False, True, [], {}, [0]],
    "error": ["x", {"code": 502}, {"message": "upstream failed"}, ["x"], 1, True],
    "content_filter_results": [
        BLOCK,
        {"x": {"filtered": 1}},
        {"filtered": True},
        [{"filtered": True}],
        {"flagged": True},
    ],
    "content_filter_result": [BLOCK, {"filtered": "true"}, {**PASS, "violence": {"filtered": True}}],
    "content_filter_offsets": [{"deep": [{"deeper": {"blocked": True}}]}],
    "contentFilterResults": [BLOCK, {"Hate": {"Filtered": True}}, {"hate": {"isBlocked": 1}}],
    "moderation_hit_type": ["violence", "severe_violation"],
    "content_filter": [True],
    "filtered": [True, 1, "yes"],
    "blocked": [True, ["hate"]],
    "errors": [["x"], {"code": 1}],
    "safetyRatings": [[{"category": "HARM", "blocked": True}]],
    "moderation": [{"flagged": True}],
    "finish_reason": [*REASONS, *ODD],
    "native_finish_reason": [*REASONS, *ODD],
}
TOP = {
    "error": ["x", {"code": 1}, ["x"], 1, True],
    "errors": [["x"], {"code": 1}, "x"],
    "object": ["error", "chat.completion.chunk", "text_completion.chunk"],
    "prompt_filter_results": [[{"prompt_index": 0, "content_filter_results": BLOCK}]],
    "promptFeedback": [{"blockReason": "SAFETY"}],
    "input_sensitive": [True],
    "output_sensitive": [True, 1],
    "amazon-bedrock-guardrailAction": ["INTERVENED"],
    "flagged": [True],
    "success": [False],
    "choices": [None, [], {}, "1"],
}
TEXT = [MISSING, None, 0, 42, 1.5, True, False, [], ["1"], {}, {"text": "1"}, [{"type": "text", "text": "1"}]]
MESSAGE = {
    "content": TEXT,
    "refusal": ["I cannot help with that.", " ", ["no"], {"reason": "policy"}, True],
    "error": ["x", {"code": 1}],
    "errors": [["x"]],
    "content_filter_results": [BLOCK],
    "safety_ratings": [[{"blocked": True}]],
    "role": ["user", "system", "tool", "", 1, [], {}],
    "tool_calls": [[{"id": "1", "type": "function"}], {"name": "f"}, "f"],
    "function_call": [{"name": "f", "arguments": "{}"}],
}
WHOLE_MESSAGE = [
    MISSING,
    None,
    "1",
    "",
    1,
    True,
    [],
    ["1"],
    [{"content": "1"}],
    {},
    {"role": "assistant"},
    {"text": "1"},
]
NO_LIKELIHOOD = [
    MISSING,
    None,
    "-1",
    True,
    float("nan"),
    float("inf"),
    float("-inf"),
    0.5,
    7,
    10**400,
    [],
    [-1.0],
    {},
]
NO_LIKELIHOODS = [
    MISSING,
    None,
    [],
    {},
    "x",
    1,
    [None],
    [-1.0],
    [None, -1.0, -1.0],
    [None, -1.0, -1.0, -1.0, -1.0, -1.0],
]
NO_ALTERNATIVES = [
    *(
        None,
        {},
        [],
        "x",
        0,
        True,
        [-0.1],
        {"a": None},
        {"a": "-1"},
        {"a": True},
        {"a": float("nan")},
        {"a": []},
    ),
    *(
        {"a": float("inf")},
        {"a": float("-inf")},
        {"a": 0.9},
        {"a": 5.0},
        {"a": -1e6},
        {"a": -1e6, "b": -2e6},
        {"a": 10**400},
        {"a": {}},
    ),
]


def changes():
    """Every change as (kinds of request that it spoils, path, value)."""
    everything, choice = ("text", "chat", "likelihood"), ("choices", 0)
    yield from ((everything, (), shape) for shape in (*SHAPES, *AROUND))
    yield from ((everything, (key,), value) for key, values in TOP.items() for value in values)
    yield from ((everything, (*choice, key), value) for key, values in CHOICE.items() for value in values)
    yield from ((("text",), (*choice, "text"), value) for value in TEXT)
    yield from ((("chat",), (*choice, "message"), value) for value in WHOLE_MESSAGE)
    for key, values in MESSAGE.items():
        yield from ((("chat",), (*choice, "message", key), value) for value in values)
    likelihood, logprobs = ("likelihood",), (*choice, "logprobs")
    yield from ((likelihood, logprobs, value) for value in (MISSING, None, {}, [], "x", 1))
    for column in ("token_logprobs", "top_logprobs"):
        yield from ((likelihood, (*logprobs, column), value) for value in NO_LIKELIHOODS)
    yield from ((likelihood, (*logprobs, "token_logprobs", -2), value) for value in NO_LIKELIHOOD)
    yield from ((likelihood, (*logprobs, "top_logprobs", -2), value) for value in NO_ALTERNATIVES)
    for other in ({}, {"index": 0}, {"index": 1}, {"index": 1, "finish_reason": "content_filter"}, None, "1"):
        yield everything, ("choices", 1), other
        yield everything, ("choices", -1), other


CHANGES = list(changes())


def hostile(number, good):
    """The reply of a number, made of a good one; as it is where the change has no place in it."""
    _, path, value = CHANGES[number]
    if not path:
        return reply(value(good) if callable(value) else value)
    whole = copy.deepcopy(good)
    *way, last = path
    place = whole
    for step in way:
        place = place.get(step) if isinstance(place, dict) else place[step]
        if place is None:
            return reply(good)
    if last in {1, -1}:
        place.insert(max(last, 0), value)
    elif value is MISSING:
        del place[last]
    else:
        place[last] = value
    return reply(json.dumps(whole).encode())
