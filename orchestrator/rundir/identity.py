"""What decides an answer, as digests: two samples share a key exactly if they mean the same.

Resume, extension and refusal all rest on these digests: the plan is a set of keys, the samples on disk are a
set of keys, and what is owed (still missing) is the difference.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EDGE_BYTES = 1 << 20
_SMALL_FILE = 16 << 20
_NONE = "(none)"


@dataclass(frozen=True, order=True)
class Rerun:
    """One pass over the items: a temperature and, where something is sampled (or repeated), a seed."""

    temperature: float
    seed: int | None = None


@dataclass(frozen=True)
class Item:
    """What decides an answer on the task's side: the document and the prompt made of it."""

    item: int
    doc_hash: str
    prompt_hash: str


def digest(meaning: object) -> str:
    """Hex digest (128 bits) of a JSON-like value; the order of mapping keys does not matter."""
    text = json.dumps(meaning, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def sample_key(cell: str, item: Item, rerun: Rerun) -> str:
    """Key of one sample, 32 hex digits; `cell` is the digest of what all of its variant and task share."""
    return next(sample_keys(cell, (item,), (rerun,)))


def sample_keys(cell: str, items: Iterable[Item], reruns: Iterable[Rerun]) -> Iterator[str]:
    """Keys of all reruns of the first item, then of the next; what an item's keys share is hashed once."""
    tails = [f"\0{rerun.temperature!r}\0{rerun.seed}".encode() for rerun in reruns]
    for item in items:
        text = f"{cell}\0{item.item}\0{item.doc_hash}\0{item.prompt_hash}"
        head = hashlib.blake2b(text.encode(), digest_size=16)
        for tail in tails:
            key = head.copy()
            key.update(tail)
            yield key.hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest of a local model folder: small files whole, weights by name, size, first and last megabyte.

    Reading hundreds of gigabytes of weights before every sweep would take too long. So a changed tensor goes
    unnoticed if size, header, first and last megabyte stay the same.
    """
    marks: list[list[int | str]] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        with path.open("rb") as stream:
            content = stream.read(size if size <= _SMALL_FILE else _EDGE_BYTES)
            if size > _SMALL_FILE:
                stream.seek(-_EDGE_BYTES, 2)
                content += stream.read()
        marks.append([str(path.relative_to(folder)), size, hashlib.blake2b(content).hexdigest()])
    return digest(marks)


def differences(old: Any, new: Any, path: Sequence[str] = ()) -> Iterator[str]:
    """Name the keys in which two nested mappings differ, as "a.b: old → new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys(), key=str):
            yield from differences(old.get(key, _NONE), new.get(key, _NONE), [*path, str(key)])
    elif digest(old) != digest(new):  # not `old != new`: 1 and True are equal there, and mean two things here
        yield f"{'.'.join(path)}: {_short(old)} → {_short(new)}"


def _short(value: object) -> str:
    text = _NONE if value == _NONE else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
