"""JSON and JSON Lines of unknown origin: every error in them is one sentence that names the place."""

import fnmatch
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.input_files import LARGEST_JSON, json_problem, open_input, read_json

DECODER = json.JSONDecoder()
HEAD = 1 << 16
AT_ONCE = 1 << 20
BLANK = object()
MOST_FILES = 200_000
"""In a folder that is searched for results."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        UserError: if it cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object.")
    return content


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read JSON Lines: the number of each line and the object in it; empty lines are passed over.

    Raises:
        UserError: if a line is not a JSON object, or is longer than any sample could be.
    """
    for number, content in parsed_lines(path):
        if not isinstance(content, dict):
            raise UserError(f"Line {number} of {path} is not a JSON object.")
        yield number, content


def parsed_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The number of each line and the value in it; only a line feed ends a line, empty ones are passed over.

    Raises:
        UserError: if a line is not valid JSON, or is beyond the limits.
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
    for offset, line in enumerate(block.removesuffix(b"\n").split(b"\n")[done:]):
        yield _parsed(line, path, number + done + offset)


def _parsed(line: bytes, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        if not line.strip():
            return BLANK
        raise UserError(f"Line {number} of {path} is not valid JSON: {error}.") from error


def head_of(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with open_input(path) as file:
            return file.read(size)
    except OSError:
        return b""


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Files in a folder, at any depth, whose path ends in a pattern; what cannot be listed is passed over.

    Raises:
        UserError: the folder holds so much that it is not one of results: a home or a whole disk.
    """
    seen, ending = 0, pattern.rpartition("/")[2]
    for place, folders, files in os.walk(folder):
        seen += len(folders) + len(files)
        if seen > MOST_FILES:
            raise UserError(f"{folder} holds more than {MOST_FILES:,} files: pass the folder of the results.")
        found = (Path(place, name) for name in fnmatch.filter(files, ending))
        yield from (path for path in found if path.match(pattern))


def files_with(path: Path, name: str, key: bytes) -> Iterator[Path]:
    """JSON Lines files with a key near their beginning: the file itself, or those of a name below a folder.

    Args:
        path: a file or a folder.
        name: what they are called below a folder.
        key: with its quotation marks.
    """
    files = sorted(files_below(path, name)) if path.is_dir() else [path]
    return (file for file in files if file.suffix == ".jsonl" and key in head_of(file, HEAD))
