"""Calls of tools: recorded conversations, how a reply holds its calls, and what they are worth.

The scores are those of the vendors' verifiers (of Kimi K2 and of MiniMax), taken item by item, so that they
can be paired: whether a call was made, and was to be made; whether it can be read, and is valid by the JSON
schema of its tool (draft 2020-12, unless the schema says another); whether it is the call of the reference.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import jsonschema
import jsonschema_specifications
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

METRICS: dict[str, bool | None] = {
    "call_correct": True,
    "call_made": None,
    "call_parsed": True,
    "call_valid": True,
    "call_trigger": True,
    "call_function": True,
    "call_arguments": True,
}
"""Scores of a reply, each 0 or 1, and whether higher is better; the first one decides, and the last three
need a reference."""
ANY_OBJECT = {"type": "object"}
"""The parameters of a tool that has none of its own."""
BEGINNING = '{"tool_calls": '
"""Of the text that stands for a reply with calls."""
_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_POINTER = re.compile(r'"\$ref": "(#/[^"\\]*)"')  # to a place in the same schema
_MARK = re.compile(r"\[TOOL_CALLS\]|<\|python_tag\|>")


class Call(NamedTuple):
    """A call that can be read."""

    name: str
    arguments: Any  # a JSON value


# conversations ----------------------------------------------------------------------------------------------


def conversation(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A recorded conversation: messages, tools, tool_choice if it has one, and a reference if there is one.

    A row is a request with, perhaps, a `reference` (a message of the assistant, a list of calls, or whether
    there is to be a call), or a result of one of the verifiers, whose answer is the reference. Of a request
    that failed there is nothing to learn: None.

    Raises:
        ValueError: it has another form, or a tool has no valid JSON schema.
    """
    asked = row.get("request", row) if isinstance(row, Mapping) else row
    if not isinstance(asked, Mapping):
        raise ValueError("it is not a JSON object, or its request is none")  # noqa: TRY004 - as the others
    messages: Any = asked.get("messages")
    tools: Any = asked.get("tools") or []
    if not _objects(messages) or not messages or not all(isinstance(m.get("role"), str) for m in messages):
        raise ValueError("it lacks messages, a list of objects with a role")
    roles = {"_input": "system"}  # in files of the verifiers
    messages = [{**message, "role": roles.get(message["role"], message["role"])} for message in messages]
    _check_tools(tools)
    found = {"messages": messages, "tools": tools}
    if asked.get("tool_choice") is not None:
        found["tool_choice"] = asked["tool_choice"]
    if "response" in row:
        if (said := answer_of(row)) is None:
            return None
        found["reference"] = calls_of(said)
    elif (reference := row.get("reference", row.get("expected_tool_call"))) is not None:
        found["reference"] = calls_of(reference) if isinstance(reference, Mapping) else reference
        if not isinstance(found["reference"], bool | list):
            raise ValueError("its reference is neither a message nor a list of calls, nor true or false")
        calls = map(read_call, found["reference"] if isinstance(found["reference"], list) else ())
        offered = {tool["function"]["name"] for tool in tools}
        if not all(call is not None and call.name in offered for call in calls):
            raise ValueError("a call of its reference has no name or arguments, or is of no tool offered")
    return found


def _check_tools(tools: Any) -> None:
    functions: list[Any] = [tool.get("function") for tool in tools] if _objects(tools) else [None]
    if not _objects(functions) or not all(isinstance(function.get("name"), str) for function in functions):
        raise ValueError("its tools are not a list of objects with a function that has a name")
    if len({function["name"] for function in functions}) < len(functions):
        raise ValueError("two of its tools have the same name")
    for function in functions:
        try:
            _validator(json.dumps(function.get("parameters")), check=True)
        except (jsonschema.SchemaError, TypeError, Unresolvable) as error:
            why = f"nothing is at {error.ref}" if isinstance(error, Unresolvable) else error.args[0]
            raise ValueError(f"{function['name']} has no valid JSON schema: {why}") from None


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def answer_of(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The message that answered the request in a result of a verifier; None if there is none."""
    try:
        message = row["response"]["choices"][0]["message"]
    except (LookupError, TypeError):
        return None
    return message if isinstance(message, Mapping) and row.get("status", "success") == "success" else None


def for_template(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: arguments of earlier calls are objects, no text is null."""
    shown = []
    for message in messages:
        said = {**message, "content": message.get("content") or ""}
        if calls := message.get("tool_calls"):
            read = [(call, read_call(call)) for call in calls]
            said["tool_calls"] = [{**c, "function": r._asdict()} if r else c for c, r in read]
        shown.append(said)
    return shown


def for_anthropic(messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request with tools in the form of Anthropic's Messages API; none without tools.

    Raises:
        ValueError, LookupError, AttributeError: an earlier call, or its result, has no such form.
    """
    if "tools" not in settings:
        return {}
    turns = []
    for message in messages[messages[0]["role"] == "system" :]:  # whose words lm-eval sends apart
        role, said = message["role"], message.get("content") or []
        if role == "tool":
            role, said = (
                "user",
                [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": said}],
            )
        blocks = [{"type": "text", "text": said}] if isinstance(said, str) else list(said)
        for call in calls_of(message):
            if (read := read_call(call)) is None:
                raise ValueError("an earlier call of the conversation cannot be read")
            blocks.append({"type": "tool_use", "id": call["id"], "name": read.name, "input": read.arguments})
        turns.append({"role": role, "content": blocks})
    fields: dict[str, Any] = {"messages": turns, "tools": []}
    for tool in settings["tools"]:
        own = dict(tool["function"])
        schema = own.pop("parameters", None) or ANY_OBJECT
        fields["tools"].append(
            {k: own[k] for k in ("name", "description") if k in own} | {"input_schema": schema}
        )
    if isinstance(choice := settings.get("tool_choice"), str):
        fields["tool_choice"] = {"type": {"required": "any"}.get(choice, choice)}
    elif choice:
        fields["tool_choice"] = {"type": "tool", "name": choice["function"]["name"]}
    return fields


# replies ----------------------------------------------------------------------------------------------------


def calls_of(message: Mapping[str, Any]) -> list[Any]:
    """The calls of a message in OpenAI's form, whatever they look like; none if nothing is there."""
    calls = message.get("tool_calls") or message.get("function_call") or []
    return calls if isinstance(calls, list) else [calls]


def reply_text(text: str, calls: Sequence[Any]) -> str:
    """What a server replied as one text; without calls the text itself, unless that looks like one with."""
    plain = not calls and not text.startswith(BEGINNING)
    return text if plain else json.dumps({"tool_calls": calls, "content": text}, ensure_ascii=False)


def calls_in_reply(text: str) -> list[Any]:
    """The calls in what `reply_text` has made."""
    return list(json.loads(text)["tool_calls"]) if text.startswith(BEGINNING) else []


def calls_in_text(text: str) -> list[Any]:
    """The calls in what a model wrote, in the form of Hermes and Qwen, of Mistral, or of Llama 3.

    What is marked as a call and is no JSON counts as one that cannot be read (None).
    """
    if "<tool_call>" in text:
        return [_parsed_or_none(block) for block in _BLOCK.findall(text)]
    *before, last = _MARK.split(text, maxsplit=1)
    found = _parsed_or_none(last)
    calls = found if isinstance(found, list) else [found]
    alike = all(isinstance(one, dict) and {"arguments", "parameters"} & one.keys() for one in calls)
    return calls if before or alike else []


def read_call(call: Any) -> Call | None:
    """A call in OpenAI's form, or that of a model's own text; None if it cannot be read."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments", function.get("parameters"))
    if arguments is None:
        return None
    try:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return Call(function["name"], _parsed(text))
    except (ValueError, RecursionError):
        return None


def _parsed_or_none(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        return _parsed(text)


def _parsed(text: str) -> Any:
    """JSON, in which 1.0 is 1 as in JSON Schema; a ValueError or RecursionError for what is none."""

    def number(digits: str) -> float:
        value = float(digits)
        return int(value) if value.is_integer() else value

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_float=number, parse_constant=refuse)


# scores -----------------------------------------------------------------------------------------------------


def scores(doc: Mapping[str, Any], calls: Sequence[Any]) -> dict[str, float]:
    """What the calls of a reply are worth, by metric.

    A reply is correct if all of its calls are valid, and they are of the functions that the reference calls;
    where there is no reference, if there is a call. One without a call has none that is not valid. Where no
    tool is offered, none is to be called.
    """
    read = [read_call(call) for call in calls]
    known = [call for call in read if call is not None]
    offered = [tool.get("function") or {} for tool in doc["tools"]]
    functions = {function.get("name"): function.get("parameters") for function in offered}
    parsed = len(known) == len(read)
    valid = parsed and all(call.name in functions and _fits(call, functions[call.name]) for call in known)
    found = {"call_made": bool(calls), "call_parsed": parsed, "call_valid": valid}
    right = found["call_made"]
    reference = doc.get("reference", None if functions else False)
    if reference is not None:
        right = found["call_trigger"] = bool(calls) == bool(reference)
    if isinstance(reference, list):
        expected = [read_call(call) for call in reference]
        right = found["call_function"] = parsed and _names(known) == _names(expected)
        found["call_arguments"] = parsed and _sorted(known) == _sorted(expected)
    return {name: float(value) for name, value in ({"call_correct": valid and right} | found).items()}


def _names(calls: Sequence[Call | None]) -> Counter[str | None]:
    return Counter(call and call.name for call in calls)


def _sorted(calls: Sequence[Call | None]) -> list[str]:
    return sorted(json.dumps(call, sort_keys=True) for call in calls)


def _fits(call: Call, schema: Any) -> bool:
    """Whether arguments are valid; by a schema that cannot be used nothing is."""
    try:
        return bool(_validator(json.dumps(schema)).is_valid(call.arguments))
    except Exception:  # noqa: BLE001 - whatever a library makes of somebody else's schema
        return False


@lru_cache(1024)
def _validator(schema: str, check: bool = False) -> Any:
    """What validates by a JSON schema, given as its text; a tool without one takes any object.

    Nothing is fetched: a reference that leads out of the schema raises an error.
    """
    parsed = json.loads(schema)
    parsed = ANY_OBJECT if parsed is None else parsed
    stated = parsed if isinstance(parsed, dict) else {}
    kind = jsonschema.validators.validator_for(stated, default=jsonschema.Draft202012Validator)
    if check:
        kind.check_schema(parsed)
        inside = jsonschema_specifications.REGISTRY.resolver_with_root(DRAFT202012.create_resource(parsed))
        for pointer in () if '"$id"' in schema else _POINTER.findall(schema):
            inside.lookup(pointer)
    return kind(parsed, registry=jsonschema_specifications.REGISTRY)
