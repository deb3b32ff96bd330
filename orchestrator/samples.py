"""Samples as rows of Parquet: the columns every reader can rely on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.identity import sample_key
from orchestrator.tasks import doc_hash, doc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.blocks import Block
    from orchestrator.engines.base import Answer
    from orchestrator.identity import Item, Rerun
    from orchestrator.tasks import Scored, SweepTask, TaskItems


@dataclass(frozen=True)
class Sample:
    """One row: an item, a rerun, what the model said, what that scored."""

    item: Item
    rerun: Rerun
    response: str | None
    scored: Scored | None
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    error: str | None

    @classmethod
    def failed(cls, item: Item, rerun: Rerun, error: str) -> Sample:
        """A sample without an answer: no scores, and the reason."""
        return cls(item, rerun, None, None, None, None, None, error)

    @classmethod
    def answered(
        cls, item: Item, rerun: Rerun, answers: Sequence[Answer], scored: Scored, response: str
    ) -> Sample:
        """A sample with the answers to all its requests."""
        return cls(
            item,
            rerun,
            response,
            scored,
            answers[-1].finish_reason,
            _total([answer.prompt_tokens for answer in answers]),
            _total([answer.output_tokens for answer in answers]),
            None,
        )


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


@dataclass(frozen=True)
class Columns:
    """Columns of every block of a run: a score per "metric,filter", a filtered text per filter, of all tasks.

    All files of a run share them, so that a reader takes the whole folder for one table; what a task does not
    have is null in its rows.
    """

    metrics: tuple[str, ...]
    filters: tuple[str, ...]

    @classmethod
    def of(cls, tasks: Iterable[Mapping[str, Any]]) -> Columns:
        """Columns for tasks, given as entries of a manifest."""
        entries = list(tasks)
        return cls(
            tuple(sorted({metric for entry in entries for metric in entry["metrics"]})),
            tuple(sorted({name for entry in entries for name in entry["filters"]})),
        )

    @property
    def schema(self) -> pa.Schema:
        """The Parquet schema."""
        return pa.schema(
            {
                "item": pa.int32(),
                "doc_hash": pa.string(),
                "prompt_hash": pa.string(),
                "temperature": pa.float32(),
                "seed": pa.int32(),
                "scores": pa.struct({metric: pa.float64() for metric in self.metrics}),
                "response": pa.string(),
                "filtered": pa.struct({name: pa.string() for name in self.filters}),
                "finish_reason": pa.string(),
                "prompt_tokens": pa.int32(),
                "output_tokens": pa.int32(),
                "error": pa.string(),
                "sample_key": pa.string(),
            }
        )

    def table(self, block: Block, samples: Sequence[Sample]) -> pa.Table:
        """The samples of a block as a table."""
        return pa.Table.from_pylist([_row(block.cell, sample) for sample in samples], schema=self.schema)


def failed_block(block: Block, error: str) -> list[Sample]:
    """The samples of a block that cannot be answered, each with the reason."""
    return [Sample.failed(item, rerun, error) for item in block.items for rerun in block.reruns]


def _row(cell: str, sample: Sample) -> dict[str, Any]:
    filtered = sample.scored.filtered if sample.scored else None
    return {
        "item": sample.item.item,
        "doc_hash": sample.item.doc_hash,
        "prompt_hash": sample.item.prompt_hash,
        "temperature": sample.rerun.temperature,
        "seed": sample.rerun.seed,
        "scores": sample.scored.scores if sample.scored else None,
        "response": _utf8(sample.response),
        "filtered": {name: _utf8(text) for name, text in filtered.items()} if filtered else None,
        "finish_reason": sample.finish_reason,
        "prompt_tokens": sample.prompt_tokens,
        "output_tokens": sample.output_tokens,
        "error": _utf8(sample.error),
        "sample_key": sample_key(cell, sample.item, sample.rerun),
    }


def _utf8(text: str | None) -> str | None:
    """Text that Parquet can hold: lone surrogates become replacement characters."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def items_table(task: SweepTask, built: TaskItems) -> pa.Table:
    """Documents and prompts of a task, once for all variants."""
    rows = []
    for item, requests in built.requests.items():
        doc = requests[0].doc
        prompt = str(requests[0].arguments[0])
        rows.append(
            {
                "task": task.spec.name,
                "item": item,
                "doc_hash": doc_hash(doc),
                "prompt_hash": built.prompt_hash(item),
                "cluster": task.cluster_of(doc),
                "prompt": _utf8(prompt),
                "target": _utf8(task.target(doc)),
                "doc": _utf8(json.dumps(json.loads(doc_text(doc)), ensure_ascii=False)),
            }
        )
    text = ("task", "doc_hash", "prompt_hash", "cluster", "prompt", "target", "doc")
    columns = pa.schema({"task": pa.string(), "item": pa.int32(), **{name: pa.string() for name in text[1:]}})
    return pa.Table.from_pylist(rows, schema=columns)
