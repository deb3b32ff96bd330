"""Prompts and answers, read a few items at a time, and made safe to look at.

A block holds a range of items, which the analysis noted, so only blocks that can hold an item are read.
Nothing but those ranges is kept in memory.

A page escapes markup by itself, but terminal codes, zero-width and direction characters survive escaping and
can hide or reorder what a model said. They are shown as signs instead of being dropped, because an invisible
character can be the very difference between two answers.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from jobs.formats.run_files import RunFiles, read_files
from jobs.formats.samples import Temperature, as_temperature

LIKELIHOODS = {"loglikelihood", "multiple_choice", "loglikelihood_rolling"}
ANSWER = ("item", "temperature", "seed", "scores", "response", "filtered", "error")

Items = NDArray[Any]
Answer: TypeAlias = tuple[int | None, float | None, str | None, str | None]
"""Seed, score (None if it has none), text, and what a filter extracted from it."""


class Texts:
    """Prompts and answers of runs that have been analyzed; of none where the input held scores only."""

    def __init__(self, runs: Sequence[RunFiles]) -> None:
        self._runs = runs

    def questions(self, task: str, items: Items) -> dict[int, tuple[str | None, str | None]]:
        """Prompt and target by item."""
        rows = [row for table in self._items(task, items) for row in table.to_pylist()]
        return {row["item"]: (row["prompt"], row["target"]) for row in rows}

    def answers(
        self, model: str, task: str, temperature: Temperature, metric: str, items: Items
    ) -> dict[int, list[Answer]]:
        """Answers of one model at one temperature with their scores in a metric, by item, sorted by seed."""
        by_item: dict[int, dict[int, Answer]] = {}
        kinds = [run.tasks[task].get("output_type") for run in self._runs if task in run.tasks]
        are_likelihoods = bool(kinds) and str(kinds[-1]) in LIKELIHOODS
        for table in self._samples(model, task, items, ANSWER):
            at = [t for t in pc.unique(table["temperature"]).to_pylist() if as_temperature(t) == temperature]
            rows = table.filter(pc.is_in(table["temperature"], pa.array(at, table["temperature"].type)))
            answers = _answers(rows, metric, are_likelihoods=are_likelihoods)
            for item, answer in zip(rows["item"].to_pylist(), answers, strict=True):
                by_item.setdefault(item, {}).setdefault(-1 if answer[0] is None else answer[0], answer)
        return {item: [by_seed[seed] for seed in sorted(by_seed)] for item, by_seed in by_item.items()}

    def items_that_mention(self, task: str, items: Items, needle: str) -> Items:
        """Those of some items whose prompt or target contains a text, ignoring case."""
        return _hits(self._items(task, items), ("prompt", "target"), needle)

    def answers_that_mention(
        self, model: str, task: str, items: Items, needle: str
    ) -> dict[Temperature, Items]:
        """Those of some items in whose answers a model wrote a text, ignoring case, by temperature."""
        tables = self._samples(model, task, items, ("item", "temperature", "response"))
        hits = {}
        for t in {t for table in tables for t in pc.unique(table["temperature"]).to_pylist()}:
            rows = [table.filter(pc.equal(table["temperature"], t)) for table in tables]
            hits[as_temperature(t)] = _hits(rows, ("response",), needle)
        return hits

    def _items(self, task: str, items: Items) -> list[pa.Table]:
        keep = ds.field("item").isin(items.tolist())
        return [
            run.items(task, ["item", "prompt", "target"]).filter(keep)
            for run in self._runs
            if task in run.tasks
        ]

    def _samples(self, model: str, task: str, items: Items, columns: Sequence[str]) -> list[pa.Table]:
        """Samples of the files that may hold one of the items, as the analysis found when it read them."""
        keep, tables = ds.field("item").isin(items.tolist()), []
        for run in self._runs:
            known = [(path, *run.spans[path]) for path in run.samples(model, task) if path in run.spans]
            paths = [path for path, first, last in known if np.any((items >= first) & (items <= last))]
            read = (table for _, table in read_files(run, paths, columns) if table is not None)
            tables += [table.filter(keep) for table in read]
        return tables


def _answers(rows: pa.Table, metric: str, *, are_likelihoods: bool) -> Iterator[Answer]:
    flat = rows.flatten()
    names = ("seed", f"scores.{metric}", "error", "response", f"filtered.{metric.partition(',')[2]}")
    known, absent = set(flat.column_names), [None] * flat.num_rows
    columns = [flat[name].to_pylist() if name in known else absent for name in names]
    for seed, score, error, text, part in zip(*columns, strict=True):
        if error is not None:
            yield seed, score, f"[no answer: {error}]", None
        elif are_likelihoods:
            yield seed, score, _likelihoods(text), None
        else:
            yield seed, score, text, None if part == text else part


def _hits(tables: Sequence[pa.Table], columns: Sequence[str], needle: str) -> Items:
    """Items in whose rows one of the columns holds a text."""
    hits = [np.zeros(0, dtype=np.int64)]
    for table in tables:
        for name in set(columns) & set(table.column_names):
            rows = table.filter(pc.match_substring(table[name], needle, ignore_case=True))
            hits.append(rows["item"].to_numpy())
    return np.unique(np.concatenate(hits))


def _likelihoods(text: str | None) -> str | None:
    """Log-likelihoods, a line per choice from 0 on, the greatest marked; anything else as it is."""
    try:
        values = [float(value) for value, _ in json.loads(text or "")]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return text
    best = max(values, default=0.0)
    return "\n".join(
        f"choice {i}: {value:.4f}{'  ◀ most likely' if value == best else ''}"
        for i, value in enumerate(values)
    )


ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls, format and direction characters, invisible fillers, lone surrogates; not newline and tab."""


def visible(text: str) -> str:
    """The text with every character that is invisible or acts on its surroundings replaced by a sign."""
    return ACTING.sub(_sign, text)


def _sign(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def clip(text: str, limit: int) -> str:
    """At most about `limit` characters: a third from the start, the rest from the end, and what was cut.

    The end of a prompt is the question and the end of an answer is what is scored, so more of it is kept.
    """
    if len(text) <= limit:
        return text
    head = limit // 3
    left_out = len(text) - limit
    return f"{text[:head]}\n[… {left_out:,} characters omitted here …]\n{text[head - limit :]}"


def shown(text: str | None, limit: int) -> str | None:
    """A text ready to be shown, or None."""
    return None if text is None else visible(clip(text, limit))
