"""Files that may come from anybody: opened at once, and read within limits.

A pipe is refused instead of waited for. JSON is limited by its values, too, since three characters of it can
take 64 bytes of memory.
"""

import json
import os
import stat
from errno import EFBIG, EINVAL, EISDIR
from pathlib import Path
from typing import Any, BinaryIO

from orchestrator.errors import UserError

LARGEST_JSON = 64 << 20
"""Bytes of one JSON value: a file, a line of JSON Lines, an item of a long list, an entry of an archive."""
LARGEST_YAML = 1 << 20  # bytes of a file that a person writes: some 30,000 lines, which take seconds to parse
MOST_VARIANTS, MOST_TASKS = 1_000, 10_000
"""Models and tasks of a sweep, a run or a table: each pair of them is a comparison."""
MOST_PARTS = 4_000_000
"""Values and keys in one; each takes up to 90 bytes of memory, an empty list of three characters 64."""


def open_input(path: Path) -> BinaryIO:
    """Open a file for reading, at once; an OSError if that fails, or for a folder, a pipe or a device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    raise OSError(EINVAL, "It is a pipe or a device, not a file", str(path))


def read_input(path: Path, most: int = LARGEST_JSON) -> bytes:
    """The content of a file; an OSError if it cannot be read, or is larger than `most` bytes."""
    with open_input(path) as file:
        return read_within(file, most, str(path))


def read_within(file: BinaryIO, most: int, name: str) -> bytes:
    """The rest of an open file; an OSError if it cannot be read, or is larger than `most` bytes."""
    content = bytes(file.read(most + 1))
    if len(content) > most:
        raise OSError(EFBIG, f"It is larger than {most >> 20} MiB", name)
    return content


def read_json(path: Path) -> Any:
    """Read a file that holds one JSON value; a UserError if it does not, or is beyond the limits."""
    try:
        return parse_json(read_input(path), str(path))
    except (OSError, ValueError) as error:  # ValueError: no name that a disk can hold
        raise UserError(f"{path} cannot be read: {error}.") from error


def parse_json(text: bytes, where: str) -> Any:
    """Parse JSON of unknown origin; a UserError, which calls it `where`, if it is not valid, or too large."""
    if problem := json_problem(text):
        raise UserError(f"{where} {problem}.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON: {error}.") from error


def json_problem(text: str | bytes) -> str | None:
    """Why JSON is not read, as the end of a sentence; None if it is within the limits."""
    if len(text) > LARGEST_JSON:
        return f"is larger than {LARGEST_JSON >> 20} MiB"
    return f"has more than {MOST_PARTS:,} values" if has_more_parts(text, MOST_PARTS) else None


def has_more_parts(text: str | bytes, most: int) -> bool:
    """Whether JSON has more values and keys, told before they take memory."""
    marks: Any = ",:[{" if isinstance(text, str) else b",:[{"
    return len(text) > most and sum(map(text.count, marks)) > most
