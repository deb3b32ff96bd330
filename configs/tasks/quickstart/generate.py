"""Writes the quickstart's items into data/, from the tables in facts/ and a seed.

The tasks are chosen for a model of 135 million parameters: each is something it half knows, because an item
that is always right or always wrong cannot show a change. The prompts are a few plain lines to be continued,
which such a model follows better than a chat. Most items are generated and need exact figures or names from
the prompt, since a damaged KV cache is felt there first.
"""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SEED = 2026
WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
-
twenty thirty forty fifty sixty seventy eighty ninety
-
Monday Tuesday Wednesday Thursday Friday Saturday Sunday
-
January February March April May June July August September October November December
-
Anna Ben Carl Dora Emma Fred Gina Hugo Ida Jack Kate Leo Mary Nick Olga Paul Rosa Sam Tina Vera
"""
ONES, TENS, DAYS, MONTHS, NAMES = (line.split() for line in WORDS.split("-"))

Item = dict[str, Any]


def spell(number: int) -> str:
    """English words for a number from 0 to 999, in the American way (no "and")."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{ONES[number % 10]}" if number % 10 else "")
    return f"{ONES[number // 100]} hundred" + (f" {spell(number % 100)}" if number % 100 else "")


def facts(name: str) -> list[dict[str, str]]:
    """The rows of a table of facts."""
    with (HERE / "facts" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def choose(question: str, right: str, wrong: list[str], rng: random.Random) -> Item:
    """A multiple-choice item whose right answer stands at a random place."""
    choices = rng.sample([right, *wrong], len(wrong) + 1)
    return {"question": question, "choices": choices, "answer": choices.index(right)}


def sums(rng: random.Random) -> list[Item]:
    """Sums of two two-digit numbers."""
    pairs = rng.sample([(a, b) for a in range(10, 100) for b in range(10, 100)], 60)
    return [{"question": f"{a} + {b} =", "answer": str(a + b)} for a, b in pairs]


def sequences(rng: random.Random) -> list[Item]:
    """The next number of an arithmetic sequence."""
    starts = rng.sample([(first, step) for first in range(1, 41) for step in range(2, 13)], 80)
    rows = [[first + step * i for i in range(5)] for first, step in starts]
    return [{"question": ", ".join(map(str, row[:4])) + ",", "answer": str(row[4])} for row in rows]


def lookup(rng: random.Random) -> list[Item]:
    """One value out of a list of ten names with values."""
    items = []
    for _ in range(100):
        names, values, asked = rng.sample(NAMES, 10), rng.sample(range(10, 100), 10), rng.randrange(10)
        listing = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
        items.append({"question": f"{listing}. {names[asked]}", "answer": str(values[asked])})
    return items


def number_words(rng: random.Random) -> list[Item]:
    """Digits for a three-digit number given in words."""
    return [{"question": f"{spell(n)} =", "answer": str(n)} for n in rng.sample(range(101, 1000), 120)]


def spelling(rng: random.Random) -> list[Item]:
    """Words for a three-digit number given in digits."""
    return [{"question": f"{n} =", "answer": spell(n)} for n in rng.sample(range(101, 1000), 80)]


def elements(_: random.Random) -> list[Item]:
    """Symbols of chemical elements."""
    return [
        {"question": f"The chemical symbol for {row['element']} is", "answer": row["symbol"]}
        for row in facts("elements")
    ]


def capitals(_: random.Random) -> list[Item]:
    """Capitals of countries."""
    return [
        {"question": f"The capital of {row['country']} is", "answer": row["capital"]}
        for row in facts("capitals")
    ]


def products(rng: random.Random) -> list[Item]:
    """Products of the multiplication table up to 12 x 19, against two of their neighbours in it."""
    items = []
    for a, b in rng.sample([(a, b) for a in range(3, 13) for b in range(6, 20)], 100):
        neighbours = sorted({a * (b - 1), a * (b + 1), (a - 1) * b, (a + 1) * b})
        wrong = [str(value) for value in rng.sample(neighbours, 2)]
        items.append(choose(f"{a} x {b} =", str(a * b), wrong, rng))
    return items


def calendar(rng: random.Random) -> list[Item]:
    """The day or month some steps after another, out of three."""
    items = []
    for unit, cycle, steps in (("day", DAYS, range(1, 6)), ("month", MONTHS, range(1, 4))):
        for start, name in enumerate(cycle):
            for step in steps:
                right = cycle[(start + step) % len(cycle)]
                wrong = rng.sample([other for other in cycle if other not in (name, right)], 2)
                question = f"{spell(step).capitalize()} {unit}{'s' * (step > 1)} after {name} comes"
                items.append(choose(question, right, wrong, rng))
    return items


TASKS: dict[str, Callable[[random.Random], list[Item]]] = {
    builder.__name__: builder
    for builder in (sums, sequences, lookup, number_words, spelling, elements, capitals, products, calendar)
}


def items(task: str, seed: int = SEED) -> list[Item]:
    """The items of one task, each with an id of its own; the same seed gives the same items."""
    rng = random.Random(f"{task}-{seed}")  # noqa: S311 - draws exercises, keeps no secret
    return [{"id": f"{task}-{number}", **item} for number, item in enumerate(TASKS[task](rng))]


def text(task: str, seed: int = SEED) -> str:
    """The data file of one task: one JSON object a line."""
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items(task, seed))


def main() -> None:
    """Write all data files."""
    for task in TASKS:
        (HERE / "data" / f"{task}.jsonl").write_text(text(task), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
