"""Samples and items as rows of Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.engines.base import CUT, token_count
from orchestrator.errors import error_text
from orchestrator.rundir.identity import sample_key
from orchestrator.rundir.schema import ITEMS
from orchestrator.sweep.tasks import doc_hash, doc_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engines.base import Answer
    from orchestrator.rundir.identity import Item, Rerun
    from orchestrator.rundir.schema import SampleColumns
    from orchestrator.sweep.blocks import Block
    from orchestrator.sweep.tasks import Scored, SweepTask, TaskItems

UNSTORABLE = (pa.ArrowException, OverflowError, TypeError, ValueError)
"""What pyarrow raises for a value that its column cannot hold."""


@dataclass(frozen=True)
class Sample:
    """One row: an item, a rerun, the response and its scores."""

    item: Item
    rerun: Rerun
    response: str | None
    scored: Scored | None
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    error: str | None
    prompt_cut: int | None = None

    @classmethod
    def failed(cls, item: Item, rerun: Rerun, error: str) -> Sample:
        """A sample without an answer, with the reason."""
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
            _end([answer.finish_reason for answer in answers]),
            _total([answer.prompt_tokens for answer in answers]),
            _total([answer.output_tokens for answer in answers]),
            None,
            _total([answer.prompt_cut for answer in answers]),
        )


def _end(reasons: Sequence[str | None]) -> str | None:
    """Why a sample's answers ended: by the limit of tokens if one of them did."""
    return CUT if CUT in reasons else reasons[-1]


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in map(token_count, counts) if count is not None]
    return token_count(sum(known)) if known else None


def samples_table(block: Block, samples: Sequence[Sample], columns: SampleColumns) -> pa.Table:
    """The samples of a block as a table; one that no row can hold is a row with an error."""
    rows = [_row(block.cell, sample) for sample in samples]
    schema = columns.including(name for sample in samples if sample.scored for name in sample.scored.scores)
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except UNSTORABLE:  # of one sample: the others are not lost with it
        tables = [_table_of_one(block.cell, sample, schema) for sample in samples]
        return pa.concat_tables(tables)


def _table_of_one(cell: str, sample: Sample, schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist([_row(cell, sample)], schema=schema)
    except UNSTORABLE as error:
        failed = Sample.failed(sample.item, sample.rerun, f"storing: {error_text(error)}")
        return pa.Table.from_pylist([_row(cell, failed)], schema=schema)


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
        "corpus_values": _utf8(sample.scored.corpus_values) if sample.scored else None,
        "response": _utf8(sample.response),
        "filtered": {name: _utf8(text) for name, text in filtered.items()} if filtered else None,
        "finish_reason": _utf8(sample.finish_reason),
        "prompt_tokens": sample.prompt_tokens,
        "output_tokens": sample.output_tokens,
        "prompt_cut": sample.prompt_cut,
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
    return pa.Table.from_pylist(rows, schema=ITEMS)
