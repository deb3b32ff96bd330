"""Replies that call a tool, right and wrong in every way, each with what it is worth, counted by hand."""

import json

OBJECT = {"type": "object"}


def _x(schema):
    """Parameters with one argument, x, of a schema."""
    return {**OBJECT, "properties": {"x": schema}, "required": ["x"]}


TREE = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "leaf": {"type": "integer"}}}
TREE_OF = {**OBJECT, "$defs": {"tree": {**TREE, "additionalProperties": False}}, "$ref": "#/$defs/tree"}
COUNTRY = {
    "if": {"properties": {"country": {"const": "US"}}, "required": ["country"]},
    "then": {"properties": {"zip": {"pattern": "^[0-9]{5}$"}}},
    "else": {"properties": {"zip": {"pattern": "^[A-Z]"}}},
}
EXTENDED = {"allOf": [{"properties": {"a": True}}], "properties": {"b": True}, "unevaluatedProperties": False}
DYNAMIC = {
    "$id": "https://example.com/strict",
    "$dynamicAnchor": "node",
    "$ref": "node",
    "unevaluatedProperties": False,
    "$defs": {
        "node": {
            "$id": "node",
            "$dynamicAnchor": "node",
            "type": "object",
            "properties": {"value": True, "child": {"$dynamicRef": "#node"}},
        }
    },
}
KEYWORDS = {  # parameters of the tool, arguments that are valid, arguments that are not
    "type": (_x({"type": "string"}), {"x": "a"}, {"x": 1}),
    "types": (_x({"type": ["string", "null"]}), {"x": None}, {"x": []}),
    "object": (OBJECT, {}, []),
    "integer": (_x({"type": "integer"}), {"x": 1.0}, {"x": 1.5}),
    "number": (_x({"type": "number"}), {"x": -0.5}, {"x": True}),
    "boolean": (_x({"type": "boolean"}), {"x": False}, {"x": 0}),
    "null": (_x({"type": "null"}), {"x": None}, {"x": ""}),
    "enum": (_x({"enum": ["a", 1]}), {"x": 1}, {"x": True}),
    "const": (_x({"const": {"a": [1]}}), {"x": {"a": [1.0]}}, {"x": {"a": [1, 2]}}),
    "multipleOf": (_x({"multipleOf": 0.5}), {"x": 1.5}, {"x": 1.25}),
    "maximum": (_x({"maximum": 3}), {"x": 3}, {"x": 3.5}),
    "exclusiveMaximum": (_x({"exclusiveMaximum": 3}), {"x": 2.5}, {"x": 3}),
    "minimum": (_x({"minimum": 3}), {"x": 3}, {"x": 2}),
    "exclusiveMinimum": (_x({"exclusiveMinimum": 3}), {"x": 4}, {"x": 3}),
    "maxLength": (_x({"maxLength": 2}), {"x": "é😀"}, {"x": "abc"}),
    "minLength": (_x({"minLength": 2}), {"x": "ab"}, {"x": "😀"}),
    "pattern": (_x({"pattern": "^a+$"}), {"x": "aa"}, {"x": "ab"}),
    "maxItems": (_x({"maxItems": 1}), {"x": [1]}, {"x": [1, 2]}),
    "minItems": (_x({"minItems": 1}), {"x": [1]}, {"x": []}),
    "uniqueItems": (_x({"uniqueItems": True}), {"x": [1, True]}, {"x": [1, 1.0]}),
    "contains": (_x({"contains": {"const": 1}}), {"x": [0, 1]}, {"x": [0]}),
    "minContains": (_x({"contains": {"const": 1}, "minContains": 2}), {"x": [1, 0, 1]}, {"x": [1, 0]}),
    "maxContains": (_x({"contains": {"const": 1}, "maxContains": 1}), {"x": [1, 0]}, {"x": [1, 1]}),
    "prefixItems": (_x({"prefixItems": [{"type": "string"}]}), {"x": ["a", 1]}, {"x": [1]}),
    "items": (_x({"prefixItems": [True], "items": {"type": "string"}}), {"x": [1, "a"]}, {"x": ["a", 1]}),
    "maxProperties": ({**OBJECT, "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}),
    "minProperties": ({**OBJECT, "minProperties": 1}, {"a": 1}, {}),
    "required": ({**OBJECT, "required": ["a"]}, {"a": None}, {"b": 1}),
    "dependentRequired": ({**OBJECT, "dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}),
    "dependentSchemas": (
        {**OBJECT, "dependentSchemas": {"a": {"properties": {"b": {"type": "string"}}}}},
        {"a": 1, "b": "c"}, {"a": 1, "b": 2},
    ),
    "properties": (_x({"properties": {"y": {"type": "null"}}}), {"x": {}}, {"x": {"y": 0}}),
    "patternProperties": ({"patternProperties": {"^n": {"type": "number"}}}, {"n1": 2, "a": ""}, {"n1": "2"}),
    "additionalProperties": ({"properties": {"a": True}, "additionalProperties": False}, {"a": 1}, {"b": 1}),
    "additional schema": ({"additionalProperties": {"type": "string"}}, {"a": "b"}, {"a": 1}),
    "propertyNames": ({"propertyNames": {"maxLength": 2}}, {"ab": 1}, {"abc": 1}),
    "unevaluatedProperties": (EXTENDED, {"a": 1, "b": 2}, {"a": 1, "c": 2}),
    "unevaluatedItems": (
        _x({"prefixItems": [True], "contains": {"type": "string"}, "unevaluatedItems": False}),
        {"x": [0, "a"]}, {"x": [0, "a", 1]},
    ),
    "allOf": (_x({"allOf": [{"minimum": 1}, {"maximum": 3}]}), {"x": 2}, {"x": 4}),
    "anyOf": (_x({"anyOf": [{"type": "string"}, {"minimum": 3}]}), {"x": 3}, {"x": 2}),
    "oneOf": (_x({"oneOf": [{"type": "number"}, {"maximum": 3}]}), {"x": 4}, {"x": 2}),
    "not": (_x({"not": {"type": "string"}}), {"x": 1}, {"x": "1"}),
    "then": (COUNTRY, {"country": "US", "zip": "94110"}, {"country": "US", "zip": "SW1A"}),
    "else": (COUNTRY, {"country": "UK", "zip": "SW1A"}, {"country": "UK", "zip": "94110"}),
    "$ref": (TREE_OF, {"left": {"left": {"leaf": 1}}}, {"left": {"left": {"leaf": "1"}}}),
    "$anchor": (
        {**_x({"$ref": "#short"}), "$defs": {"s": {"$anchor": "short", "maxLength": 1}}},
        {"x": "a"}, {"x": "ab"},
    ),
    "$dynamicRef": (DYNAMIC, {"child": {"value": 1}}, {"child": {"valeu": 1}}),
    "boolean schema": (_x({"properties": {"y": False}}), {"x": {"z": 1}}, {"x": {"y": 1}}),
    "another draft": (
        {"$schema": "http://json-schema.org/draft-07/schema#", **_x({"items": [{"const": 1}]})},
        {"x": [1, 2]}, {"x": [2]},
    ),
    "no parameters": (None, {}, '"text"'),
}  # fmt: skip


def call(arguments, name="act"):
    """A call in OpenAI's form; arguments that are no text are written as JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": text}}


def calling(*calls, **more):
    """A message with calls."""
    return {"role": "assistant", "content": None, "tool_calls": [*calls], **more}


def _function(**function):
    return calling({"id": "call_1", "type": "function", "function": function})


X = _x({"type": "integer"})
GOOD = call({"x": 1})
MADE, PARSED, VALID, NOTHING = (1, 0, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)
"""What a reply is worth: whether it has a call, that can be read, and is valid."""
MESSAGES = {  # to the tool `act`, of which x is an integer
    "a call": (calling(GOOD), VALID),
    "a call and a text": (calling(GOOD, content="I call."), VALID),
    "two calls": (calling(GOOD, call({"x": 2})), VALID),
    "two calls, one wrong": (calling(GOOD, call({"x": "2"})), PARSED),
    "two calls, one broken": (calling(call('{"x": '), GOOD), MADE),
    "spaces around": (calling(call(' \n{"x": 1}\t ')), VALID),
    "an extra argument": (calling(call({"x": 1, "y": 2})), VALID),
    "a whole float": (calling(call('{"x": 1.0}')), VALID),
    "a large number": (calling(call('{"x": 123456789012345678901234567890}')), VALID),
    "beyond floats": (calling(call('{"x": 1e999}')), PARSED),
    "cut": (calling(call('{"x": 1')), MADE),
    "empty arguments": (calling(call("")), MADE),
    "single quotes": (calling(call("{'x': 1}")), MADE),
    "a trailing comma": (calling(call('{"x": 1,}')), MADE),
    "a comment": (calling(call('{"x": 1} // one')), MADE),
    "two objects": (calling(call('{"x": 1}{"x": 2}')), MADE),
    "fenced": (calling(call('```json\n{"x": 1}\n```')), MADE),
    "not a number": (calling(call('{"x": NaN}')), MADE),
    "infinite": (calling(call('{"x": -Infinity}')), MADE),
    "nested without end": (calling(call("[" * 100_000)), MADE),
    "more digits than Python reads": (calling(call('{"x": ' + "9" * 5000 + "}")), MADE),
    "encoded twice": (calling(call(json.dumps('{"x": 1}'))), PARSED),
    "a list": (calling(call([1])), PARSED),
    "null": (calling(call("null")), PARSED),
    "another name": (calling(call({"x": 1}, name="Act")), PARSED),
    "no such tool": (calling(call({"x": 1}, name="functions.act:0")), PARSED),
    "an empty name": (calling(call({"x": 1}, name="")), PARSED),
    "no name": (_function(arguments='{"x": 1}'), MADE),
    "a name that is null": (_function(name=None, arguments='{"x": 1}'), MADE),
    "a name that is a list": (_function(name=["act"], arguments='{"x": 1}'), MADE),
    "no arguments": (_function(name="act"), MADE),
    "arguments that are null": (_function(name="act", arguments=None), MADE),
    "arguments as an object": (_function(name="act", arguments={"x": 1}), VALID),
    "arguments as a number": (_function(name="act", arguments=1), PARSED),
    "no function": (calling({"id": "call_1", "type": "function"}), MADE),
    "a function that is a text": (calling({"function": "act"}), MADE),
    "a call that is a text": (calling('act({"x": 1})'), MADE),
    "a call that is null": (calling(None), MADE),
    "an object of calls": ({"role": "assistant", "content": "", "tool_calls": GOOD}, VALID),
    "a text of calls": ({"role": "assistant", "content": None, "tool_calls": "act"}, MADE),
    "the older form": ({"role": "assistant", "content": None, "function_call": GOOD["function"]}, VALID),
    "an empty list": ({"role": "assistant", "content": "No.", "tool_calls": []}, NOTHING),
    "a text": ({"role": "assistant", "content": "No."}, NOTHING),
    "only thoughts": ({"role": "assistant", "content": None, "reasoning_content": "act?"}, NOTHING),
    "a call in the text": (
        {"role": "assistant", "content": '<tool_call>{"name": "act", "arguments": {"x": 1}}</tool_call>'},
        NOTHING,
    ),
    "a text like a reply": (
        {"role": "assistant", "content": json.dumps({"tool_calls": [GOOD], "content": ""})},
        NOTHING,
    ),
}
NOT_IN_PARTS = {name for name in MESSAGES if name.startswith(("a call that", "an object", "a text of"))} | {
    "a function that is a text", "arguments as an object", "arguments as a number", "a name that is a list",
}  # fmt: skip
"""Messages that a stream cannot say."""

CASES = (
    {f"{name}, valid": (schema, calling(call(good)), VALID) for name, (schema, good, _) in KEYWORDS.items()}
    | {
        f"{name}, not valid": (schema, calling(call(bad)), PARSED)
        for name, (schema, _, bad) in KEYWORDS.items()
    }
    | {name: (X, message, worth) for name, (message, worth) in MESSAGES.items()}
)
COUNTED = {"call_made": 139, "call_parsed": 122, "call_valid": 64}
"""Of 144 replies, counted by hand: of 49 keywords a call that is valid and one that is not; of 46 messages 10
are valid calls, 9 more can be read, 22 cannot, and 5 have no call."""
