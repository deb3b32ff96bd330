"""JSON and JSON Lines of unknown origin: every error in them is one sentence that names the place."""

import fnmatch
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from io import TextIOWrapper
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from orchestrator.errors import UserError
from orchestrator.input_files import (
    LARGEST_JSON,
    LARGEST_YAML,
    json_problem,
    open_input,
    read_input,
    read_json,
)

DECODER = json.JSONDecoder()
HEAD = 1 << 16
AT_ONCE = 1 << 20
BLANK = object()
NOTHING: Mapping[str, type] = MappingProxyType({})
SPACE = " \t\n\r"
LONGEST_TOKEN = 16  # characters of a token that can be cut, but for texts and numbers
MOST_FILES = 200_000  # in a folder that is searched for results


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises UserError if it cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object.")
    return content


def read_yaml(path: Path) -> Any:
    """Read a YAML file that a person wrote.

    Raises UserError if it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(read_input(path, LARGEST_YAML))
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error


def read_lines(
    path: Path, what: str = "a JSON object", needed: Mapping[str, type | tuple[type, ...]] = NOTHING
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line of JSON Lines and the object in it; empty lines are passed over.

    Raises UserError if a line is not an object, is longer than any sample could be, or is not `what` is read:
    it lacks what is `needed`, a value of some type under each of some keys.
    """
    checks = [*needed.items()]
    for number, row in parsed_lines(path):
        if not isinstance(row, dict):
            raise UserError(f"Line {number} of {path} is not a JSON object.")
        for name, kind in checks:
            if name not in row or not isinstance(row[name], kind):
                raise UserError(f"Line {number} of {path} is not {what}: it lacks {' or '.join(needed)}.")
        yield number, row


def parsed_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The number of each line and the value in it; only a line feed ends a line, empty ones are passed over.

    Raises UserError if a line is not valid JSON, or is beyond the limits.
    """
    number = 1
    for block in _blocks(path):
        if problem := json_problem(block):
            raise UserError(f"Line {number} of {path} {problem}.")
        for content in _values(block, path, number):
            if content is not BLANK:
                yield number, content
            number += 1


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, about a megabyte at a time; of a line that is too long only the beginning."""
    held = bytearray()
    with open_input(path) as file:
        while len(held) <= LARGEST_JSON and (chunk := file.read(AT_ONCE)):
            end = chunk.rfind(b"\n") + 1
            if end:
                held += chunk[:end]
                yield bytes(held)
                held.clear()
            held += chunk[end:]
    if held:
        yield bytes(held)


def _values(block: bytes, path: Path, number: int) -> Iterator[Any]:
    """The value in each line of a block, BLANK for an empty line.

    Decoding the block at once and each value where it begins takes less time than json.loads of each line.
    What that does not understand is left to json.loads: an empty line, leading space, a mistake to be named.
    """
    done = at = 0
    try:
        text = block.decode()
        while at < len(text):
            end = text.find("\n", at) + 1 or len(text)
            content, found = DECODER.raw_decode(text, at)
            if found > end or text[found:end].strip():
                break
            yield content
            at, done = end, done + 1
        else:
            return
    except (ValueError, RecursionError):
        pass
    for at, line in enumerate(block.removesuffix(b"\n").split(b"\n")[done:], number + done):
        try:
            yield json.loads(line) if line.strip() else BLANK
        except (ValueError, RecursionError) as error:
            raise UserError(f"Line {at} of {path} is not valid JSON: {error}.") from error


def head_of(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with open_input(path) as file:
            return file.read(size)
    except OSError:
        return b""


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Files in a folder, at any depth, whose path ends in a pattern; what cannot be listed is passed over.

    Raises UserError if the folder holds so much that it is not one of results: a home or a whole disk.
    """
    seen, ending = 0, pattern.rpartition("/")[2]
    for place, folders, files in os.walk(folder):
        seen += len(folders) + len(files)
        if seen > MOST_FILES:
            raise UserError(f"{folder} holds more than {MOST_FILES:,} files: pass the folder of the results.")
        found = (Path(place, name) for name in fnmatch.filter(files, ending))
        yield from (path for path in found if path.match(pattern))


def files_at(path: str, pattern: str) -> Iterable[Path]:
    """The file itself, or those below a folder whose path ends in a pattern."""
    given = Path(path)
    return files_below(given, pattern) if given.is_dir() else [given]


def files_with(path: str, name: str, key: bytes) -> Iterator[Path]:
    """JSON Lines files that begin with a quoted key: the file itself, or those of a name below a folder."""
    files = sorted(files_at(path, name))
    return (file for file in files if file.suffix == ".jsonl" and key in head_of(file, HEAD))


def as_text(value: object) -> str | None:
    """A value as a text column holds it: text as it is, anything else as JSON; lone surrogates replaced."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def text_hash(text: str | None) -> str | None:
    """Hash of a prompt or a document (128 bits, hexadecimal), for formats that have none of their own."""
    return None if text is None else blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def single(values: object) -> object:
    """What is nested in lists of one; several values stay a list."""
    while isinstance(values, list) and len(values) == 1:
        values = values[0]
    return values


class JsonObject:
    """A file that holds one JSON object, whose keys it iterates over, or one list, which `items` reads.

    All methods raise UserError if it is not valid JSON, or one value is beyond the limits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = TextIOWrapper(open_input(path), "utf-8-sig", "surrogatepass", newline="")
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0

    def __enter__(self) -> "JsonObject":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        """The keys; after each one `value` or `items` must be read before the next one is asked for."""
        self._expect("{")
        for mark in self._parts("}"):
            key = self.value()
            if not isinstance(key, str):
                raise self._broken(f"{mark!r} where a key was expected")
            self._expect(":")
            yield key

    def value(self) -> Any:
        """The value that the JSON text goes on with."""
        self._peek()
        while True:
            if problem := json_problem(self._text):
                raise UserError(f"A value in {self._path} {problem}.")
            try:
                found, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                may_be_cut = isinstance(error, json.JSONDecodeError) and (
                    error.msg.startswith("Unterminated") or error.pos + LONGEST_TOKEN > len(self._text)
                )
                if not may_be_cut or not self._read_more():
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
        for _ in self._parts("]"):
            yield self.value()
        self._expect("]")

    def items_of(self, key: str) -> Iterator[Any]:
        """The items of the list under a key; what is under other keys is passed over."""
        for name in self:
            if name == key:
                yield from self.items()
            else:
                self.value()

    def _parts(self, end: str) -> Iterator[str]:
        """The first character of each of the parts that commas separate; it is to be read then."""
        is_first = True
        while (mark := self._peek()) != end:
            if not is_first:
                self._expect(",")
            yield mark
            is_first = False

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
        if (there := self._peek()) != mark:
            raise self._broken(f"{there or 'the end'!r} where {mark!r} was expected")
        self._at += 1

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
