"""Fetches what was asked and what was said, for a few items at a time.

A block holds a range of items, and Parquet's own statistics say which, so only blocks that can hold an item
are read. Nothing but those ranges is kept in memory.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.analysis.run_files import RunFiles
from jobs.analysis.scores import as_temperature
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


@dataclass(frozen=True)
class _Block:
    """A sample file and the range of its items."""

    path: str
    first: int
    last: int


class Texts:
    """Prompts and answers of one or several runs.

    Args:
        runs: the runs; empty where the input held scores only.
    """

    def __init__(self, runs: Sequence[RunFiles]) -> None:
        self._runs = runs
        self._blocks: dict[tuple[str, str, str], list[_Block]] = {}

    def asked(self, task: str, items: Items) -> dict[int, Asked]:
        """Prompt and target by item."""
        rows = [row for table in self._items(task, items) for row in table.to_pylist()]
        return {row["item"]: Asked(row["prompt"], row["target"]) for row in rows}

    def said(self, cell: Cell, model: str, items: Items) -> dict[int, list[Said]]:
        """Answers of one model at the cell's temperature, by item, sorted by seed."""
        found: dict[int, dict[int, Said]] = {}
        for table in self._samples(cell, model, items, SAID):
            for row in table.to_pylist():
                if as_temperature(row["temperature"]) == cell.temperature:
                    seed = -1 if row["seed"] is None else row["seed"]
                    found.setdefault(row["item"], {}).setdefault(seed, self._answer(cell, row))
        return {item: [by_seed[seed] for seed in sorted(by_seed)] for item, by_seed in found.items()}

    def mentioning(self, cell: Cell, needle: str, items: Items) -> Items:
        """Those of some items whose prompt, target or answers hold a text, whatever its case."""
        tables = self._items(cell.task, items)
        for model in (cell.baseline, cell.variant):
            tables += self._samples(cell, model, items, ("item", "response"))
        hits = [
            _hits(table, name, needle) for table in tables for name in table.column_names if name != "item"
        ]
        return np.unique(np.concatenate(hits)) if hits else items[:0]

    def _items(self, task: str, items: Items) -> list[pa.Table]:
        keep = ds.field("item").isin(items.tolist())
        return [run.items(task, list(ASKED)).filter(keep) for run in self._runs if task in run.tasks]

    def _samples(self, cell: Cell, model: str, items: Items, columns: Sequence[str]) -> list[pa.Table]:
        tables = []
        for run in self._runs:
            blocks = self._ranges(run, model, cell.task)
            paths = [b.path for b in blocks if np.any((items >= b.first) & (items <= b.last))]
            if paths:
                tables.append(_read(run, paths, columns, items))
        return tables

    def _ranges(self, run: RunFiles, model: str, task: str) -> list[_Block]:
        key = (run.location, model, task)
        if key not in self._blocks:
            found = [_block(run, path) for path in run.samples(model, task)]
            self._blocks[key] = [block for block in found if block]
        return self._blocks[key]

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {
            task: str(entry.get("output_type")) for run in self._runs for task, entry in run.tasks.items()
        }

    def _answer(self, cell: Cell, row: dict[str, Any]) -> Said:
        score = (row.get("scores") or {}).get(cell.metric)
        if row.get("error") is not None:
            return Said(row["seed"], score, f"[no answer: {row['error']}]", None)
        text = row.get("response")
        if self._kinds.get(cell.task) in LIKELIHOODS:
            return Said(row["seed"], score, _likelihoods(text), None)
        extracted = (row.get("filtered") or {}).get(cell.metric.partition(",")[2])
        return Said(row["seed"], score, text, None if extracted == text else extracted)


def _block(run: RunFiles, path: str) -> _Block | None:
    """The range of a file; None for a torn one, everything where its writer kept no statistics."""
    try:
        footer = pq.read_metadata(path, filesystem=run.filesystem)
    except pa.ArrowInvalid:
        return None
    column = footer.schema.to_arrow_schema().get_field_index("item")
    groups = [footer.row_group(i).column(column).statistics for i in range(footer.num_row_groups)]
    if any(group is None or not group.has_min_max for group in groups):
        return _Block(path, 0, np.iinfo(np.int64).max)
    return _Block(path, min((g.min for g in groups), default=0), max((g.max for g in groups), default=-1))


def _read(run: RunFiles, paths: Sequence[str], columns: Sequence[str], items: Items) -> pa.Table:
    data = ds.dataset(list(paths), format="parquet", filesystem=run.filesystem)
    present = [name for name in columns if name in data.schema.names]
    return data.to_table(columns=present, filter=ds.field("item").isin(items.tolist()))


def _hits(table: pa.Table, column: str, needle: str) -> Items:
    matches = pc.match_substring(table.column(column), needle, ignore_case=True)
    hits: Items = table.filter(matches).column("item").to_numpy().astype(np.int64)
    return hits


def _likelihoods(text: str | None) -> str | None:
    """Log-likelihoods, a line per choice, the greatest marked; the text as it is if it is something else."""
    try:
        values = [float(value) for value, _ in json.loads(text or "")]
    except (ValueError, TypeError):
        return text
    best = max(values, default=0.0)
    return "\n".join(
        f"choice {i}: {value:.4f}{'  ◀ most likely' if value == best else ''}"
        for i, value in enumerate(values, 1)
    )
