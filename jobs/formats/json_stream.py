"""One large JSON object or list, read value by value: no more of it is in memory than the value at hand."""

import json
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any

from orchestrator.errors import UserError
from orchestrator.input_files import json_problem, open_input

AT_ONCE = 1 << 20
SPACE = " \t\n\r"
LONGEST_TOKEN = 16
"""Characters of a token that can be cut, but for texts and numbers."""


class JsonObject:
    """A file that holds one JSON object, whose keys it iterates over, or one list, which `items` reads.

    Args:
        path: the file.

    Raises:
        UserError: in all methods, if it is not valid JSON, or one value is beyond the limits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = TextIOWrapper(open_input(path), "utf-8-sig", "surrogatepass", newline="")
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0

    def __enter__(self) -> "JsonObject":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        """The keys; after each one `value` or `items` must be read before the next one is asked for."""
        self._expect("{")
        is_first = True
        while (mark := self._peek()) != "}":
            if not is_first:
                self._expect(",")
            key = self.value()
            if not isinstance(key, str):
                raise self._broken(f"{mark!r} where a key was expected")
            self._expect(":")
            yield key
            is_first = False

    def value(self) -> Any:
        """The next value."""
        self._peek()
        while True:
            if problem := json_problem(self._text):
                raise UserError(f"A value in {self._path} {problem}.")
            try:
                found, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._may_be_cut(error) or not self._read_more():
                    raise self._broken(error) from error
                continue
            if end < len(self._text) or not self._read_more():  # else it could be the beginning of a number
                self._at = end
                return found

    def items(self) -> Iterator[Any]:
        """The items of a list; nothing for null."""
        if self._peek() != "[":
            if self.value() is not None:
                raise self._broken("something else where a list was expected")
            return
        self._expect("[")
        is_first = True
        while self._peek() != "]":
            if not is_first:
                self._expect(",")
            yield self.value()
            is_first = False
        self._expect("]")

    def _peek(self) -> str:
        """The next character that is not space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def _expect(self, mark: str) -> None:
        found = self._peek()
        if found != mark:
            raise self._broken(f"{found or 'the end'!r} where {mark!r} was expected")
        self._at += 1

    def _may_be_cut(self, error: Exception) -> bool:
        """Whether a value could be valid if more of it were read."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated") or error.pos + LONGEST_TOKEN > len(self._text)

    def _read_more(self) -> bool:
        """Read as much again as is not yet decoded, so that a value is not decoded in many vain attempts."""
        rest = self._text[self._at :]
        try:
            more = self._file.read(max(AT_ONCE, len(rest)))
        except ValueError as error:
            raise self._broken(error) from error
        self._text, self._at = rest + more, 0
        return bool(more)

    def _broken(self, what: object) -> UserError:
        return UserError(f"{self._path} is not valid JSON: {what}.")
