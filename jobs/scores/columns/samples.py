"""Rows as samples: the values of every named column, checked."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.formats.columns import Columns
from jobs.formats.metrics import as_number
from jobs.formats.samples import Query, SampleBatch, TaskFacts, prompt_hash, score_column
from jobs.formats.write_run import as_text
from jobs.scores.columns.rows import ABSENT, Rows
from jobs.scores.samples.names import DEFAULT_TASK
from orchestrator.errors import UserError
from stats.arrays import Ints

LARGEST_SEED = 2**31 - 1
Values = list[Any]
Group = tuple[str | None, str]
"""Model and task."""


@dataclass(frozen=True)
class Kinds:
    """Values that a column may have.

    Attributes:
        described: in words.
        types: of which all values will do.
        takes: whether another value will do.
    """

    described: str
    types: frozenset[type]
    takes: Callable[[object], bool] = lambda _: False


NAMES = Kinds("a number or a text", frozenset({str, int}))
NUMBERS = Kinds(
    "a number",
    frozenset({float, int, bool, type(None)}),
    lambda value: value is not ABSENT and as_number(value) is not None,
)


class ColumnReader:
    """Turns the rows of one file into batches, and remembers what only the whole file tells.

    Args:
        columns: what the user named.
        query: what is wanted.
        model: the model's name where no column has it.
    """

    def __init__(self, columns: Columns, query: Query, model: str | None) -> None:
        self._paths, self._metric = columns.paths, columns.metric
        self._query, self._model = query, model
        self._found: set[str] = set()
        self._filtered: set[str] = set()
        self._first: Rows | None = None
        self._reruns: dict[Hashable, int] = {}
        self._answered: dict[Group, set[Hashable]] = {}
        self._counts: dict[tuple[Group, Hashable], int] = {}
        self._repeated: str | None = None

    def batches(self, rows: Rows) -> Iterator[SampleBatch]:
        """The samples in some rows, by model and task.

        Raises:
            UserError: if a row lacks a value that it needs, or has one that cannot be used.
        """
        rows = self._selected(rows)
        if not rows.content:
            return
        variants, tasks = self._names(rows, "variant"), self._names(rows, "task")
        if variants is None and tasks is None:
            yield self._batch(rows, self._model, DEFAULT_TASK)
            return
        groups: dict[Group, list[int]] = {}
        for i in range(len(rows.content)):
            key = (variants[i] if variants else self._model, tasks[i] if tasks else DEFAULT_TASK)
            groups.setdefault(key, []).append(i)
        for group, chosen in groups.items():
            yield self._batch(rows if len(groups) == 1 else rows.take(chosen), *group)

    def finish(self, file: Path) -> None:
        """Check what only the whole file tells.

        Args:
            file: the file, for the error.

        Raises:
            UserError: if no row has a column that was named, or few items occur more than once.
        """
        if self._first is None:
            raise UserError(f"{file} contains no rows.")
        for path in self._query.where:
            if path not in self._filtered:
                raise UserError(f"--where {path}: {file} has no such column{self._first.hint(path)}")
        for role, path in self._paths.items() if self._found else ():
            if role not in self._found and role != "error" and self._wants(role):
                raise UserError(f"No row of {file} has {path} ({role}){self._first.hint(path)}")
        if 0 < len(self._counts) * 2 < sum(map(len, self._answered.values())):
            raise UserError(
                f"{self._repeated} has an item that occurred before, while most occur once: remove it, or "
                "name the column that distinguishes answers to one item with rerun=COLUMN."
            )

    def _wants(self, role: str) -> bool:
        if role == "target":
            return self._query.documents
        return role != "response" or self._query.needs_responses

    def _selected(self, rows: Rows) -> Rows:
        """The rows that --where keeps."""
        self._first = self._first or rows.take([0])
        for path, wanted in self._query.where.items():
            values = rows.values(path)
            if any(value is not ABSENT for value in values):
                self._filtered.add(path)
            rows = rows.take([i for i, value in enumerate(values) if as_text(value) == wanted])
        return rows

    def _batch(self, rows: Rows, model: str | None, task: str) -> SampleBatch:
        errors, prompts = self._errors(rows), self._texts(rows, "prompt")
        items, temperatures = self._checked(rows, "item", NAMES) or [], self._temperatures(rows)
        return SampleBatch(
            task=TaskFacts(task, output_type="generate_until"),
            model=model,
            items=items,
            scores={self._metric: score_column(self._scores(rows, errors))[0]},
            temperature=None if temperatures is None else np.array(temperatures, dtype=np.float32),
            reruns=self._reruns_of(rows, (model, task), items, temperatures),
            prompt_hashes=None if prompts is None else [prompt_hash(text, self._query) for text in prompts],
            clusters=self._clusters(rows),
            prompts=prompts if self._query.needs_prompts else None,
            responses=self._texts(rows, "response"),
            targets=self._texts(rows, "target"),
            errors=errors,
        )

    def _values(self, rows: Rows, role: str) -> Values | None:
        """What the rows have in the column of a role; None where it is not named or not wanted."""
        if role not in self._paths or not self._wants(role):
            return None
        values = rows.values(self._paths[role])
        if role not in self._found and any(value is not ABSENT for value in values):
            self._found.add(role)
        return values

    def _checked(self, rows: Rows, role: str, kinds: Kinds) -> Values | None:
        """The same, of rows that must have a value of a certain kind.

        Raises:
            UserError: naming the first row without one.
        """
        values = self._values(rows, role)
        if values is not None:
            self._refuse_others(rows, role, values, kinds)
        return values

    def _refuse_others(self, rows: Rows, role: str, values: Values, kinds: Kinds) -> None:
        if set(map(type, values)) <= kinds.types:
            return
        for i, value in enumerate(values):
            if type(value) in kinds.types or kinds.takes(value):
                continue
            path = self._paths[role]
            if value is ABSENT:
                raise UserError(f"{rows.name(i)} has no {path} ({role}){rows.hint(path, i)}")
            raise UserError(f"{rows.name(i)}: {path} ({role}) is {str(value)[:80]!r}, not {kinds.described}.")

    def _texts(self, rows: Rows, role: str) -> list[str | None] | None:
        """Texts as they are, other values as JSON; None where a row has none."""
        values = self._values(rows, role)
        if values is None:
            return None
        return [value if type(value) is str else _text(value) for value in values]

    def _errors(self, rows: Rows) -> list[str | None] | None:
        values = self._values(rows, "error")
        return None if values is None else [_text(value) if value else None for value in values]

    def _names(self, rows: Rows, role: str) -> list[str] | None:
        """Names of models or tasks."""
        values = self._checked(rows, role, NAMES)
        return None if values is None else list(map(str, values))

    def _scores(self, rows: Rows, errors: Sequence[str | None] | None) -> Values:
        values = self._values(rows, "score") or []
        if errors is not None:
            values = [None if error else value for value, error in zip(values, errors, strict=True)]
        self._refuse_others(rows, "score", values, NUMBERS)
        return values

    def _temperatures(self, rows: Rows) -> list[float | None] | None:
        values = self._values(rows, "temperature")
        if values is None:
            return None
        known = [None if value is ABSENT else value for value in values]
        self._refuse_others(rows, "temperature", known, NUMBERS)
        return list(map(as_number, known))

    def _clusters(self, rows: Rows) -> list[str | None] | None:
        if self._query.cluster is None:
            return None
        return [_text(value) for value in rows.values(self._query.cluster)]

    def _reruns_of(
        self, rows: Rows, group: Group, items: Sequence[Hashable], temperatures: Sequence[object] | None
    ) -> Ints:
        """A number per row that distinguishes the answers to an item."""
        values = self._checked(rows, "rerun", NAMES)
        if values is not None:
            return np.array(list(map(self._rerun, values)), dtype=np.int64)
        keys = list(zip(items, temperatures, strict=True)) if temperatures else items
        answered = self._answered.setdefault(group, set())
        before = len(answered)
        if answered.isdisjoint(keys):
            answered.update(keys)
            if len(answered) == before + len(keys):
                return np.zeros(len(keys), dtype=np.int64)
            answered.difference_update(keys)
        numbers = []
        for i, key in enumerate(keys):
            count = self._counts.get((group, key), 0) + 1 if key in answered else 0
            if count:
                self._counts[group, key] = count
                self._repeated = self._repeated or rows.name(i)
            answered.add(key)
            numbers.append(count)
        return np.array(numbers, dtype=np.int64)

    def _rerun(self, value: str | int) -> int:
        """A seed or an epoch as it is, also if written as text; other labels by order of appearance."""
        text = str(value)
        if text.isdecimal() and int(text) <= LARGEST_SEED:
            return int(text)
        return self._reruns.setdefault(text, LARGEST_SEED - len(self._reruns))


def _text(value: object) -> str | None:
    return None if value is ABSENT else as_text(value)
