"""Writes lldeg_tool_calls.jsonl: 200 conversations with tools, each with the calls that are right.

Five kinds, 40 of each: one call, a call with nested arguments, two calls at once, a question that needs no
tool though some are offered, and the result of an earlier call, which is to be put into words. What is to be
called stands in the request, word for word, so that there is one right call.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path(__file__).with_name("lldeg_tool_calls.jsonl")
SEED, EACH = 2026, 40
WORDS = """
Paris London Berlin Madrid Rome Vienna Oslo Lisbon Prague Warsaw Athens Dublin
-
Anna Ben Carl Dora Emma Fred Gina Hugo Ida Jack Kate Leo
-
Monday Tuesday Wednesday Thursday Friday Saturday Sunday
-
EUR USD GBP JPY CHF SEK
"""
CITIES, NAMES, DAYS, CURRENCIES = (line.split() for line in WORDS.split("-"))
QUESTIONS = """
What is the opposite of hot?|How do you spell the word necessary?|Say hello in French.|What color is the sky?
How many legs does a spider have?|Name a fruit that is yellow.|What is the past tense of go?|Thank you!
What do bees make?|Which month comes after May?|Write one sentence about the sea.|What is the plural of mouse?
How many minutes are in an hour?|What is a synonym for happy?|Name an animal that can fly.|Who are you?
What sound does a cat make?|Complete: once upon a ...|What is ice made of?|Is a tomato red or blue?
"""
SYSTEM = "You can call tools. Call one only if the request needs it; otherwise answer in words."

Conversation = dict[str, Any]


def thing(**properties: Any) -> Conversation:
    """The schema of an object that has all of its properties, and no others."""
    shape = {"properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "object", **shape}


def tool(name: str, about: str, **arguments: Any) -> Conversation:
    """A tool, all of whose arguments are required."""
    schema = thing(**arguments)
    return {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
PERSON = thing(name=TEXT, role={"enum": ["host", "guest"]})
UNITS = ["celsius", "fahrenheit"]
AMOUNT, CLOCK = {"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": r"^[0-2]\d:[0-5]\d$"}
TOOLS = {
    one["function"]["name"]: one
    for one in (
        tool("get_weather", "Weather of a city today", city=TEXT, unit={"enum": UNITS}),
        tool(
            "convert_currency", "Convert an amount of money", amount=AMOUNT,
            source={"enum": CURRENCIES}, target={"enum": CURRENCIES},
        ),
        tool("set_alarm", "Set an alarm", day={"enum": DAYS}, time=CLOCK),
        tool("find_train", "Find trains", origin=TEXT, destination=TEXT, day={"enum": DAYS}),
        tool(
            "create_meeting", "Create a meeting", title=TEXT, day={"enum": DAYS},
            minutes={**WHOLE, "minimum": 5, "maximum": 480},
            people={"type": "array", "items": PERSON, "minItems": 1, "uniqueItems": True},
        ),
        tool("send_message", "Send a message to a person", to=TEXT, text=TEXT),
    )
}  # fmt: skip


def call(name: str, **arguments: Any) -> Conversation:
    """A call in OpenAI's form."""
    return {
        "id": "call_1",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def simple(rng: random.Random) -> tuple[str, Conversation]:
    """A request, and the call that it needs."""
    city, other = rng.sample(CITIES, 2)
    day, clock = rng.choice(DAYS), f"{rng.randrange(24):02}:{rng.randrange(0, 60, 5):02}"
    source, target = rng.sample(CURRENCIES, 2)
    amount, unit = rng.randrange(10, 1000), rng.choice(UNITS)
    return rng.choice(
        [
            (f"What is the weather in {city} today, in {unit}?", call("get_weather", city=city, unit=unit)),
            (
                f"Convert {amount} {source} to {target}.",
                call("convert_currency", amount=amount, source=source, target=target),
            ),
            (f"Set an alarm for {day} at {clock}.", call("set_alarm", day=day, time=clock)),
            (
                f"Find a train from {city} to {other} on {day}.",
                call("find_train", origin=city, destination=other, day=day),
            ),
        ]
    )


def conversation(rng: random.Random, said: list[Conversation], calls: list[Conversation]) -> Conversation:
    """A line of the file: three or four tools are offered, those that are needed among them, in any order."""
    earlier = [one for message in said for one in message.get("tool_calls", [])]
    needed = dict.fromkeys(one["function"]["name"] for one in (*calls, *earlier))
    others = [name for name in TOOLS if name not in needed]
    names = [*needed, *rng.sample(others, rng.randrange(3, 5) - len(needed))]
    rng.shuffle(names)
    messages = [{"role": "system", "content": SYSTEM}, *said]
    return {"messages": messages, "tools": [TOOLS[name] for name in names], "reference": calls}


def user(text: str) -> Conversation:
    """What a user says."""
    return {"role": "user", "content": text}


def one_call(rng: random.Random) -> Conversation:
    """A request that needs one call."""
    text, needed = simple(rng)
    return conversation(rng, [user(text)], [needed])


def nested(rng: random.Random) -> Conversation:
    """A call with a list of objects."""
    host, *guests = rng.sample(NAMES, rng.randrange(2, 5))
    day, minutes = rng.choice(DAYS), rng.randrange(15, 121, 15)
    title = rng.choice(["Budget", "Planning", "Review", "Kick-off"])
    people = [{"name": host, "role": "host"}, *({"name": guest, "role": "guest"} for guest in guests)]
    text = f"Create a meeting with the title {title} on {day} of {minutes} minutes, with {host} as the host"
    text += f" and as guests, in this order, {', '.join(guests)}."
    needed = call("create_meeting", title=title, day=day, minutes=minutes, people=people)
    return conversation(rng, [user(text)], [needed])


def two_calls(rng: random.Random) -> Conversation:
    """A request that needs two calls of one tool."""
    (first, second), unit = rng.sample(CITIES, 2), rng.choice(UNITS)
    text = (
        f"What is the weather in {first} and in {second} today, both in {unit}? Call the tool for each city."
    )
    return conversation(rng, [user(text)], [call("get_weather", city=c, unit=unit) for c in (first, second)])


def no_call(rng: random.Random) -> Conversation:
    """A question that needs no tool."""
    questions = [one.strip() for line in QUESTIONS.strip().splitlines() for one in line.split("|")]
    return conversation(rng, [user(f"{rng.choice(NAMES)} asks: {rng.choice(questions)}")], [])


def after_a_call(rng: random.Random) -> Conversation:
    """The result of a call, to be put into words."""
    text, made = simple(rng)
    result = {"ok": True, "result": rng.randrange(100)}
    said = [
        user(text),
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": made["id"], "content": json.dumps(result)},
    ]
    return conversation(rng, said, [])


KINDS: dict[str, Callable[[random.Random], Conversation]] = {
    kind.__name__: kind for kind in (one_call, nested, two_calls, no_call, after_a_call)
}


def text(seed: int = SEED) -> str:
    """The file: a JSON object a line; the same seed gives the same text, and no request is there twice."""
    lines = []
    for name, kind in KINDS.items():
        rng = random.Random(f"{name}-{seed}")  # noqa: S311 - draws exercises, keeps no secret
        found: dict[str, Conversation] = {}
        while len(found) < EACH:
            made = kind(rng)
            found.setdefault(json.dumps(made["messages"]), made)
        lines += [
            {"id": f"{name}-{number}", "kind": name, **made} for number, made in enumerate(found.values())
        ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8", newline="\n")
