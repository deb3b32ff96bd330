"""Samples and items as rows of Parquet."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from orchestrator.engines.base import CUT, Answer, token_count
from orchestrator.errors import error_text
from orchestrator.rundir.identity import Item, Rerun, sample_key
from orchestrator.rundir.schema import ITEMS, with_scores
from orchestrator.sweep.blocks import Block
from orchestrator.sweep.tasks import Requests, Scored, SweepTask, doc_text, items_of

UNSTORABLE = (pa.ArrowException, OverflowError, TypeError, ValueError)
"""What pyarrow raises for a value that its column cannot hold."""


@dataclass(frozen=True)
class Sample:
    """One row."""

    item: Item
    rerun: Rerun
    answers: Sequence[Answer] = ()  # to all its requests; none where there is an error
    response: str | None = None  # what the model said
    scored: Scored | None = None
    error: str | None = None  # why there is no answer, or none that can be scored or stored


def samples_table(block: Block, samples: Sequence[Sample], columns: pa.Schema) -> pa.Table:
    """The samples of a block as a table; one that no row can hold is a row with an error."""
    schema = with_scores(columns, (name for one in samples if one.scored for name in one.scored.scores))

    def table(some: Sequence[Sample]) -> pa.Table:
        return pa.Table.from_pylist([_row(block.cell, sample) for sample in some], schema=schema)

    try:
        return table(samples)
    except UNSTORABLE:  # of one sample: the others are not lost with it
        tables = []
        for sample in samples:
            try:
                tables.append(table([sample]))
            except UNSTORABLE as error:
                tables.append(
                    table([Sample(sample.item, sample.rerun, error=f"storing: {error_text(error)}")])
                )
        return pa.concat_tables(tables)


def failed_block(block: Block, error: str) -> list[Sample]:
    """The samples of a block that cannot be answered, each with the reason."""
    return [Sample(item, rerun, error=error) for item in block.items for rerun in block.reruns]


def _row(cell: str, sample: Sample) -> dict[str, Any]:
    scored, answers = sample.scored, sample.answers
    ends = [answer.finish_reason for answer in answers]
    return {
        "item": sample.item.item,
        "doc_hash": sample.item.doc_hash,
        "prompt_hash": sample.item.prompt_hash,
        "temperature": sample.rerun.temperature,
        "seed": sample.rerun.seed,
        "scores": scored.scores if scored else None,
        "corpus_values": _utf8(scored.corpus_values) if scored else None,
        "response": _utf8(sample.response),
        "filtered": {name: _utf8(text) for name, text in scored.filtered.items()}
        if scored and scored.filtered
        else None,
        "finish_reason": _utf8(CUT if CUT in ends else ends[-1] if ends else None),
        "prompt_tokens": _total(answer.prompt_tokens for answer in answers),
        "output_tokens": _total(answer.output_tokens for answer in answers),
        "prompt_cut": _total(answer.prompt_cut for answer in answers),
        "error": _utf8(sample.error),
        "sample_key": sample_key(cell, sample.item, sample.rerun),
    }


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in map(token_count, counts) if count is not None]
    return token_count(sum(known)) if known else None


def _utf8(text: str | None) -> str | None:
    """Text that Parquet can hold: lone surrogates become replacement characters."""
    return None if text is None else text.encode("utf-8", "replace").decode("utf-8")


def items_table(task: SweepTask, built: Requests) -> pa.Table:
    """Documents and prompts of a task, once for all variants."""
    rows = [
        {
            "task": task.spec.task,
            "item": item.item,
            "doc_hash": item.doc_hash,
            "prompt_hash": item.prompt_hash,
            "cluster": task.cluster_of(first.doc),
            "prompt": _utf8(str(first.arguments[0])),
            "target": _utf8(task.target(first.doc)),
            "doc": _utf8(json.dumps(json.loads(doc_text(first.doc)), ensure_ascii=False)),
        }
        for item, (first, *_) in zip(items_of(built), built.values(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)
