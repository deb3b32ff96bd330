"""What a YAML file may contain: plain values that can be written as JSON, of a sensible size.

YAML has more: dates, sets, binary, anchors that contain themselves or explode when they are expanded, numbers
of any size. Whatever a sweep would be refused for later, as another error or an endless loop, is named here.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_VALUES, DEEPEST = 100_000, 32
LARGEST_NUMBER = 2**63 - 1


def unusable_values(raw: Any) -> list[str]:
    """What cannot be used in a nested value, each as "place: what"; all of it is one if it is too large."""
    problems: list[str] = []
    stack: list[tuple[str, int, Any]] = [("", 0, raw)]
    seen = 0
    while stack:
        place, depth, value = stack.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            limit = (
                f"more than {MOST_VALUES:,} values" if seen > MOST_VALUES else f"more than {DEEPEST} levels"
            )
            return [f"the file has {limit}, aliases included: write it without anchors, or make it smaller"]
        if isinstance(value, dict):
            problems += _unusable_keys(place, value)
            stack += [(_below(place, key), depth + 1, inner) for key, inner in value.items()]
        elif isinstance(value, list):
            stack += [(_below(place, number), depth + 1, inner) for number, inner in enumerate(value)]
        elif (problem := _problem(value)) is not None:
            problems.append(f"{place or 'the file'}: {problem}")
    return sorted(problems)


def _below(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _unusable_keys(place: str, value: dict[Any, Any]) -> Iterator[str]:
    for key in value:
        if not isinstance(key, str):
            kind = type(key).__name__
            yield f"{place or 'the file'}: the key {key!r} is {kind} instead of text; put it in quotes"
        elif _is_broken(key):
            yield f"{place or 'the file'}: the key {key!r} is not text that a file can hold"


def _problem(value: object) -> str | None:
    """Why a single value cannot be used; None if it can."""
    if isinstance(value, str):
        return f"{value[:50]!r} is not text that a file can hold" if _is_broken(value) else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if abs(value) <= LARGEST_NUMBER else "the number is too large (it has more than 63 bits)"
    if isinstance(value, float):
        return None if isfinite(value) else f"{value} is not a finite number"
    return f"{type(value).__name__} values cannot be used; put it in quotes to make it text"


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" or character == "\0" for character in text)
