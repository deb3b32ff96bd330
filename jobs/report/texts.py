"""Reads prompts and answers, a few items at a time.

A block holds a range of items, and Parquet's own statistics say which, so only blocks that can hold an item
are read. Nothing but those ranges is kept in memory.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from jobs.formats.run_counts import Footers
from jobs.formats.run_files import RunFiles
from jobs.formats.run_samples import read_files
from jobs.formats.samples import Temperature, as_temperature
from jobs.report.flips import Cell

LIKELIHOODS = {"loglikelihood", "multiple_choice", "loglikelihood_rolling"}
ASKED = ("item", "prompt", "target")
SAID = ("item", "temperature", "seed", "scores", "response", "filtered", "error")

Items = NDArray[Any]


@dataclass(frozen=True)
class Asked:
    """An item: its prompt and what was expected."""

    prompt: str | None
    target: str | None


@dataclass(frozen=True)
class Said:
    """One answer: its seed, its score (None if it has none), its text, what a filter took from it."""

    seed: int | None
    score: float | None
    text: str | None
    extracted: str | None


class Texts:
    """Prompts and answers of one or several runs.

    Args:
        runs: the runs; empty where the input held scores only.
        footers: of their files, as far as they are known.
    """

    def __init__(self, runs: Sequence[RunFiles], footers: Footers | None = None) -> None:
        self._runs = runs
        self._footers = footers or Footers()

    def asked(self, task: str, items: Items) -> dict[int, Asked]:
        """Prompt and target by item."""
        rows = [row for table in self._items(task, items) for row in table.to_pylist()]
        return {row["item"]: Asked(row["prompt"], row["target"]) for row in rows}

    def said(self, cell: Cell, model: str, items: Items) -> dict[int, list[Said]]:
        """Answers of one model at the cell's temperature, by item, sorted by seed."""
        found: dict[int, dict[int, Said]] = {}
        for table in self._samples(model, cell.task, items, SAID):
            rows = table.filter(_at(table["temperature"], cell.temperature))
            for item, said in zip(rows["item"].to_pylist(), self._answers(cell, rows), strict=True):
                seed = -1 if said.seed is None else said.seed
                found.setdefault(item, {}).setdefault(seed, said)
        return {item: [by_seed[seed] for seed in sorted(by_seed)] for item, by_seed in found.items()}

    def mentioned(self, task: str, items: Items, needle: str) -> Items:
        """Those of some items whose prompt or target contains a text, ignoring case."""
        tables = self._items(task, items)
        return _hits([(table, name) for table in tables for name in ("prompt", "target")], needle)

    def said_by(self, model: str, task: str, items: Items, needle: str) -> dict[Temperature, Items]:
        """Those of some items in whose answers a model wrote a text, ignoring case, by temperature."""
        tables = self._samples(model, task, items, ("item", "temperature", "response"))
        temperatures = {t for table in tables for t in pc.unique(table["temperature"]).to_pylist()}
        return {
            as_temperature(t): _hits(
                [(table.filter(pc.equal(table["temperature"], t)), "response") for table in tables], needle
            )
            for t in temperatures
        }

    def _items(self, task: str, items: Items) -> list[pa.Table]:
        keep = ds.field("item").isin(items.tolist())
        return [run.items(task, list(ASKED)).filter(keep) for run in self._runs if task in run.tasks]

    def _samples(self, model: str, task: str, items: Items, columns: Sequence[str]) -> list[pa.Table]:
        tables = []
        for run in self._runs:
            spans = self._spans(run, model, task)
            paths = [path for path, first, last in spans if np.any((items >= first) & (items <= last))]
            files = (table for _, table in read_files(run, paths, columns) if table is not None)
            tables += [table.filter(ds.field("item").isin(items.tolist())) for table in files]
        return tables

    def _spans(self, run: RunFiles, model: str, task: str) -> list[tuple[str, int, int]]:
        """Files of a cell with their first and last item: known from an earlier read, else from footers."""
        files = run.samples(model, task)
        if run.spans.keys() >= set(files):
            return [(path, *run.spans[path]) for path in files]
        return [(f.path, f.first, f.last) for f in self._footers.of(run, model, task)]

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {
            task: str(entry.get("output_type")) for run in self._runs for task, entry in run.tasks.items()
        }

    def _answers(self, cell: Cell, rows: pa.Table) -> Iterator[Said]:
        seeds, errors, texts = (_values(rows, name) for name in ("seed", "error", "response"))
        scores = _values(rows, "scores", cell.metric)
        extracted = _values(rows, "filtered", cell.metric.partition(",")[2])
        are_likelihoods = self._kinds.get(cell.task) in LIKELIHOODS
        for seed, score, error, text, part in zip(seeds, scores, errors, texts, extracted, strict=True):
            if error is not None:
                yield Said(seed, score, f"[no answer: {error}]", None)
            elif are_likelihoods:
                yield Said(seed, score, _likelihoods(text), None)
            else:
                yield Said(seed, score, text, None if part == text else part)


def _at(temperatures: pa.ChunkedArray, wanted: Temperature) -> pa.ChunkedArray:
    """Which rows are at a temperature."""
    same = [t for t in pc.unique(temperatures).to_pylist() if as_temperature(t) == wanted]
    return pc.is_in(temperatures, pa.array(same, temperatures.type))


def _values(table: pa.Table, column: str, part: str | None = None) -> list[Any]:
    """A column, or a part of a column of structs; None in every row where there is none."""
    if column not in table.column_names:
        return [None] * table.num_rows
    if part is None:
        return list(table[column].to_pylist())
    kind = table.schema.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
        return [None] * table.num_rows
    return list(pc.struct_field(table[column], part).to_pylist())


def _hits(columns: Sequence[tuple[pa.Table, str]], needle: str) -> Items:
    """Items in whose rows a column holds a text."""
    found = [
        table.filter(pc.match_substring(table[name], needle, ignore_case=True))["item"].to_numpy()
        for table, name in columns
        if name in table.column_names
    ]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)


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
